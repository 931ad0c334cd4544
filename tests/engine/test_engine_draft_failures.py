"""What goes wrong while tokens are drafted: interruptions, damaged scores, other work beside, memory of what ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from drafters import Scripted, oracle
from drafting import always, answers, engine
from engine_models import (
    generate,
    prompts,
    run_all,
)

from ostro.engine import RequestOutput, SamplingParams
from ostro.errors import BackendError


def test_an_interrupted_step_can_be_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two tokens of a draft, or while drafts are computed."""
    from ostro.engine import choosing

    requests = [(prompt, SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)) for prompt in prompts(3)]
    plain = answers(engine(speculation="off"), requests)
    core = engine(guess=oracle([p + a[0].token_ids for (p, _), a in zip(requests, plain, strict=True)]))
    calls = iter(range(10**6))

    def interrupted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if next(calls) % 5 == 4:
                raise KeyboardInterrupt
            return function(*args)

        return call

    monkeypatch.setattr(choosing.sampler, "choose", interrupted(choosing.sampler.choose))
    core._runner.forward = interrupted(core._runner.forward)  # type: ignore[method-assign]
    for i, (prompt, params) in enumerate(requests):
        core.add_request(str(i), prompt, params)
    outputs: dict[str, RequestOutput] = {}
    interruptions = 0
    while core.has_unfinished:
        try:
            outputs |= {output.request_id: output for output in core.step()}
        except KeyboardInterrupt:
            interruptions += 1
    assert interruptions > 5
    assert [outputs[str(i)].outputs for i in range(3)] == plain


def test_a_damaged_row_of_a_draft_ends_one_request() -> None:
    import numpy as np

    requests = [(prompt, SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)) for prompt in prompts(2)]
    plain = answers(engine(speculation="off"), requests)
    texts = [prompt + found[0].token_ids for (prompt, _), found in zip(requests, plain, strict=True)]
    core = engine(guess=oracle(texts), max_draft_tokens=4)
    logits = core._runner.logits

    def damaged(hidden: Any, owners: Any) -> Any:
        scores = logits(hidden).copy()
        if len(scores) == 10:
            scores[7] = np.nan  # of the second request, in the middle of its draft
        return scores

    core._runner.logits = damaged  # type: ignore[method-assign]
    for i, (prompt, params) in enumerate(requests):
        core.add_request(str(i), prompt, params)
    outputs = run_all(core)
    assert outputs["0"].outputs == plain[0]
    assert isinstance(outputs["1"].error, BackendError)
    bad = outputs["1"].outputs[0]
    assert bad.finish_reason == "abort"
    assert bad.token_ids == plain[1][0].token_ids[: len(bad.token_ids)]
    assert core.cache.pool.num_used == 0


def test_scoring_beside_drafts() -> None:
    import numpy as np

    text = prompts(1, low=38)[0]
    alone = engine(speculation="off").logits(text)
    params = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True)
    plain = generate(engine(speculation="off"), [5, 6, 7] * 3, params)
    core = engine(max_num_batched_tokens=9)
    core.add_request("beside", [5, 6, 7] * 3, params)
    for _ in range(4):
        core.step()
    assert np.array_equal(core.logits(text), alone)
    assert run_all(core)["beside"].outputs == plain.outputs


def test_drafters_forget_what_has_ended() -> None:
    core = engine(guess=always(5))
    drafter = core._speculator._drafters[0]  # type: ignore[union-attr]
    assert isinstance(drafter, Scripted)
    params = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, n=2)
    for i, prompt in enumerate(prompts(3)):
        core.add_request(str(i), prompt, params)
    for _ in range(6):
        core.step()
    assert len(drafter.known) > 0
    core.abort("1")
    run_all(core)
    assert drafter.known == set()
    assert core._speculator._acceptance == {}  # type: ignore[union-attr]
    assert core._speculator._kinds == {}  # type: ignore[union-attr]


def test_drafting_that_fails_is_given_up_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    requests = [(prompt, SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)) for prompt in prompts(3)]
    plain = answers(engine(speculation="off"), requests)
    texts = [prompt + found[0].token_ids for (prompt, _), found in zip(requests, plain, strict=True)]
    right = oracle(texts)
    calls = iter(range(10**6))

    def failing(sequence: Any, limit: int) -> list[int]:
        if next(calls) > 4:
            raise ValueError("a bug")
        return list(right(sequence, limit))

    core = engine(guess=failing)
    assert answers(core, requests) == plain
    assert not core.is_speculating
    assert [record.getMessage() for record in caplog.records] == ["Speculation failed; it is off from here on"]
