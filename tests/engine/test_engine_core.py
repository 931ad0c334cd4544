"""The whole engine on tiny models: whatever else runs, the same request gives the same tokens and the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dense import dense_logits
from engine_models import (
    GREEDY,
    VOCAB,
    RowwiseOps,
    alone,
    generate,
    make_core,
    prompts,
    run_all,
    same,
    tiny_config,
    tiny_weights,
)

from ostro.engine import SamplingParams
from ostro.ops import BACKENDS, get_ops

DRAWN = SamplingParams(
    temperature=0.9, top_p=0.9, top_k=30, seed=3, max_tokens=16, ignore_eos=True, repetition_penalty=1.2, logprobs=2
)
WINDOWS = [None, 1, 6]


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

        def schedule(most: int | None, chunks: Any = chunks, counted: list[int] = counted) -> Any:
            planned = chunks(most)
            counted.append(sum(chunk.count for chunk in planned))
            return planned

        core.scheduler.schedule = schedule  # type: ignore[method-assign]
        core.step()
        core.scheduler.schedule = chunks  # type: ignore[method-assign]
        computed += sum(counted)
    rest = len(prompt) - (len(prompt) - 1) // 4 * 4
    assert computed == len(prompt) + 2 * rest + 3
