"""The sampler against the plainest computation of each stage."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostro.engine import SamplingParams, sampler
from ostro.errors import BackendError


def naive_candidates(scores: np.ndarray, params: SamplingParams) -> dict[int, float]:
    """Sort everything, then cut: token -> weight relative to the likeliest."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    if 0 < params.top_k < len(order):
        order = order[: params.top_k]
    weights = {i: float(np.exp((float(scores[i]) - float(scores[order[0]])) / params.temperature)) for i in order}
    if params.top_p < 1:
        total, reached, kept = sum(weights.values()), 0.0, {}
        for i in order:
            kept[i] = weights[i]
            reached += weights[i]
            if reached >= params.top_p * total:
                break
        weights = kept
    return {i: w for i, w in weights.items() if w >= params.min_p}


def chosen_from(scores: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    """`candidates`, with the ids written out where they are all there are."""
    ids, weights = sampler.candidates(scores, params)
    return (np.arange(len(scores)) if ids is None else ids), weights


scores_strategy = st.lists(st.integers(-40, 40).map(lambda i: i / 4), min_size=1, max_size=40)


@settings(max_examples=300)
@given(
    scores=scores_strategy,
    temperature=st.sampled_from([0.1, 0.7, 1.0, 3.0]),
    top_k=st.integers(-1, 45),
    top_p=st.sampled_from([0.03, 0.31, 0.57, 0.903, 0.9991, 1.0]),
    min_p=st.sampled_from([0.0, 0.013, 0.27, 1.0]),
)
def test_candidates_equal_the_naive_ones(
    scores: list[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    row = np.array(scores, np.float32)
    ids, weights = chosen_from(row, params)
    expected = naive_candidates(row, params)
    assert dict(zip(ids.tolist(), weights.tolist(), strict=True)) == pytest.approx(expected)


@settings(max_examples=200)
@given(
    prompt=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    answer=st.lists(st.integers(0, 9), max_size=8),
    repetition=st.sampled_from([0.5, 1.0, 1.3]),
    presence=st.sampled_from([-1.0, 0.0, 0.5]),
    frequency=st.sampled_from([-0.5, 0.0, 0.25]),
    bias=st.dictionaries(st.integers(0, 9), st.integers(-5, 5), max_size=3),
    banned=st.sets(st.integers(0, 9), max_size=3),
)
def test_penalties_bias_and_bans(
    prompt: list[int],
    answer: list[int],
    repetition: float,
    presence: float,
    frequency: float,
    bias: dict[int, float],
    banned: set[int],
) -> None:
    params = SamplingParams(
        repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency, logit_bias=bias
    )
    logits = np.linspace(-2, 2.5, 10).astype(np.float32)
    before = logits.copy()
    history = sampler.History(prompt)
    for token in answer:
        history.add(token)
    ours = sampler.adjusted(logits, params, history, banned)
    counts = Counter(answer)
    for i in range(10):
        x = float(before[i])
        if i in prompt or i in counts:
            x = x / repetition if x > 0 else x * repetition
        x -= frequency * counts[i] + (presence if i in counts else 0)
        x += bias.get(i, 0)
        assert ours[i] == (-np.inf if i in banned else pytest.approx(x, abs=1e-5))
    assert np.array_equal(logits, before)


def test_greedy_takes_the_lowest_id_among_equals_and_draws_nothing() -> None:
    draws = np.random.default_rng(0)
    params = SamplingParams(temperature=0)
    assert sampler.choose(np.array([1, 3, 3], np.float32), params, draws) == 1
    assert draws.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.8),
        SamplingParams(temperature=1.5, top_k=4),
        SamplingParams(top_p=0.8),
        SamplingParams(min_p=0.2),
    ],
)
def test_draws_follow_the_probabilities(params: SamplingParams) -> None:
    scores = np.array([0.5, 2.0, -1.0, 1.5, 0.0, 1.9], np.float32)
    draws = sampler.generator(11, 0)
    counts = Counter(sampler.choose(scores, params, draws) for _ in range(20000))
    expected = naive_candidates(scores, params)
    total = sum(expected.values())
    assert set(counts) == set(expected)
    for token, weight in expected.items():
        share = weight / total
        assert abs(counts[token] / 20000 - share) < 5 * (share * (1 - share) / 20000) ** 0.5


@settings(max_examples=200)
@given(weights=st.lists(st.sampled_from([0.0, 1e-12, 0.25, 1.0]), min_size=1, max_size=1600), point=st.floats(0, 1))
def test_the_place_of_a_draw(weights: list[float], point: float) -> None:
    row = np.array([*weights, 1.0], np.float32)
    place = sampler._place(row, point)
    exact = np.cumsum(row, dtype=np.float64)
    assert row[place] > 0
    wanted, rounding = point * exact[-1], 1e-12 * exact[-1]
    assert exact[place] >= wanted - rounding
    assert exact[place] - row[place] <= wanted + rounding


def test_a_banned_token_is_never_drawn() -> None:
    scores = np.full(4, -np.inf, np.float32)
    scores[2] = 0.0
    draws = sampler.generator(0, 0)
    assert {sampler.choose(scores, SamplingParams(), draws) for _ in range(200)} == {2}


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1.0, 1e300])
def test_extreme_temperatures(temperature: float) -> None:
    scores = np.array([3e38, -3e38, 0], np.float32)
    token = sampler.choose(scores, SamplingParams(temperature=temperature), sampler.generator(1, 0))
    assert token == 0 or temperature > 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_an_error(bad: float) -> None:
    with pytest.raises(BackendError, match="kv_dtype"):
        sampler.choose(np.array([0, bad], np.float32), SamplingParams(), sampler.generator(1, 0))


def test_seeds() -> None:
    def first(seed: int | None, index: int) -> float:
        return float(sampler.generator(seed, index).random())

    assert first(5, 0) == first(5, 0)
    assert first(5, 1) == first(6, 0)
    assert first(-1, 0) == first(2**64 - 1, 0)
    assert first(None, 0) != first(None, 0)


def test_log_softmax_rank_and_likeliest() -> None:
    logits = np.array([0.0, 2.0, 2.0, -1.0], np.float32)
    logprobs = sampler.log_softmax(logits)
    assert np.exp(logprobs).sum() == pytest.approx(1)
    assert logprobs[1] - logprobs[0] == pytest.approx(2)
    assert sampler.likeliest(logits, 3) == [1, 2, 0]
    assert sampler.likeliest(logits, 0) == []
    assert [sampler.rank(logits, i) for i in range(4)] == [3, 1, 2, 4]


def test_a_large_vocabulary() -> None:
    scores = np.random.default_rng(0).standard_normal(131072).astype(np.float32) * 3
    params = SamplingParams(top_p=0.9)
    ids, weights = chosen_from(scores, params)
    expected = naive_candidates(scores, params)
    assert ids.tolist() == list(expected)
    assert weights == pytest.approx(list(expected.values()))
