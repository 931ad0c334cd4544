"""From scores to a token: one row at a time, in NumPy, the same whatever else runs.

The stages and their order are those of `SamplingParams`. V is the vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ostro.engine.params import SamplingParams
from ostro.errors import BackendError

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


def generator(seed: int | None, index: int) -> np.random.Generator:
    """The stream of draws of answer `index` of a request: that of seed + index, or of fresh entropy."""
    if seed is None:
        return np.random.default_rng()
    return np.random.default_rng((seed + index) % 2**64)


class History:
    """Which tokens the penalties look at: the prompt's, and those of the answer with their counts."""

    def __init__(self, prompt: Iterable[int]) -> None:
        self._prompt = np.unique(np.fromiter(prompt, dtype=np.int64))
        self._counts: Counter[int] = Counter()

    def add(self, token_id: int) -> None:
        """One more token of the answer."""
        self._counts[token_id] += 1

    def penalize(self, scores: Float32, params: SamplingParams) -> None:
        """Stages 1 and 2 on scores (V,), in place."""
        answer = np.fromiter(self._counts, dtype=np.int64, count=len(self._counts))
        if params.repetition_penalty != 1:
            seen = np.union1d(self._prompt, answer)
            penalty = np.float32(params.repetition_penalty)
            scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
        if params.frequency_penalty or params.presence_penalty:
            counts = np.fromiter(self._counts.values(), dtype=np.float32, count=len(self._counts))
            scores[answer] -= np.float32(params.frequency_penalty) * counts + np.float32(params.presence_penalty)


def adjusted(logits: Float32, params: SamplingParams, history: History | None, banned: Iterable[int]) -> Float32:
    """Stages 1 to 4: the scores (V,) with penalties, bias and bans; `logits` itself is left as it is.

    `banned` are the ids that `min_tokens` makes impossible at this step; `history` is needed for penalties only.
    """
    ids = list(banned)
    if not (params.has_penalties or params.logit_bias or ids):
        return logits
    scores = logits.copy()
    if params.has_penalties:
        assert history is not None
        history.penalize(scores, params)
    for token_id, bias in params.logit_bias.items():
        scores[token_id] += np.float32(bias)
    scores[ids] = -np.inf
    return scores


def choose(scores: Float32, params: SamplingParams, draws: np.random.Generator) -> int:
    """Stages 5 to 8 and the draw on adjusted scores (V,). Greedy takes nothing from `draws`; others one number.

    BackendError where no token is possible: the scores are not numbers.
    """
    best = int(np.argmax(scores))
    if not np.isfinite(scores[best]):
        raise BackendError(
            f"The model's best score is {scores[best]}, so no token can be chosen: its weights are damaged, or its "
            "keys and values overflow (try kv_dtype='float32')."
        )
    if params.temperature == 0:
        return best
    ids, probabilities = candidates(scores, params)
    cumulative = np.cumsum(probabilities)
    total = cumulative[-1]
    point = min(draws.random() * total, np.nextafter(total, 0))  # a product that rounds up to total has no place
    return int(ids[np.searchsorted(cumulative, point, side="right")])


def candidates(scores: Float32, params: SamplingParams) -> tuple[Ids, Float64]:
    """The tokens that stages 5 to 8 leave and their probabilities, which need not sum to 1: both (C,).

    Sorted by falling probability where `top_p` needs it, else by id: a fixed order, so that a draw is repeatable.
    """
    ids = _top_k(scores, params.top_k)
    scaled = scores[ids].astype(np.float64)
    with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to -inf, which is what it means
        weights = np.exp((scaled - scaled.max()) / params.temperature)
    if params.top_p < 1:
        ids, weights = _top_p(ids, weights, params.top_p)
    if params.min_p > 0:
        likely = weights >= params.min_p  # the likeliest weighs 1
        ids, weights = ids[likely], weights[likely]
    return ids, weights


def _top_k(scores: Float32, k: int) -> Ids:
    """Ids of the k highest scores in ascending order; lower ids first among equals; all of them if k is off."""
    if k <= 0 or k >= len(scores):
        return np.arange(len(scores))
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = np.flatnonzero(scores > threshold)
    equal = np.flatnonzero(scores == threshold)[: k - len(above)]
    return np.sort(np.concatenate([above, equal]))


def _top_p(ids: Ids, weights: Float64, top_p: float) -> tuple[Ids, Float64]:
    """The likeliest tokens until they reach `top_p` of the total, in falling order, lower ids first among equals."""
    total = weights.sum()
    # Tokens below (1 - top_p) / C cannot be needed: all C of them together would not make up 1 - top_p. Leaving them
    # out first makes the sort short. The factor keeps rounding on the safe side.
    possible = weights >= 0.999 * (1 - top_p) * total / len(weights)
    ids, weights = ids[possible], weights[possible]
    order = np.argsort(-weights, kind="stable")
    cumulative = np.cumsum(weights[order])
    order = order[: int(np.searchsorted(cumulative, top_p * total, side="left")) + 1]
    return ids[order], weights[order]


def log_softmax(logits: Float32) -> Float64:
    """Natural logarithms of the model's probabilities: over the last axis, in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    result: Float64 = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return result


def likeliest(logits: Float32, k: int) -> list[int]:
    """Ids of the k highest of (V,), best first, lower ids first among equals."""
    if k == 0:
        return []
    ids = _top_k(logits, k)
    return [int(i) for i in ids[np.argsort(-logits[ids], kind="stable")]]


def rank(logits: Float32, token_id: int) -> int:
    """Place of a token among all, 1 for the likeliest, lower ids first among equals."""
    score = logits[token_id]
    return 1 + int(np.count_nonzero(logits > score)) + int(np.count_nonzero(logits[:token_id] == score))
