"""A model in service: equal answers, cancellation, the bounds of the queue, failures, and the end."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import threading
from pathlib import Path
from typing import Any

import pytest
from served import LONG, TIMEOUT, answer, blocks, greedy, load, prompts, run, serving, tokens

from ostro import LLM, SamplingParams
from ostro.engine.guided import Guided
from ostro.errors import (
    ContextLengthError,
    OverloadedError,
    RequestError,
)
from ostro.server.service import ModelService, ServiceLimits


def test_answers_are_those_of_the_same_requests_alone(llm: LLM) -> None:
    many = prompts(24)
    params = [SamplingParams(temperature=0.8, seed=i, max_tokens=1 + i, n=1 + i % 3, logprobs=2) for i in range(24)]
    expected = [llm.generate([each], p)[0] for each, p in zip(many, params, strict=True)]

    async def work() -> None:
        async with serving(llm) as service:
            found = await asyncio.gather(*(answer(service, *each) for each in zip(many, params, strict=True)))
            assert [each.outputs for each in found] == [each.outputs for each in expected]
            assert service.is_idle

    run(work())
    assert blocks(llm) == (0, 0, 0, 0)


def test_a_stream_grows_and_a_slow_reader_sees_the_newest(slow: LLM) -> None:
    async def work() -> None:
        async with serving(slow) as service, await service.submit([1, 5, 9], greedy(60)) as generation:
            assert generation.prompt_token_ids == [1, 5, 9]
            assert not generation.has_ended
            seen = [await anext(generation)]
            await asyncio.sleep(0.05)
            seen += [output async for output in generation]
        lengths = [len(output.outputs[0].token_ids) for output in seen]
        assert lengths == sorted(set(lengths))
        assert lengths[-1] == 60
        assert len(lengths) < 60  # what came while the reader slept, it saw at once
        assert [output.finished for output in seen] == [False] * (len(seen) - 1) + [True]
        for earlier, later in itertools.pairwise(seen):
            assert tokens(later)[0][: len(tokens(earlier)[0])] == tokens(earlier)[0]

    run(work())


def test_with_final_only_nothing_is_told_before_the_end(slow: LLM) -> None:
    async def work() -> None:
        async with serving(slow) as service:
            generation = await service.submit([1, 5, 9], greedy(12), final_only=True)
            assert [len(output.outputs[0].token_ids) async for output in generation] == [12]

    run(work())


@pytest.mark.parametrize(
    ("prompt", "params", "error", "param"),
    [
        ([], greedy(4), RequestError, "prompt"),
        ([1, 101], greedy(4), RequestError, "prompt"),
        ([1.5], greedy(4), RequestError, "prompt"),
        ([1] * 300, greedy(4), ContextLengthError, "prompt"),
        ([1] * 200, greedy(400), ContextLengthError, "max_tokens"),
        ([1, 2], greedy(4, logprobs=1000), RequestError, "logprobs"),
        ([1, 2], greedy(4, n=50), RequestError, "n"),
    ],
)
def test_what_is_wrong_is_said_at_once_and_takes_no_place(
    llm: LLM, prompt: Any, params: SamplingParams, error: type[RequestError], param: str
) -> None:
    async def work() -> None:
        async with serving(llm, max_queue=8) as service:
            with pytest.raises(error) as caught:
                await service.submit(prompt, params)
            assert caught.value.param == param
            assert service.is_idle

    run(work())


def test_leaving_cancels_what_runs_and_what_waits_and_neighbours_notice_nothing(slow: LLM) -> None:
    one, other = [1, 5, 9], [1, 7, 7, 8]
    expected = tokens(slow.generate([other], greedy(40))[0])

    async def work() -> None:
        async with serving(slow) as service:
            neighbour = asyncio.create_task(answer(service, other, greedy(40)))
            generations = [await service.submit(one, LONG) for _ in range(8)]  # 3 run, 5 wait
            await anext(generations[0])
            for generation in generations:
                async with generation:
                    pass
            last = [await generation.final() for generation in generations]
            assert {each.outputs[0].finish_reason for each in last} == {"abort"}
            assert tokens(await neighbour) == expected

    run(work())
    assert blocks(slow) == (0, 0, 0, 0)


def test_a_cancelled_request_is_gone_before_the_next_step(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step during which the client leaves is the last one that computes for it, while its prompt is read too."""
    engine = llm.shared.engine
    forward = engine._runner.forward
    taken, left = threading.Semaphore(0), threading.Semaphore(0)
    rows = []

    def halting(batch: Any) -> Any:
        rows.append(len(batch.token_ids))
        taken.release()
        assert left.acquire(timeout=TIMEOUT)
        return forward(batch)

    monkeypatch.setattr(engine._runner, "forward", halting)
    monkeypatch.setattr(engine.scheduler, "max_num_batched_tokens", 16)

    async def work() -> None:
        async with serving(llm) as service:
            generation = await service.submit(list(range(3, 99)), greedy(100))  # 6 chunks
            queued = await service.submit([1, 2, 3], LONG)
            await asyncio.to_thread(taken.acquire)
            generation.cancel()
            queued.cancel()
            left.release()
            assert (await generation.final()).outputs[0].token_ids == []
            assert (await queued.final()).outputs[0].finish_reason == "abort"
            assert service.is_idle

    run(work())
    assert len(rows) == 1
    assert blocks(llm) == (0, 0, 0, 0)


def test_a_generation_that_is_dropped_is_cancelled(slow: LLM) -> None:
    async def work() -> None:
        async with serving(slow) as service:
            generation = await service.submit([1, 5, 9], LONG)
            await anext(generation)
            del generation
            gc.collect()
            while not service.is_idle:
                await asyncio.sleep(0.001)
            assert len(tokens(await answer(service, [1, 2], greedy(3)))[0]) == 3

    run(work())
    assert blocks(slow) == (0, 0, 0, 0)


def test_a_task_that_is_cancelled_at_any_point_leaves_nothing(slow: LLM) -> None:
    rng = random.Random(4)

    async def client(service: ModelService) -> None:
        async with await service.submit([1, 5, 9], LONG) as generation:
            async for _ in generation:
                pass

    async def work() -> None:
        async with serving(slow) as service:
            for _ in range(40):
                task = asyncio.create_task(client(service))
                for _ in range(rng.randrange(8)):
                    await asyncio.sleep(0)
                await asyncio.sleep(rng.choice([0, 0, 0.003]))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            while not service.is_idle:
                await asyncio.sleep(0.001)

    run(work())
    assert blocks(slow) == (0, 0, 0, 0)


def test_others_do_not_wait_for_grammars_that_take_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = load(folder, max_num_seqs=4)
    goes_on = threading.Event()

    def prepare(params: SamplingParams) -> None:
        if params.guided is not None:
            goes_on.wait(TIMEOUT)
            raise RequestError("The grammar takes more than 3 s to compile.", param="response_format")

    monkeypatch.setattr(llm.shared.engine, "prepare", prepare)
    monkeypatch.setattr("ostro.engine.admission.check_params", lambda *_, **__: None)  # no tokenizer is needed here

    async def work() -> None:
        async with serving(llm) as service:
            guided = [
                asyncio.create_task(answer(service, [1, 5], greedy(4, guided=Guided(regex=f"a{{{n}}}"))))
                for n in range(1, 10)
            ]
            await asyncio.sleep(0.05)
            assert len(tokens(await answer(service, [1, 5], greedy(3)))[0]) == 3
            goes_on.set()
            for each in guided:
                with pytest.raises(RequestError, match="more than 3 s"):
                    await each

    run(work())


def test_the_queue_has_a_bound(slow: LLM) -> None:
    async def work() -> None:
        async with serving(slow, max_queue=2) as service:
            taken = [await service.submit([1, 5], LONG) for _ in range(4)]
            taken.append(await service.submit([1, 5], greedy(200, n=2)))
            with pytest.raises(OverloadedError, match="takes at most 6") as caught:
                await service.submit([1, 5], LONG)
            assert 1 <= caught.value.retry_after <= 10
            with pytest.raises(OverloadedError):
                await service.run(lambda: 1)
            taken[0].cancel()
            await taken[0].final()
            assert len(tokens(await answer(service, [1, 5], greedy(3)))[0]) == 3
            for generation in taken:
                generation.cancel()

    run(work())


@pytest.mark.parametrize("name", ["max_queue", "step_seconds"])
@pytest.mark.parametrize("value", [-1, "2", True, float("nan"), None])
def test_limits_are_checked(name: str, value: Any) -> None:
    with pytest.raises(RequestError, match=name) as caught:
        ServiceLimits(**{name: value})
    assert caught.value.param == name


def test_a_storm_of_clients_that_leave(folder: Path) -> None:
    """Random prompts and answers over a pool that is too small for them; some clients leave at any moment."""
    llm = load(folder, max_num_seqs=6, block_size=4, kv_cache_bytes=100_000, max_num_batched_tokens=48)
    rng = random.Random(7)
    shared = prompts(3, 20, 40, seed=1)
    jobs = []
    for i, tail in enumerate(prompts(120, 1, 60, seed=2)):
        prompt = [*rng.choice([[], *shared]), *tail]
        params = SamplingParams(temperature=0.9, seed=i, max_tokens=rng.randint(1, 60), n=rng.choice([1, 1, 2]))
        jobs.append((prompt, params, rng.choice([None, None, rng.random() * 0.05])))
    fresh = load(folder, enable_prefix_caching=False, speculation="off")
    expected = [tokens(fresh.generate([prompt], params)[0]) for prompt, params, _ in jobs]
    ended = []

    async def client(service: ModelService, number: int) -> None:
        prompt, params, leaves = jobs[number]
        async with await service.submit(prompt, params) as generation:
            if leaves is not None:
                await asyncio.sleep(leaves)
                return
            found = [tokens(output) async for output in generation]
        for earlier, later in itertools.pairwise(found):
            assert all(b[: len(a)] == a for a, b in zip(earlier, later, strict=True))
        assert found[-1] == expected[number]
        ended.append(number)

    async def work() -> None:
        async with serving(llm, max_queue=300) as service:
            tasks = []
            for number in range(len(jobs)):
                tasks.append(asyncio.create_task(client(service, number)))
                await asyncio.sleep(rng.random() * 0.004)
            await asyncio.gather(*tasks)

    run(work())
    assert len(ended) == sum(leaves is None for _, _, leaves in jobs)
    assert llm.shared.engine.scheduler.num_preemptions > 0
    assert blocks(llm) == (0, 0, 0, 0)
    llm.reset_prefix_cache()
    pool = llm.shared.engine.cache.pool
    assert pool.num_free == pool.num_blocks
