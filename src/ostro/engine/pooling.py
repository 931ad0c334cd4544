"""From the hidden states of a text to one vector, while the engine computes them chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, get_args

import numpy as np

from ostro.engine.request import Scoring
from ostro.engine.runner import Float32
from ostro.errors import OstroError, RequestError
from ostro.ops.base import Array

Pooling: TypeAlias = Literal["mean", "last"]
"""mean: the average over all tokens; last: the last token's, which is the only one that has seen the whole text."""

POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def check_pooling(pooling: str) -> None:
    """RequestError where there is no such pooling."""
    if pooling not in POOLINGS:
        raise RequestError(f"pooling must be one of {', '.join(POOLINGS)}, not {pooling!r}.", param="pooling")


class Pool:
    """The rows of a text of `num_tokens` as they come, in order: `vector` (D,) is theirs once all have come.

    Rows are added one by one in float64, so the bits of the sum do not depend on how the text was cut into chunks.
    """

    def __init__(self, num_tokens: int, pooling: Pooling, to_numpy: Callable[[Array], Float32]) -> None:
        self._num_tokens = num_tokens
        self._pooling = pooling
        self._to_numpy = to_numpy
        self._count = 0
        self._sum: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None

    @property
    def is_full(self) -> bool:
        """Whether every row has come."""
        return self._count == self._num_tokens

    @property
    def vector(self) -> Float32:
        """The pooled hidden state, float32 (D,)."""
        assert self.is_full
        assert self._sum is not None
        total = self._sum if self._pooling == "last" else self._sum / self._num_tokens
        return total.astype(np.float32)

    def visit(self, start: int, hidden: Array) -> None:
        """Rows (R, D) of the tokens from `start` on; those that came before (in a step that was taken again) are left.

        A text that is preempted begins again at 0, and its rows are then the same ones.
        """
        rows = self._to_numpy(hidden)[self._count - start :]
        for row in rows if self._pooling == "mean" else rows[-1:]:
            self._sum = row.astype(np.float64) if self._sum is None or self._pooling == "last" else self._sum + row
        self._count += len(rows)


class Embedding:
    """A text that is being embedded: `EngineCore.step` goes on with it until it `is_done`; then `vector` is there."""

    def __init__(self, sequence: Scoring, pool: Pool) -> None:
        self.sequence = sequence
        self._pool = pool

    @property
    def is_done(self) -> bool:
        """Whether the whole text has been computed."""
        return self._pool.is_full

    @property
    def failure(self) -> OstroError | None:
        """Why it was given up; None while nothing went wrong."""
        return self.sequence.failure

    @property
    def vector(self) -> Float32:
        """The pooled hidden state, float32 (D,), as long as the model makes it; only when it `is_done`."""
        return self._pool.vector
