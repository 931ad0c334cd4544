"""The whole engine on tiny models: whatever else runs, the same request gives the same tokens and the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dense import dense_logits
from engine_models import EOS, VOCAB, RowwiseOps, generate, make_core, prompts, run_all, tiny_config, tiny_weights

from ostro.engine import SamplingParams
from ostro.errors import BackendError, ContextLengthError, RequestError
from ostro.ops import BACKENDS, get_ops, native_error

GREEDY = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)
DRAWN = SamplingParams(
    temperature=0.9, top_p=0.9, top_k=30, seed=3, max_tokens=16, ignore_eos=True, repetition_penalty=1.2, logprobs=2
)
WINDOWS = [None, 1, 6]


def alone(prompt: list[int], params: SamplingParams, window: int | None = None) -> Any:
    return generate(make_core(tiny_config(window), enable_prefix_caching=False), prompt, params).outputs[0]


def same(left: Any, right: Any) -> bool:
    """Equal tokens, and equal log-probabilities to the last bit."""
    return (left.token_ids, left.logprobs) == (right.token_ids, right.logprobs)


@pytest.mark.parametrize("window", [None, 6])
def test_greedy_tokens_are_those_of_the_whole_text_computed_at_once(window: int | None) -> None:
    config = tiny_config(window)
    prompt = prompts(1, low=20)[0]
    text = list(prompt)
    for _ in range(16):
        text.append(int(dense_logits(RowwiseOps(), config, tiny_weights(config), text)[-1].argmax()))
    assert alone(prompt, GREEDY, window).token_ids == text[len(prompt) :]


@pytest.mark.parametrize("backend", ["rowwise", *BACKENDS])
@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("budget", [1, 5, 512])
def test_logits_equal_those_of_the_whole_text(window: int | None, budget: int, backend: str) -> None:
    config = tiny_config(window)
    if backend == "cpu" and native_error() is not None:
        pytest.skip("the C++ kernels were not built")
    ops = RowwiseOps() if backend == "rowwise" else get_ops(backend)
    prompt = prompts(1, low=30)[0]
    core = make_core(config, ops=ops, max_num_batched_tokens=budget, num_blocks=24)
    ours, expected = core.logits(prompt), dense_logits(ops, config, tiny_weights(config, ops), prompt)
    assert ours.shape == (len(prompt), VOCAB)
    if backend == "rowwise":
        assert np.array_equal(ours, expected)
    assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("params", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"max_num_batched_tokens": 3},
        {"max_num_seqs": 2},
        {"enable_prefix_caching": False},
        {"block_size": 1},
        {"block_size": 16, "num_blocks": 32},
        {"num_blocks": 16, "max_model_len": 60, "max_num_batched_tokens": 11},
    ],
    ids=lambda sizes: ",".join(f"{k}={v}" for k, v in sizes.items()) or "default",
)
def test_together_equals_alone(sizes: dict[str, Any], params: SamplingParams, window: int | None) -> None:
    texts = prompts(9)
    texts.append(texts[0])  # a repeated prompt
    texts.append([*texts[0][:-1], 5])
    core = make_core(tiny_config(window), **{"num_blocks": 96, **sizes})
    for i, prompt in enumerate(texts):
        core.add_request(str(i), prompt, params)
    outputs = run_all(core)
    for i, prompt in enumerate(texts):
        assert same(outputs[str(i)].outputs[0], alone(prompt, params, window)), i
    assert core.cache.pool.num_used == 0


@pytest.mark.parametrize("window", [None, 6])
def test_preempted_equals_alone(window: int | None) -> None:
    """A pool that holds little more than one text: sequences are thrown out and computed again."""
    params = SamplingParams(temperature=0.9, seed=3, max_tokens=30, ignore_eos=True, frequency_penalty=0.5, logprobs=1)
    texts = prompts(6, low=4, high=8)
    needed = {None: 11, 6: 5}[window]
    core = make_core(tiny_config(window), num_blocks=needed, max_model_len=40, enable_prefix_caching=False)
    for i, prompt in enumerate(texts):
        core.add_request(str(i), prompt, params)
    outputs = run_all(core)
    assert core.scheduler.num_preemptions > 0
    for i, prompt in enumerate(texts):
        assert same(outputs[str(i)].outputs[0], alone(prompt, params, window)), i


@pytest.mark.parametrize("window", WINDOWS)
def test_a_prefix_hit_changes_nothing(window: int | None) -> None:
    prompt = prompts(1, low=30)[0]
    core = make_core(tiny_config(window))
    cold = generate(core, prompt, DRAWN)
    warm = generate(core, prompt, DRAWN)
    assert cold.num_cached_tokens == 0
    assert warm.num_cached_tokens == (len(prompt) - 1) // 4 * 4
    assert same(cold.outputs[0], warm.outputs[0])
    longer = prompt + cold.outputs[0].token_ids  # the next turn of a chat
    third = generate(core, [*longer, 7], DRAWN)
    assert third.num_cached_tokens >= (len(longer) - 1) // 4 * 4
    assert same(third.outputs[0], alone([*longer, 7], DRAWN, window))


def test_salts_share_nothing_and_a_reset_forgets() -> None:
    prompt = prompts(1, low=30)[0]
    core = make_core()
    generate(core, prompt, GREEDY, cache_salt="one")
    assert generate(core, prompt, GREEDY, cache_salt="two").num_cached_tokens == 0
    assert generate(core, prompt, GREEDY, cache_salt="one").num_cached_tokens > 0
    core.reset_prefix_cache()
    assert generate(core, prompt, GREEDY, cache_salt="one").num_cached_tokens == 0


@pytest.mark.parametrize("window", [1, 2, 7, 8, 9])
def test_a_rolling_window_equals_a_full_cache_with_a_window_mask(window: int) -> None:
    prompt = prompts(1, low=38)[0]
    params = SamplingParams(temperature=0, max_tokens=50, ignore_eos=True, logprobs=1)
    rolling = make_core(tiny_config(window), num_blocks=7, max_num_batched_tokens=9)
    full = make_core(tiny_config(window))
    full.cache.window = None  # the masks stay, and no block is given back
    most = {"rolling": 0, "full": 0}
    answers = []
    for name, core in (("rolling", rolling), ("full", full)):
        core.add_request("only", prompt, params)
        while core.has_unfinished:
            last = core.step()
            most[name] = max([most[name], *(len(s.cache.blocks) for s in core.scheduler.running if s.cache)])
        answers.append(last[0].outputs[0])
    assert same(*answers)
    assert most["rolling"] <= rolling.cache.max_blocks(88, 9) <= 6
    assert most["full"] == 22


def test_a_windowed_text_may_be_longer_than_the_pool() -> None:
    core = make_core(tiny_config(6), num_blocks=5, max_model_len=2000, max_num_batched_tokens=4)
    output = generate(core, [1, 5, 6], SamplingParams(temperature=0, max_tokens=1500, ignore_eos=True)).outputs[0]
    assert len(output.token_ids) == 1500
    assert output.finish_reason == "length"


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("window", [None, 6])
def test_n_answers_equal_n_requests_with_their_seeds(window: int | None, caching: bool) -> None:
    prompt = prompts(1, low=22)[0]
    base = {"temperature": 1.0, "max_tokens": 12, "ignore_eos": True, "logprobs": 0}
    core = make_core(tiny_config(window), enable_prefix_caching=caching, max_num_batched_tokens=8)
    output = generate(core, prompt, SamplingParams(n=4, seed=10, **base))
    assert [answer.index for answer in output.outputs] == [0, 1, 2, 3]
    for i, answer in enumerate(output.outputs):
        assert same(answer, alone(prompt, SamplingParams(seed=10 + i, **base), window))
    assert len({tuple(answer.token_ids) for answer in output.outputs}) > 1
    assert output.num_cached_tokens == 0
    again = generate(core, prompt, SamplingParams(n=1, seed=10, **base))
    assert (again.num_cached_tokens > 0) is caching


def test_the_prompt_of_n_answers_is_computed_once() -> None:
    prompt = prompts(1, low=39)[0]
    core = make_core(enable_prefix_caching=False)
    core.add_request("a", prompt, SamplingParams(n=3, temperature=0, max_tokens=2, ignore_eos=True))
    computed = 0
    while core.has_unfinished:
        chunks = core.scheduler.schedule
        counted: list[int] = []

        def schedule(chunks: Any = chunks, counted: list[int] = counted) -> Any:
            planned = chunks()
            counted.append(sum(chunk.count for chunk in planned))
            return planned

        core.scheduler.schedule = schedule  # type: ignore[method-assign]
        core.step()
        core.scheduler.schedule = chunks  # type: ignore[method-assign]
        computed += sum(counted)
    rest = len(prompt) - (len(prompt) - 1) // 4 * 4
    assert computed == len(prompt) + 2 * rest + 3


def test_outputs_grow_step_by_step() -> None:
    core = make_core(max_num_batched_tokens=8)
    prompt = prompts(1, low=20, high=21)[0]
    core.add_request("a", prompt, SamplingParams(temperature=0, max_tokens=3, ignore_eos=True), prompt="as text")
    seen = []
    steps = 0
    while core.has_unfinished:
        steps += 1
        seen += core.step()
    assert steps == 3 + 2  # 20 tokens in chunks of 8, then two more
    assert [len(output.outputs[0].token_ids) for output in seen] == [1, 2, 3]
    assert [output.finished for output in seen] == [False, False, True]
    last = seen[-1]
    assert (last.request_id, last.prompt, last.prompt_token_ids) == ("a", "as text", prompt)
    times = last.metrics
    assert times.first_scheduled_time is not None
    assert times.first_token_time is not None
    assert times.finished_time is not None
    assert times.arrival_time <= times.first_scheduled_time <= times.first_token_time <= times.finished_time
    assert core.step() == []


def test_logprobs_are_those_of_the_model_before_any_stage() -> None:
    prompt = prompts(1, low=10)[0]
    params = SamplingParams(
        temperature=0.5, top_k=5, seed=1, max_tokens=4, ignore_eos=True, logprobs=3, presence_penalty=2
    )
    output = generate(make_core(), prompt, params).outputs[0]
    config = tiny_config()
    logits = dense_logits(RowwiseOps(), config, tiny_weights(config), prompt + output.token_ids)[len(prompt) - 1 :]
    total = 0.0
    assert output.logprobs is not None
    for token, table, row in zip(output.token_ids, output.logprobs, logits.astype(np.float64), strict=False):
        expected = row - np.log(np.exp(row).sum())
        order = np.argsort(-expected, kind="stable").tolist()
        assert set(table) == {token, *order[:3]}
        assert next(iter(table)) == token
        for i, entry in table.items():
            assert entry.logprob == pytest.approx(expected[i], abs=1e-5)
            assert entry.rank == order.index(i) + 1
        total += expected[token]
    assert output.cumulative_logprob == pytest.approx(total, abs=1e-4)
    assert alone(prompt, GREEDY).logprobs is None
    assert alone(prompt, GREEDY).cumulative_logprob is None


def test_scores_are_the_log_probabilities_of_the_given_tokens() -> None:
    prompt = prompts(1, low=30)[0]
    core = make_core(max_num_batched_tokens=7)
    logits = core.logits(prompt).astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = logprobs[np.arange(len(prompt) - 1), prompt[1:]]
    assert core.score(prompt) == pytest.approx(expected, abs=1e-5)
    assert core.score(prompt[:1]).shape == (0,)
    assert core.cache.pool.num_used == 0


def test_scoring_beside_running_requests_loses_none_of_their_outputs() -> None:
    texts = prompts(3)
    core = make_core()
    for i, prompt in enumerate(texts):
        core.add_request(str(i), prompt, GREEDY)
    core.step()
    scored = core.score(texts[0] * 2)
    outputs = run_all(core)
    assert np.array_equal(scored, make_core().score(texts[0] * 2))
    for i, prompt in enumerate(texts):
        assert same(outputs[str(i)].outputs[0], alone(prompt, GREEDY))


def test_eos_stops_and_is_kept_among_the_tokens() -> None:
    bias = SamplingParams(temperature=0, max_tokens=10, logit_bias={EOS: 100})
    output = alone([1, 5], bias)
    assert (output.token_ids, output.finish_reason, output.stop_reason) == ([EOS], "stop", None)
    ignoring = alone([1, 5], SamplingParams(temperature=0, max_tokens=3, logit_bias={EOS: 100}, ignore_eos=True))
    assert (ignoring.token_ids, ignoring.finish_reason) == ([EOS] * 3, "length")


def test_stop_token_ids_are_told() -> None:
    output = alone([1, 5], SamplingParams(temperature=0, max_tokens=10, logit_bias={9: 100}, stop_token_ids=[9]))
    assert (output.token_ids, output.finish_reason, output.stop_reason) == ([9], "stop", 9)


def test_the_repetition_penalty_knows_the_prompt_and_the_others_do_not() -> None:
    core = make_core()
    text = next([x, 3] for x in range(3, VOCAB) if core.logits([x, 3])[-1].argmax() == x)  # the model repeats itself

    def first_token(**penalties: float) -> int:
        return int(alone(text, SamplingParams(temperature=0, max_tokens=1, **penalties)).token_ids[0])

    assert first_token() == text[0]
    assert first_token(presence_penalty=2, frequency_penalty=2) == text[0]
    assert first_token(repetition_penalty=100) not in text


def test_min_tokens_makes_every_ending_impossible_at_first() -> None:
    params = SamplingParams(
        temperature=0, max_tokens=10, min_tokens=4, logit_bias={9: 90, EOS: 100}, stop_token_ids=[9]
    )
    output = alone([1, 5], params)
    assert len(output.token_ids) == 5
    assert not {9, EOS} & set(output.token_ids[:4])
    assert output.token_ids[4] == EOS


def test_the_answer_fills_the_context_if_nothing_else_ends_it() -> None:
    output = alone([1] * 90, SamplingParams(temperature=0, ignore_eos=True))
    assert len(output.token_ids) == 6
    assert output.finish_reason == "length"


def test_what_does_not_fit_is_refused_with_the_numbers() -> None:
    core = make_core()
    with pytest.raises(ContextLengthError) as caught:
        core.add_request("a", [1] * 90, SamplingParams(max_tokens=7))
    assert (caught.value.num_prompt_tokens, caught.value.max_tokens_possible) == (90, 6)
    for length in (96, 97):
        with pytest.raises(ContextLengthError) as caught:
            core.add_request("a", [1] * length)
        assert caught.value.max_tokens_possible == 0
    with pytest.raises(ContextLengthError):
        core.score([1] * 97)
    with pytest.raises(RequestError, match="min_tokens"):
        core.add_request("a", [1] * 90, SamplingParams(min_tokens=7))
    assert not core.has_unfinished


@pytest.mark.parametrize(
    ("prompt", "params", "param"),
    [
        ([], {}, "prompt"),
        ([VOCAB], {}, "prompt"),
        ([-1], {}, "prompt"),
        ([1], {"logit_bias": {VOCAB: 1}}, "logit_bias"),
        ([1], {"stop_token_ids": [VOCAB]}, "stop_token_ids"),
        ([1], {"logprobs": VOCAB + 1}, "logprobs"),
        ([1], {"stop": "x"}, "stop"),  # there is no tokenizer
        ([1], {"skip_special_tokens": False}, "skip_special_tokens"),
    ],
)
def test_what_the_model_cannot_honour_is_refused(prompt: list[int], params: dict[str, Any], param: str) -> None:
    core = make_core()
    with pytest.raises(RequestError) as caught:
        core.add_request("a", prompt, SamplingParams(**params))
    assert caught.value.param == param
    assert not core.has_unfinished


def test_an_id_in_use_is_refused() -> None:
    core = make_core()
    core.add_request("a", [1], GREEDY)
    with pytest.raises(RequestError, match="'a'"):
        core.add_request("a", [1], GREEDY)


def test_abort_frees_at_once_and_leaves_the_others_alone() -> None:
    texts = prompts(3, low=10)
    core = make_core(max_num_seqs=2, enable_prefix_caching=False)
    for i, prompt in enumerate(texts):
        core.add_request(str(i), prompt, SamplingParams(temperature=0, max_tokens=16, ignore_eos=True, n=2))
    core.step()
    core.step()
    aborted = core.abort("0")
    assert aborted is not None
    assert aborted.finished
    assert {answer.finish_reason for answer in aborted.outputs} == {"abort"}
    held = {block for s in core.scheduler.running if s.cache for block in s.cache.blocks}
    assert core.cache.pool.num_used == len(held)
    assert "0" not in [s.request_id for s in core.scheduler.running]  # type: ignore[attr-defined]
    assert core.abort("2") is not None  # still waiting
    assert core.abort("0") is None
    outputs = run_all(core)
    assert set(outputs) == {"1"}
    assert same(outputs["1"].outputs[1], alone(texts[1], GREEDY))
    assert core.cache.pool.num_used == 0


def test_a_damaged_score_ends_one_request_and_not_the_engine() -> None:
    core = make_core()
    prompt = prompts(1)[0]
    core.add_request("good", prompt, GREEDY)
    core.add_request("bad", prompt, GREEDY)
    step = core._runner.logits

    def damaged(hidden: Any) -> Any:
        logits = step(hidden).copy()
        if len(logits) == 2:
            logits[1] = np.nan
        return logits

    core._runner.logits = damaged  # type: ignore[method-assign]
    with pytest.raises(BackendError, match="no token can be chosen"):
        core.step()
    outputs = run_all(core)
    assert outputs["bad"].outputs[0].finish_reason == "abort"
    assert same(outputs["good"].outputs[0], alone(prompt, GREEDY))


def test_an_interrupted_step_can_be_taken_again() -> None:
    """Ctrl-C in the middle of the computation: the next step goes on as if nothing had happened."""
    texts = prompts(3)
    core = make_core(max_num_batched_tokens=9)
    for i, prompt in enumerate(texts):
        core.add_request(str(i), prompt, GREEDY)
    forward, logits = core._runner.forward, core._runner.logits
    interrupts = iter(range(10**6))

    def interrupted(function: Any) -> Any:
        def call(argument: Any) -> Any:
            if next(interrupts) % 5 == 0:
                raise KeyboardInterrupt
            return function(argument)

        return call

    core._runner.forward = interrupted(forward)  # type: ignore[method-assign]
    core._runner.logits = interrupted(logits)  # type: ignore[method-assign]
    outputs: dict[str, Any] = {}
    while core.has_unfinished:
        try:
            outputs |= {output.request_id: output for output in core.step()}
        except KeyboardInterrupt:
            continue
    for i, prompt in enumerate(texts):
        assert same(outputs[str(i)].outputs[0], alone(prompt, GREEDY))
