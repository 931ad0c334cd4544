"""The order of the data: what a trainer draws micro batches from, and can put back where it stood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from ostro.errors import CheckpointError

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Batches(Protocol[T_co]):
    """Micro batches without end, pass after pass over the data, in an order that `state()` determines."""

    @property
    def per_epoch(self) -> int:
        """Micro batches of this process in the first pass over the data."""

    @property
    def epoch(self) -> float:
        """Passes over the data so far, such as 1.25."""

    def next(self) -> T_co:
        """The next micro batch."""

    def state(self) -> dict[str, Any]:
        """Where it stands, as JSON can hold it; with what tells this data from other data."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; CheckpointError where it was taken of other data."""


class ListBatches(Generic[T]):
    """Micro batches that are all in memory, in an order shuffled anew in every epoch (by `seed`), or as they are.

    >>> batches = ListBatches(["a", "b", "c"], shuffle=False)
    >>> [batches.next() for _ in range(4)], batches.state()["index"]
    (['a', 'b', 'c', 'a'], 1)
    """

    def __init__(self, items: Sequence[T], *, seed: int = 0, shuffle: bool = True) -> None:
        assert items, "no batches"
        self._items = items
        self._seed = seed
        self._shuffle = shuffle
        self._epoch = 0
        self._index = 0
        self._order = self._ordered()

    @property
    def per_epoch(self) -> int:
        """Number of batches."""
        return len(self._items)

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return self._epoch + self._index / len(self._items)

    def next(self) -> T:
        """The next one; a new pass begins when all have been given."""
        if self._index == len(self._items):
            self._epoch, self._index = self._epoch + 1, 0
            self._order = self._ordered()
        self._index += 1
        return self._items[self._order[self._index - 1]]

    def state(self) -> dict[str, Any]:
        """Epoch and index, and what they belong to."""
        return {"epoch": self._epoch, "index": self._index, "seed": self._seed, "length": len(self._items)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on at a state; CheckpointError for one of other data."""
        own = self.state()
        for key in ("seed", "length"):
            if state.get(key) != own[key]:
                raise CheckpointError(
                    f"The checkpoint was taken on data with {key} {state.get(key)}, and this data has {own[key]}. "
                    "Resume with the data and seed that the run began with, or begin a new run in another output_dir."
                )
        self._epoch, self._index = int(state["epoch"]), int(state["index"])
        self._order = self._ordered()

    def _ordered(self) -> Sequence[int]:
        if not self._shuffle:
            return range(len(self._items))
        order: list[int] = np.random.default_rng((self._seed, self._epoch)).permutation(len(self._items)).tolist()
        return order
