"""Pooled hidden states: what they are, and that company, chunks and preemption do not change a bit of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dense import dense_hidden
from engine_models import GREEDY, RowwiseOps, generate, make_core, prompts, tiny_config, tiny_weights

from ostro.engine import EngineCore
from ostro.engine.pooling import Embedding, Pooling
from ostro.errors import ContextLengthError, RequestError
from ostro.ops import BACKENDS, get_ops


def finish(core: EngineCore, *embeddings: Embedding) -> list[np.ndarray]:
    while not all(each.is_done for each in embeddings):
        assert core.has_unfinished
        core.step()
    return [each.vector for each in embeddings]


def embed(core: EngineCore, texts: list[list[int]], pooling: Pooling = "mean") -> list[np.ndarray]:
    return finish(core, *(core.start_embedding(text, pooling) for text in texts))


@pytest.mark.parametrize("backend", ["rowwise", *BACKENDS])
@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_the_pool_of_the_final_normed_states(pooling: Pooling, window: int | None, backend: str) -> None:
    config = tiny_config(window)
    ops = RowwiseOps() if backend == "rowwise" else get_ops(backend)
    text = prompts(1, low=30)[0]
    hidden = dense_hidden(ops, config, tiny_weights(config, ops), text)
    expected = hidden.mean(axis=0) if pooling == "mean" else hidden[-1]
    (ours,) = embed(make_core(config, ops=ops), [text], pooling)
    assert ours.dtype == np.float32
    assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize(
    "sizes",
    [{"max_num_batched_tokens": 1}, {"max_num_batched_tokens": 7}, {"max_num_seqs": 2}, {"num_blocks": 24}],
    ids=str,
)
def test_the_same_bits_alone_batched_and_in_chunks(pooling: Pooling, sizes: dict[str, int]) -> None:
    texts = prompts(6, low=5)
    alone = [embed(make_core(), [text], pooling)[0] for text in texts]
    core = make_core(**sizes)
    together = embed(core, texts, pooling)
    assert [a.tobytes() for a in alone] == [b.tobytes() for b in together]
    assert not core.has_unfinished
    assert core.cache.pool.num_available == core.cache.pool.num_blocks


def test_beside_requests_that_preempt_it() -> None:
    """The pool holds little more than one of them, so the youngest begins again."""
    texts = prompts(3, low=20)
    alone = [embed(make_core(), [text])[0] for text in texts]
    asked, params = prompts(4, low=12, high=14), replace(GREEDY, max_tokens=50)
    expected = [generate(make_core(), prompt, params).outputs[0].token_ids for prompt in asked]
    core = make_core(num_blocks=24, max_num_batched_tokens=5)
    for index, prompt in enumerate(asked):
        core.add_request(str(index), prompt, params)
    running = [core.start_embedding(text) for text in texts]
    answers: dict[str, Any] = {}
    while core.has_unfinished:
        answers |= {output.request_id: output for output in core.step() if output.finished}
    assert core.scheduler.num_preemptions > 0
    assert [each.vector.tobytes() for each in running] == [vector.tobytes() for vector in alone]
    assert [answers[str(i)].outputs[0].token_ids for i in range(4)] == expected


def test_one_that_is_cancelled_leaves_nothing() -> None:
    core = make_core(max_num_batched_tokens=4)
    first, second = (core.start_embedding(text) for text in prompts(2, low=20))
    core.step()
    core.cancel(first)
    core.cancel(first)
    assert finish(core, second)[0].tobytes() == embed(make_core(), [prompts(2, low=20)[1]])[0].tobytes()
    assert not first.is_done
    assert not core.has_unfinished


def test_what_is_refused() -> None:
    core = make_core()
    with pytest.raises(RequestError, match="pooling must be one of mean, last, not 'cls'"):
        core.start_embedding([1, 2], "cls")  # type: ignore[arg-type]
    with pytest.raises(ContextLengthError):
        core.start_embedding([1] * 97)
    with pytest.raises(RequestError, match="empty"):
        core.start_embedding([])
    with pytest.raises(RequestError, match="token id 61"):
        core.start_embedding([61])
    assert not core.has_unfinished
