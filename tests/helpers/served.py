"""Services over tiny random models, and what their tests ask of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from ostro import LLM, SamplingParams
from ostro.engine.outputs import RequestOutput
from ostro.server.service import ModelService, ServiceLimits

T = TypeVar("T")

TIMEOUT = 120  # seconds: nothing takes so long, and a test that hangs must say so


def greedy(max_tokens: int, **options: Any) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True, **options)


LONG = greedy(200)
"""An answer that nobody waits for to the end."""


def prompts(count: int, low: int = 2, high: int = 60, seed: int = 0, vocab: int = 101) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, vocab, size=n).tolist() for n in rng.integers(low, high, size=count)]


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, TIMEOUT))


@asynccontextmanager
async def serving(llm: LLM, grace_seconds: float = 60, **limits: Any) -> AsyncIterator[ModelService]:
    service = ModelService(llm, "tiny", ServiceLimits(**limits))
    try:
        yield service
    finally:
        await service.close(grace_seconds)


async def answer(service: ModelService, prompt: Sequence[int], params: SamplingParams, **options: Any) -> RequestOutput:
    async with await service.submit(prompt, params, **options) as generation:
        return await generation.final()


def tokens(output: RequestOutput) -> list[list[int]]:
    return [each.token_ids for each in output.outputs]


def blocks(llm: LLM) -> tuple[int, int, int, int]:
    """What the engine holds: blocks in use, places in the prefix tree beyond those of blocks, sequences."""
    engine = llm.shared.engine
    pool = engine.cache.pool
    assert pool.num_free + pool.num_cached + pool.num_used == pool.num_blocks
    return pool.num_used, len(engine.scheduler.running), len(engine.scheduler.waiting), len(engine._requests)


def load(folder: Path, **options: Any) -> LLM:
    return LLM(folder, **{"backend": "cpu", "num_threads": 1, **options})


def slowed(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> LLM:
    """The same model at a pace at which what a test does in the middle of an answer is in the middle of it."""
    forward = llm.shared.engine._runner.forward

    def slowly(batch: Any) -> Any:
        time.sleep(0.002)
        return forward(batch)

    monkeypatch.setattr(llm.shared.engine._runner, "forward", slowly)
    return llm
