"""Several rankings made one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

RANK_CONSTANT = 60
"""The k of Cormack, Clarke and Büttcher (SIGIR 2009): how little the first places stand out."""


def reciprocal_ranks(rankings: Sequence[Sequence[Key]], constant: int = RANK_CONSTANT) -> dict[Key, float]:
    """Scores by reciprocal rank fusion, the best first: the sum of 1 / (constant + rank) over the rankings.

    Equal scores keep the order in which the first ranking, then the others, have them.

    >>> list(reciprocal_ranks([["a", "b"], ["b", "c"]]))
    ['b', 'a', 'c']
    """
    scores: dict[Key, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + 1.0 / (constant + rank)
    return dict(sorted(scores.items(), key=lambda entry: -entry[1]))
