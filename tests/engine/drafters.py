"""Drafters for tests: right, wrong, and hostile ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping

from ostro.engine.scheduler import TokenSequence

Guess = Callable[[TokenSequence, int], list[int]]


class Scripted:
    """Proposes what `guess(sequence, limit)` says, and remembers for whom."""

    seconds_per_token = 0.0
    kv_cache_bytes = 0

    def __init__(self, guess: Guess) -> None:
        self.guess = guess
        self.known: set[TokenSequence] = set()

    def confidence(self, sequence: TokenSequence) -> float | None:
        self.known.add(sequence)
        return 0.5

    def propose(self, limits: Mapping[TokenSequence, int]) -> dict[TokenSequence, list[int]]:
        return {sequence: self.guess(sequence, limit) for sequence, limit in limits.items()}

    def forget(self, sequence: TokenSequence) -> None:
        self.known.discard(sequence)

    def clear(self) -> None:
        pass


def oracle(texts: Iterable[list[int]]) -> Guess:
    """Always right: `texts` are the prompts with the answers that will come, no two of them alike up to an end."""
    known = [list(text) for text in texts]

    def guess(sequence: TokenSequence, limit: int) -> list[int]:
        done = len(sequence.token_ids)
        for text in known:
            if text[:done] == sequence.token_ids:
                return text[done : done + limit]
        return []

    return guess


def partly(guess: Guess, pattern: Iterable[int], vocab_size: int) -> Guess:
    """`guess`, with the token after the first few of each draft spoilt; `pattern` says how many, over and over."""
    rights = itertools.cycle(pattern)

    def spoilt(sequence: TokenSequence, limit: int) -> list[int]:
        draft = guess(sequence, limit)
        place = next(rights)
        if place < len(draft):
            draft[place] = (draft[place] + 1) % vocab_size
        return draft

    return spoilt
