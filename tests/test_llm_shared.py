"""One engine and several threads: the lock takes turns, and everybody hears of their own requests only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ostro import LLM, SamplingParams
from ostro.errors import EngineError
from ostro.llm.shared import FairLock, SharedEngine

TIMEOUT = 60
GREEDY = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)


@pytest.fixture(scope="module")
def llm(tiny_checkpoint: Callable[[str], Path]) -> LLM:
    return LLM(tiny_checkpoint("mistral-7b-v0.3"), backend="cpu", num_threads=1)


def test_whoever_waits_is_next() -> None:
    lock = FairLock()
    order: list[str] = []

    def other() -> None:
        with lock:
            order.append("other")

    thread = threading.Thread(target=other)
    with lock:
        thread.start()
        until = time.monotonic() + TIMEOUT
        while not lock._turnstile.locked() and time.monotonic() < until:
            time.sleep(0.001)
    with lock:  # at once again, as a thread that takes step after step
        order.append("again")
    thread.join(TIMEOUT)
    assert order == ["other", "again"]


def test_a_thread_that_has_it_may_take_it_again() -> None:
    lock = FairLock()
    taken = threading.Event()
    with lock:
        with lock, pytest.raises(ValueError), lock:
            raise ValueError
        thread = threading.Thread(target=lambda: (lock.__enter__(), taken.set(), lock.__exit__(None, None, None)))
        thread.start()
        assert not taken.wait(0.05)
    assert taken.wait(TIMEOUT)
    thread.join()


def test_outputs_go_to_those_who_asked(llm: LLM) -> None:
    shared: SharedEngine = llm.shared
    found: dict[str, list[Any]] = {"a": [], "b": []}
    prompts = {"a": llm.encode([1, 5, 9]), "b": llm.encode([1, 7])}
    ids = {name: shared.add(prompts[name], GREEDY, found[name].append, final_only=name == "b") for name in prompts}
    while any(shared.holds(request_id) for request_id in ids.values()):
        shared.step()
    shared.step()  # nothing is left to do
    assert {output.request_id for output in found["a"]} == {ids["a"]}
    assert len(found["a"]) > len(found["b"]) == 1
    assert found["a"][-1].outputs == llm.generate([1, 5, 9], GREEDY)[0].outputs


def test_what_is_dropped_is_told_no_more(llm: LLM) -> None:
    found: list[Any] = []
    request_id = llm.shared.add(llm.encode([1, 5]), GREEDY, found.append)
    llm.shared.step()
    told = len(found)
    llm.shared.abandon(request_id)
    llm.shared.step()
    assert len(found) == told
    assert not llm.shared.holds(request_id)
    assert llm.shared.abort(request_id) is None


@pytest.mark.parametrize("method", ["logits", "score"])
def test_others_get_their_turn_while_a_long_text_is_read(
    tiny_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    llm = LLM(tiny_checkpoint("mistral-7b-v0.3"), backend="cpu", num_threads=1, max_num_batched_tokens=16)
    lock, step, num_steps, turns = llm.shared.lock, llm.shared.engine.step, 0, []

    def other() -> None:
        with lock:
            turns.append(num_steps)

    thread = threading.Thread(target=other)

    def counting() -> Any:
        nonlocal num_steps
        num_steps += 1
        if num_steps == 1:
            thread.start()
            until = time.monotonic() + TIMEOUT
            while not lock._turnstile.locked() and time.monotonic() < until:
                time.sleep(0.001)
        return step()

    monkeypatch.setattr(llm.shared.engine, "step", counting)
    getattr(llm, method)([1, *range(3, 99)])
    thread.join(TIMEOUT)
    assert turns == [1]
    assert num_steps >= 6
    assert not llm.shared.engine.has_unfinished


def test_a_text_that_cannot_be_read_is_its_own_caller_s(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores and embeddings fail alone, beside an answer that goes on."""
    engine = llm.shared.engine
    forward = engine._runner.forward
    vector, scores = llm.embed([1, 5, 9]), llm.score([1, 5, 9]).logprobs

    def poisoned(batch: Any) -> Any:
        if 77 in batch.token_ids[batch.positions == 1]:
            raise ValueError("a bug")
        return forward(batch)

    monkeypatch.setattr(engine._runner, "forward", poisoned)
    found: list[Any] = []
    llm.shared.add(llm.encode([1, 5, 9]), GREEDY, found.append)
    for read in (llm.embed, llm.score, llm.logits):
        with pytest.raises(EngineError, match="ValueError: a bug"):
            read([1, 77, 3])
    assert (llm.embed([1, 5, 9]) == vector).all()
    assert llm.score([1, 5, 9]).logprobs == scores
    while not found or not found[-1].finished:
        llm.shared.step()
    assert found[-1].error is None
    assert not engine.has_unfinished
    assert engine.cache.pool.num_used == 0
