"""Examples as rows of batches: packed, in an order that a seed decides, and resumable at any batch.

An epoch goes through the records in an order shuffled by (seed, epoch), a window of records at a time. The examples of
a window are packed into rows of at most `max_length` tokens: the longest first, each into the fullest row that has room
for it (best fit, decreasing). The rows are shuffled and dealt out to batches; the last batch of an epoch may be short.
All of this depends on the lengths, the seed and the numbers of epoch and window alone, so a place in the data is three
numbers, and going on from there is exact. Several processes go through the same rows, and each takes its share.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ostro.errors import CheckpointError, DataError
from ostro.finetune.example_sets import ExampleSet
from ostro.finetune.examples import Example

T = TypeVar("T")
WINDOW = 4096
"""Records that are packed together."""
_STATE = ("fingerprint", "seed", "max_length", "packing", "shuffle", "rows_per_batch", "world_size", "window_size")


@dataclass(frozen=True, slots=True)
class Rows:
    """A micro batch: B rows of T tokens. Positions that begin again mark sequences that do not see one another.

    token_ids     int64 (B, T)
    position_ids  int64 (B, T), from 0 in each sequence; padding, at the right, goes on with those of the last
    loss_weights  float32 (B, T): 1 where predicting this token is learnt, else 0
    records       for every row the numbers of the records in it, in order; none in a row that is all padding
    """

    token_ids: npt.NDArray[np.int64]
    position_ids: npt.NDArray[np.int64]
    loss_weights: npt.NDArray[np.float32]
    records: tuple[tuple[int, ...], ...]


class Unit(NamedTuple):
    """What is put into a row: example `number` of a record. Of pairs it stands for both."""

    record: int
    number: int


Row: TypeAlias = tuple[Unit, ...]


def pack(lengths: Sequence[int], max_length: int) -> list[list[int]]:
    """Indices of the lengths in rows whose sums are at most `max_length`: best fit, the longest first.

    >>> pack([5, 3, 8, 2, 2], 10)
    [[2, 3], [0, 1, 4]]
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (what is left, number of the row), sorted
    for index in sorted(range(len(lengths)), key=lambda each: -lengths[each]):
        length = lengths[index]
        assert length <= max_length, f"an example of {length} tokens in rows of {max_length}"
        place = bisect_left(room, (length, -1))
        left, number = room.pop(place) if place < len(room) else (max_length, len(rows))
        if number == len(rows):
            rows.append([])
        rows[number].append(index)
        if left > length:
            insort(room, (left - length, number))
    return rows


def rows_of(rows: Sequence[Sequence[Example]], records: Sequence[tuple[int, ...]], *, pad_id: int = 0) -> Rows:
    """Examples laid side by side in rows, padded to the longest row. A row without examples is padding."""
    width = max(1, *(sum(map(len, row)) for row in rows))
    token_ids = np.full((len(rows), width), pad_id, np.int64)
    position_ids = np.tile(np.arange(width, dtype=np.int64), (len(rows), 1))
    loss_weights = np.zeros((len(rows), width), np.float32)
    for number, row in enumerate(rows):
        start = 0
        for example in row:
            end = start + len(example)
            token_ids[number, start:end] = example.token_ids
            loss_weights[number, start:end] = example.is_trained
            position_ids[number, start:] = np.arange(width - start)
            start = end
    return Rows(token_ids, position_ids, loss_weights, tuple(records))


class PackedBatches(Generic[T]):
    """Micro batches without end, epoch after epoch.

    A batch has `rows_per_batch` rows for each of `world_size` processes, of which this one is number `rank`; at the end
    of an epoch there may be fewer, and a process without any has one row of padding, whose weight is 0. Of pairs a row
    is two: 2k the chosen and 2k+1 the rejected answer. Without `packing` a row is one example, and rows of like length
    stand together. `shuffle` False goes through the data as it is, which is for evaluation and comparisons.
    `convert` makes of `Rows` what the trainer wants.
    """

    def __init__(
        self,
        examples: ExampleSet,
        convert: Callable[[Rows], T],
        *,
        rows_per_batch: int,
        max_length: int,
        packing: bool = True,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        pad_id: int = 0,
        window_size: int = WINDOW,
        prefetch: bool = True,
    ) -> None:
        assert 0 <= rank < world_size, (rank, world_size)
        if rows_per_batch < 1 or max_length < 2:
            raise DataError(
                f"rows_per_batch is {rows_per_batch} and max_length {max_length}; they are at least 1 and 2."
            )
        if not len(examples):
            raise DataError("There is no record to train on: give data with at least one.")
        self._examples = examples
        self._convert = convert
        self.rows_per_batch, self.max_length, self.seed = rows_per_batch, max_length, seed
        self.packing = packing and not examples.are_pairs
        self.shuffle, self.rank, self.world_size, self.window_size = shuffle, rank, world_size, window_size
        self._pad_id = pad_id
        self._at = _Place(0, 0, 0)
        self._window: _Window | None = None
        self._loader = _Loader(examples) if prefetch else None

    @property
    def fingerprint(self) -> str:
        """Of the data and its encoding."""
        return self._examples.fingerprint

    @cached_property
    def per_epoch(self) -> int:
        """Batches of the first epoch. To know it, all records are encoded."""
        return self.num_batches(0)

    def num_batches(self, epoch: int) -> int:
        """Batches of an epoch, which vary with how the rows happen to fill. All records are encoded."""
        rows = sum(len(self._rows(epoch, window)) for window in range(self._num_windows))
        return -(-rows // (self.rows_per_batch * self.world_size))

    @property
    def epoch(self) -> float:
        """Passes over the data so far, such as 1.25."""
        within = 0.0
        if self._window is not None and self._window.rows:
            within = min(1.0, self._at.row / len(self._window.rows))
        return self._at.epoch + min(1.0, (self._at.window + within) / self._num_windows)

    def next(self) -> T:
        """The next batch of this process."""
        wanted = self.rows_per_batch * self.world_size
        taken: list[tuple[Row, _Window]] = []
        for _ in range(2):  # an epoch whose rows are all dealt out is followed by the next
            while len(taken) < wanted and self._at.window < self._num_windows:
                window = self._opened()
                rows = window.rows[self._at.row : self._at.row + wanted - len(taken)]
                taken += [(row, window) for row in rows]
                self._at = self._at.after(len(rows), len(window.rows))
            if taken:
                break
            self._at = _Place(self._at.epoch + 1, 0, 0)
        if not taken:
            raise DataError(f"All {len(self._examples):,} records were dropped as too long: raise max_length.")
        share = -(-len(taken) // self.world_size) if len(taken) < wanted else self.rows_per_batch
        return self._convert(self._laid(taken[self.rank * share : (self.rank + 1) * share]))

    def state(self) -> dict[str, Any]:
        """Where it stands behind the batch that `next` gave last, with what tells this data from other data."""
        return {**self._identity(), "epoch": self._at.epoch, "window": self._at.window, "row": self._at.row}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. CheckpointError where it was taken of other data or settings."""
        for key, own in self._identity().items():
            if state.get(key) != own:
                raise CheckpointError(
                    f"The checkpoint was taken with data whose {key} is {state.get(key)!r}, and now it is {own!r}. "
                    "Resume with the data and settings that the run began with, or begin a new run in another "
                    "output_dir."
                )
        self._at = _Place(int(state["epoch"]), int(state["window"]), int(state["row"]))
        self._window = None

    def _identity(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in _STATE}

    @property
    def _num_windows(self) -> int:
        return -(-len(self._examples) // self.window_size)

    def _order(self, epoch: int, window: int) -> npt.NDArray[np.int64]:
        """The records of a window."""
        begin, end = window * self.window_size, min((window + 1) * self.window_size, len(self._examples))
        if not self.shuffle:
            return np.arange(begin, end)
        if self._shuffled is None or self._shuffled[0] != epoch:
            self._shuffled = (epoch, np.random.default_rng([self.seed, epoch]).permutation(len(self._examples)))
        return self._shuffled[1][begin:end]

    _shuffled: tuple[int, npt.NDArray[np.int64]] | None = None

    def _rows(self, epoch: int, window: int) -> list[Row]:
        """The rows of a window, in the order in which they are dealt out."""
        units: list[Unit] = []
        lengths: list[int] = []
        for record in self._order(epoch, window).tolist():
            own = self._examples.lengths(record)
            if self._examples.are_pairs:
                own = (max(own),) if own else ()
            units += [Unit(record, number) for number in range(len(own))]
            lengths += own
        order = np.random.default_rng([self.seed, epoch, window]) if self.shuffle else None
        if self.packing:
            rows = [tuple(units[index] for index in row) for row in pack(lengths, self.max_length)]
            return rows if order is None else [rows[index] for index in order.permutation(len(rows))]
        single: list[Row] = [(unit,) for unit in units]
        return single if order is None else [single[index] for index in self._like_lengths(lengths, order)]

    def _like_lengths(self, lengths: Sequence[int], order: np.random.Generator) -> list[int]:
        """An order in which the rows of one batch are of like length; batches are shuffled, a short one comes last."""
        by_length = np.lexsort((order.permutation(len(lengths)), np.asarray(lengths))).tolist()
        size = self.rows_per_batch * self.world_size
        groups = [by_length[start : start + size] for start in range(0, len(by_length), size)]
        full = len(lengths) // size
        return [index for number in [*order.permutation(full), *range(full, len(groups))] for index in groups[number]]

    def _opened(self) -> _Window:
        """The window at the present place, with its examples; the next is begun to be encoded."""
        epoch, number = self._at.epoch, self._at.window
        if self._window is None or (self._window.epoch, self._window.number) != (epoch, number):
            records = self._order(epoch, number)
            examples = self._loader.take(records) if self._loader else _load(self._examples, records)
            self._window = _Window(epoch, number, self._rows(epoch, number), examples)
            if self._loader:
                last = number + 1 == self._num_windows
                self._loader.begin(self._order(epoch + last, 0 if last else number + 1))
        return self._window

    def _laid(self, taken: Sequence[tuple[Row, _Window]]) -> Rows:
        rows: list[list[Example]] = []
        for row, window in taken:
            if self._examples.are_pairs:
                rows += [[example] for example in window.examples[row[0].record]]
            else:
                rows.append([window.examples[unit.record][unit.number] for unit in row])
        per_row = 2 if self._examples.are_pairs else 1
        records = [tuple(unit.record for unit in row) for row, _ in taken for _ in range(per_row)]
        empty: tuple[int, ...] = ()
        return rows_of(rows or [[]] * per_row, records or [empty] * per_row, pad_id=self._pad_id)


@dataclass(frozen=True, slots=True)
class _Place:
    """The next row to be dealt out."""

    epoch: int
    window: int
    row: int

    def after(self, rows: int, of: int) -> _Place:
        """The place some rows later, in a window that has `of`."""
        if self.row + rows >= of:
            return _Place(self.epoch, self.window + 1, 0)
        return _Place(self.epoch, self.window, self.row + rows)


Window: TypeAlias = dict[int, tuple[Example, ...]]


@dataclass(frozen=True, slots=True)
class _Window:
    """A window with its rows and its examples by record."""

    epoch: int
    number: int
    rows: list[Row]
    examples: Window


def _load(examples: ExampleSet, records: npt.NDArray[np.int64]) -> Window:
    return {record: examples[record] for record in records.tolist()}


class _Loader:
    """Encodes the next window in a thread of its own while the present one is trained on."""

    def __init__(self, examples: ExampleSet) -> None:
        self._examples = examples
        self._thread = ThreadPoolExecutor(1, "ostro-data")
        self._begun: tuple[bytes, Future[Window]] | None = None

    def begin(self, records: npt.NDArray[np.int64]) -> None:
        self._begun = (records.tobytes(), self._thread.submit(_load, self._examples, records))

    def take(self, records: npt.NDArray[np.int64]) -> Window:
        """The window, if it is the one that was begun; an error of a record comes here, when it is its turn."""
        begun, self._begun = self._begun, None
        if begun is not None and begun[0] == records.tobytes():
            return begun[1].result()
        return _load(self._examples, records)
