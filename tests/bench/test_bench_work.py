"""What a step must read and compute, counted by hand and on loaded weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_bench import tiny_mixture, tiny_shape

from ostro.bench.weights import planned_bytes, random_weights
from ostro.bench.work import Part, Work, num_bytes, work_of
from ostro.config import ModelConfig
from ostro.models.load import load_weights
from ostro.ops import get_ops

DENSE = Work(
    layers=Part(1000, 600), experts=Part(0, 0), head=Part(100, 110), embedding_bytes=50, num_experts=0,
    experts_per_token=0, kv_bytes=((8.0, None), (8.0, 10)),
)  # fmt: skip
MIXTURE = Work(
    layers=Part(1000, 600), experts=Part(8000, 4800), head=Part(100, 110), embedding_bytes=50, num_experts=8,
    experts_per_token=2, kv_bytes=((8.0, None),),
)  # fmt: skip


def test_a_dense_step() -> None:
    assert DENSE.weight_bytes == 760
    assert DENSE.decode_bytes(1, 30) == 600 + 110 + 8 * 30 + 8 * 10  # the second layer looks back 10 tokens
    assert DENSE.decode_bytes(4, 30) == 600 + 110 + 4 * (8 * 30 + 8 * 10)
    assert DENSE.prefill_operations(7) == 2 * (7 * 1000 + 100)


def test_a_mixture_reads_the_experts_that_are_chosen() -> None:
    assert MIXTURE.weight_bytes == 5560
    assert MIXTURE.decode_bytes(1, 0) == pytest.approx(600 + 4800 / 4 + 110)
    assert MIXTURE.decode_bytes(2, 0) == pytest.approx(600 + 4800 * (1 - 0.75**2) + 110)
    assert MIXTURE.prefill_operations(3) == 2 * (3 * (1000 + 2000) + 100)


@given(st.integers(1, 64), st.floats(0, 1e5))
def test_more_answers_never_read_less(batch: int, context: float) -> None:
    less, more = MIXTURE.decode_bytes(batch, context), MIXTURE.decode_bytes(batch + 1, context)
    assert less <= more <= MIXTURE.weight_bytes + (batch + 1) * 8 * context


@pytest.mark.parametrize("bits", [4, 8, 16])
@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("config", [tiny_shape(), tiny_shape(tie_word_embeddings=True), tiny_mixture()])
def test_bytes_and_parameters_of_loaded_weights(config: ModelConfig, backend: str, bits: int) -> None:
    ops = get_ops(backend)
    work = work_of(config, load_weights(ops, config, random_weights(config, bits)), 768.0)
    assert work.weight_bytes == planned_bytes(config, bits)
    assert (work.embedding_bytes == 0) is config.tie_word_embeddings
    norms = config.hidden_size * (2 * config.num_hidden_layers + 1)
    tables = 1 if config.tie_word_embeddings else 2
    parameters = work.layers.parameters + work.experts.parameters + tables * work.head.parameters + norms
    assert parameters == config.num_parameters()
    assert work.kv_bytes == ((256.0, None),) * 3
    assert (work.experts.num_bytes > 0) is bool(config.num_local_experts)


def test_num_bytes_looks_into_tuples_and_dataclasses() -> None:
    array = np.zeros(3, np.float32)
    assert num_bytes((array, [array, (array,)])) == 36
