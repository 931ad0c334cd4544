"""`PromptLookup`: where the last tokens of a text stood before, what followed them there is the draft.

Answers repeat their prompt (a summary its names, an edit its code, an extraction its source) and themselves (JSON keys,
tables, loops). Finding that costs microseconds, so it needs no model and no memory to speak of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ostro.engine.scheduler import TokenSequence

MIN_MATCH = 2
MAX_MATCH = 8
MAX_CANDIDATES = 32
CONFIDENCE = ((8, 0.75), (4, 0.5), (2, 0.4))
"""(length of a match, share of right tokens after it): what prose, documents and code come to."""


@dataclass(frozen=True, slots=True)
class Match:
    """The last `length` tokens of the text stand before `place` too; `place` is the index of what followed them."""

    length: int
    place: int


class RepetitionIndex:
    """Finds the end of a growing text in what came before it.

    Every place is chained to the latest one before it that follows the same `min_match` tokens, as Lempel-Ziv
    compressors do it. So a new token costs one entry of a table, whatever the length of the text, and a search looks
    at `max_candidates` places at most.

    >>> index = RepetitionIndex()
    >>> index.find([5, 6, 7, 8, 5, 6])
    Match(length=2, place=2)
    """

    def __init__(
        self, *, min_match: int = MIN_MATCH, max_match: int = MAX_MATCH, max_candidates: int = MAX_CANDIDATES
    ) -> None:
        assert 0 < min_match <= max_match
        self._min_match = min_match
        self._max_match = max_match
        self._max_candidates = max_candidates
        self._latest: dict[tuple[int, ...], int] = {}
        self._earlier: list[int] = [0] * min_match  # 0 ends a chain: no place has min_match tokens before it

    def find(self, token_ids: Sequence[int]) -> Match | None:
        """The longest match of `min_match` to `max_match` tokens among the candidates, the latest of several.

        `token_ids` is the whole text, which has only grown since the last call.
        """
        self._extend(token_ids)
        best, best_place = 0, 0
        place = self._latest.get(tuple(token_ids[-self._min_match :]), 0)
        for _ in range(self._max_candidates):
            if not place or best == self._max_match:
                break
            length = self._length(token_ids, place)
            if length > best:
                best, best_place = length, place
            place = self._earlier[place]
        return Match(best, best_place) if best else None

    def _extend(self, token_ids: Sequence[int]) -> None:
        """Enter the places up to the last token; what follows that is not known yet."""
        for place in range(len(self._earlier), len(token_ids)):
            key = tuple(token_ids[place - self._min_match : place])
            self._earlier.append(self._latest.get(key, 0))
            self._latest[key] = place

    def _length(self, token_ids: Sequence[int], place: int) -> int:
        """How many tokens before `place` equal the last ones, up to `max_match`; the first `min_match` do."""
        end, length = len(token_ids), self._min_match
        while length < min(self._max_match, place) and token_ids[place - length - 1] == token_ids[end - length - 1]:
            length += 1
        return length


def continuation(token_ids: Sequence[int], place: int, count: int) -> list[int]:
    """The `count` tokens from `place` on; where the text ends, it goes on as it did from `place`.

    >>> continuation([1, 2, 3, 2, 3], place=3, count=5)
    [2, 3, 2, 3, 2]
    """
    period = len(token_ids) - place
    return [token_ids[place + i % period] for i in range(count)]


class PromptLookup:
    """The drafter that copies; see `ostro.engine.speculation.Drafter`."""

    seconds_per_token = 0.0
    kv_cache_bytes = 0

    def __init__(self) -> None:
        self._indexes: dict[TokenSequence, RepetitionIndex] = {}
        self._matches: dict[TokenSequence, Match] = {}

    def confidence(self, sequence: TokenSequence) -> float | None:
        """Grows with the length of the match: `CONFIDENCE`."""
        index = self._indexes.get(sequence)
        if index is None:
            index = self._indexes[sequence] = RepetitionIndex()
        match = index.find(sequence.token_ids)
        if match is None:
            return None
        self._matches[sequence] = match
        return next(share for length, share in CONFIDENCE if match.length >= length)

    def propose(self, limits: Mapping[TokenSequence, int]) -> dict[TokenSequence, list[int]]:
        """What followed the matches that `confidence` found."""
        return {
            sequence: continuation(sequence.token_ids, self._matches[sequence].place, limit)
            for sequence, limit in limits.items()
        }

    def forget(self, sequence: TokenSequence) -> None:
        """Drop the index of a sequence that has ended."""
        self._indexes.pop(sequence, None)
        self._matches.pop(sequence, None)

    def clear(self) -> None:
        """Nothing is kept but what running sequences need."""
