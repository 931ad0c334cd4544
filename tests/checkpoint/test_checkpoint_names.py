"""Names and row order: the tables themselves, against code written another way."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from checkpoint_forms import config_json, gguf_tensors, hf_tensors, interleave, mixtral_json, native_tensors
from hypothesis import given
from hypothesis import strategies as st

import ostro.checkpoint.names as names
from ostro.checkpoint.names import expected_tensors, from_gguf_name, from_hf_name, from_native_name, is_harmless
from ostro.checkpoint.tensors import QuantizedTensor
from ostro.config import from_hf


@given(heads=st.integers(1, 5), half=st.integers(1, 9), columns=st.integers(1, 3))
def test_half_split_undoes_interleaving(heads: int, half: int, columns: int) -> None:
    matrix = np.arange(heads * 2 * half * columns).reshape(-1, columns)
    assert np.array_equal(names.to_half_split(interleave(matrix, 2 * half), 2 * half), matrix)


def test_packed_rows_move_whole() -> None:
    blocks = np.arange(8, dtype=np.uint8).reshape(8, 1)
    packed = QuantizedTensor("Q8_0", (8, 32), blocks, lambda rows: rows.astype(np.float32))
    moved = names.to_half_split(packed, 4)
    assert isinstance(moved, QuantizedTensor)
    assert moved.shape == (8, 32)
    assert moved.blocks.ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("data", [config_json(), mixtral_json(), config_json(tie_word_embeddings=True)])
def test_expected_names_and_shapes(data: dict[str, object]) -> None:
    config = from_hf(data, source="config.json")
    tensors = hf_tensors(data)
    assert expected_tensors(config) == {name: a.shape for name, a in tensors.items()}
    assert sum(a.size for a in tensors.values()) == config.num_parameters()
    for stored, translate in (
        (tensors, from_hf_name),
        (native_tensors(tensors, 4), from_native_name),
        (native_tensors(tensors, 4, fused=True), from_native_name),
        (gguf_tensors(tensors, 4), from_gguf_name),
        (gguf_tensors(tensors, 4, fused=False), from_gguf_name),
    ):
        found = [part.name for name in stored for part in translate(name, config.num_local_experts)]
        assert sorted(found) == sorted(tensors)


@pytest.mark.parametrize(
    "name",
    [
        "vision_encoder.patch_conv.weight",
        "layers.0.attention.wq.bias",
        "layers.x.attention.wq.weight",
        "layers.0.feed_forward.experts.1.w4.weight",
        "layers.0.attention.wq.qscale_weight",
        "lm_head.weight",
    ],
)
def test_unknown_native_names(name: str) -> None:
    assert from_native_name(name, 8) == []


@pytest.mark.parametrize("name", ["blk.0.attn_q.bias", "blk.0.attn_q_norm.weight", "v.blk.0.attn_q.weight", "output"])
def test_unknown_gguf_names(name: str) -> None:
    assert from_gguf_name(name, 8) == []


def test_fused_names_hold_nothing_without_experts() -> None:
    assert from_native_name("layers.0.block_sparse_moe.w1", 0) == []
    assert from_gguf_name("blk.0.ffn_up_exps.weight", 0) == []


@pytest.mark.parametrize("name", ["model.layers.3.self_attn.rotary_emb.inv_freq", "rope.freqs", "rope_freqs.weight"])
def test_harmless_names(name: str) -> None:
    assert is_harmless(name)
    assert not is_harmless(name + "x")
    assert not is_harmless("x" + name)


def test_the_example() -> None:
    assert doctest.testmod(names).failed == 0
