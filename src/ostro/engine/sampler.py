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

_BLOCK = 512
"""Weights that are summed before the draw looks into them."""


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
    ids, weights = candidates(scores, params)
    place = _place(weights, draws.random())
    return place if ids is None else int(ids[place])


def candidates(scores: Float32, params: SamplingParams) -> tuple[Ids | None, Float32]:
    """The tokens that stages 5 to 8 leave (None: all, by id) and their weights, relative to the likeliest: both (C,).

    Sorted by falling probability where `top_p` needs it, else by id: a fixed order, so that a draw is repeatable.
    """
    ids = _top_k(scores, params.top_k)
    weights = _weights(scores if ids is None else scores[ids], params.temperature)
    if params.top_p < 1:
        ids, weights = _keep(ids, weights, _top_p(weights, params.top_p))
    if params.min_p > 0:
        ids, weights = _keep(ids, weights, np.flatnonzero(weights >= params.min_p))
    return ids, weights


def _weights(scores: Float32, temperature: float) -> Float32:
    """e^((score - best) / temperature): the likeliest weighs 1."""
    with np.errstate(over="ignore", divide="ignore"):  # a tiny temperature sends all but the best to -inf: as it means
        scaled = scores - scores.max()
        np.divide(scaled, np.float32(min(temperature, 1e30)), out=scaled, where=scaled < 0)
        weights: Float32 = np.exp(scaled, out=scaled)
    return weights


def _keep(ids: Ids | None, weights: Float32, places: Ids) -> tuple[Ids, Float32]:
    return places if ids is None else ids[places], weights[places]


def _place(weights: Float32, point: float) -> int:
    """Where `point` (0 .. 1) of the weights' sum falls, in double precision; by blocks first, as most are passed by."""
    blocks = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK), dtype=np.float64)
    ends = np.cumsum(blocks)
    # A product that rounds up to the total has no place.
    wanted = min(point * ends[-1], np.nextafter(ends[-1], 0))
    block = int(np.searchsorted(ends, wanted, side="right"))
    inside = np.cumsum(weights[block * _BLOCK : (block + 1) * _BLOCK], dtype=np.float64)
    before = ends[block - 1] if block else 0.0
    # The block's own sum may round a little lower than its part of the total: its last token then has the place.
    last = int(np.flatnonzero(weights[block * _BLOCK : (block + 1) * _BLOCK])[-1])
    return block * _BLOCK + min(int(np.searchsorted(inside, wanted - before, side="right")), last)


def _top_k(scores: Float32, k: int) -> Ids | None:
    """Ids of the k highest scores in ascending order; lower ids first among equals; None for all if k is off."""
    if k <= 0 or k >= len(scores):
        return None
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = np.flatnonzero(scores > threshold)
    equal = np.flatnonzero(scores == threshold)[: k - len(above)]
    return np.sort(np.concatenate([above, equal]))


def _top_p(weights: Float32, top_p: float) -> Ids:
    """Places of the likeliest until they reach `top_p` of the total, falling, lower ones first among equals."""
    total = weights.sum(dtype=np.float64)
    # Tokens below (1 - top_p) / C cannot be needed: all C of them together would not make up 1 - top_p. Leaving them
    # out first makes the sort short. The factor keeps rounding on the safe side.
    places = np.flatnonzero(weights >= 0.999 * (1 - top_p) * total / len(weights))
    order = places[np.argsort(-weights[places], kind="stable")]
    cumulative = np.cumsum(weights[order], dtype=np.float64)
    return order[: int(np.searchsorted(cumulative, top_p * total, side="left")) + 1]


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
    if ids is None:
        ids = np.arange(len(logits))
    return [int(i) for i in ids[np.argsort(-logits[ids], kind="stable")]]


def rank(logits: Float32, token_id: int) -> int:
    """Place of a token among all, 1 for the likeliest, lower ids first among equals."""
    score = logits[token_id]
    return 1 + int(np.count_nonzero(logits > score)) + int(np.count_nonzero(logits[:token_id] == score))
