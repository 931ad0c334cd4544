"""A model in service: what fails, what is used beside it, and how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from served import LONG, TIMEOUT, answer, blocks, greedy, run, serving, tokens

from ostro import LLM
from ostro.errors import BackendError, EngineError, ShuttingDownError
from ostro.server.service import ModelService, ServiceLimits


def test_an_error_is_its_own_request_s(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text whose step fails whatever stands beside it; the others are computed without it."""
    forward = llm.shared.engine._runner.forward
    expected = tokens(llm.generate([[1, 5, 9]], greedy(30))[0])

    def poisoned(batch: Any) -> Any:
        if 77 in batch.token_ids[batch.positions == 1]:
            raise ValueError("a bug")
        return forward(batch)

    async def work() -> None:
        async with serving(llm) as service:
            good = [asyncio.create_task(answer(service, [1, 5, 9], greedy(30))) for _ in range(3)]
            for error in [EngineError] * 2:
                with pytest.raises(error, match="ValueError: a bug"):
                    await answer(service, [1, 77], greedy(30))
            assert [tokens(await task) for task in good] == [expected] * 3

    monkeypatch.setattr(llm.shared.engine._runner, "forward", poisoned)
    run(work())
    assert blocks(llm) == (0, 0, 0, 0)


def test_of_several_answers_that_fail_nothing_goes_on(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    import ostro.engine.core as core

    extend = core.extend

    def failing(sequence: Any, *args: Any) -> Any:
        if sequence.index == 1 and sequence.num_output_tokens == 3:
            raise BackendError("The scores are not numbers.")
        return extend(sequence, *args)

    monkeypatch.setattr(core, "extend", failing)

    async def work() -> None:
        async with serving(llm) as service:
            with pytest.raises(BackendError, match="not numbers"):
                await answer(service, [1, 5], greedy(200, n=3))
            assert service.is_idle

    run(work())
    assert blocks(llm) == (0, 0, 0, 0)


def test_a_step_that_fails_altogether_does_not_end_the_thread(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = llm.shared.engine.scheduler.schedule
    fails = [True]

    def failing(*args: Any) -> Any:
        if fails:
            raise AssertionError("a bug of ours")
        return schedule(*args)

    monkeypatch.setattr(llm.shared.engine.scheduler, "schedule", failing)

    async def work() -> None:
        async with serving(llm) as service:
            with pytest.raises(EngineError, match="error inside the server"):
                await answer(service, [1, 5, 9], greedy(4))
            assert service.has_failed
            fails.clear()
            assert len(tokens(await answer(service, [1, 5, 9], greedy(4)))[0]) == 4
            assert not service.has_failed

    run(work())
    assert blocks(llm) == (0, 0, 0, 0)


def test_other_threads_use_the_model_meanwhile(slow: LLM) -> None:
    """Its own methods are not kept waiting by the service, and no output goes to the wrong one."""
    expected = tokens(slow.generate([[1, 5, 9]], greedy(60))[0])
    scores = slow.score([1, 5, 9, 11]).logprobs

    async def work() -> None:
        async with serving(slow) as service:
            served = [asyncio.create_task(answer(service, [1, 5, 9], greedy(60))) for _ in range(3)]
            beside = asyncio.create_task(service.run(lambda: tokens(slow.generate([[1, 5, 9]], greedy(60))[0])))
            assert (await service.run(lambda: slow.score([1, 5, 9, 11]))).logprobs == scores
            assert not served[0].done()
            assert [tokens(await task) for task in served] == [expected] * 3
            assert await beside == expected

    run(work())
    assert blocks(slow) == (0, 0, 0, 0)


def test_closing_lets_end_what_ends_in_time(slow: LLM) -> None:
    async def work() -> None:
        service = ModelService(slow, "tiny", ServiceLimits())
        generations = [await service.submit([1, 5, 9], greedy(20)) for _ in range(6)]
        closing = asyncio.create_task(service.close(TIMEOUT))
        await asyncio.sleep(0)
        with pytest.raises(ShuttingDownError, match="takes no more requests"):
            await service.submit([1, 5, 9], greedy(20))
        assert [len(tokens(await generation.final())[0]) for generation in generations] == [20] * 6
        await closing
        assert not service.is_alive
        with pytest.raises(ShuttingDownError):
            await service.run(lambda: 1)
        await service.close()  # once more does no harm

    run(work())


def test_closing_gives_up_the_rest(slow: LLM) -> None:
    async def work() -> None:
        service = ModelService(slow, "tiny", ServiceLimits())
        generations = [await service.submit([1, 5, 9], LONG) for _ in range(6)]
        await anext(generations[0])
        await service.close(0.01)
        for generation in generations:
            with pytest.raises(ShuttingDownError, match="had not ended in time"):
                await generation.final()

    run(work())
    assert blocks(slow) == (0, 0, 0, 0)


def test_a_loop_that_is_closed_cancels_its_requests(slow: LLM) -> None:
    service = ModelService(slow, "tiny", ServiceLimits())
    kept = []

    async def leave() -> None:
        kept.append(await service.submit([1, 5, 9], LONG))

    async def end() -> None:
        while not service.is_idle:
            await asyncio.sleep(0.001)
        await service.close()

    run(leave())
    run(end())
    assert blocks(slow) == (0, 0, 0, 0)
