"""The order of the data: packed rows, exact resumption, shares of several processes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostro.errors import CheckpointError, DataError
from ostro.finetune.example_sets import ExampleSet
from ostro.finetune.examples import Example
from ostro.finetune.packing import PackedBatches, Rows, pack, rows_of
from ostro.finetune.records import TextRecord

LENGTHS = st.lists(st.lists(st.integers(2, 12), max_size=2), min_size=1, max_size=30)


def example(record: int, number: int, length: int) -> Example:
    """Its tokens say which it is: record, then number, then positions."""
    ids = np.arange(length, dtype=np.int32) + 100 * (record + 1) + 5000 * number
    mask = np.ones(length, np.bool_)
    mask[0] = False
    return Example(ids, mask, f"record {record}")


def a_set(lengths: Sequence[Sequence[int]], **options: Any) -> ExampleSet:
    records = [TextRecord(str(index), f"record {index}") for index in range(len(lengths))]

    def encode(record: Any) -> tuple[Example, ...]:
        index = int(record.text)
        return tuple(example(index, number, length) for number, length in enumerate(lengths[index]))

    return ExampleSet(records, encode, **{"fingerprint": "f", **options})


def batches(lengths: Sequence[Sequence[int]], **options: Any) -> PackedBatches[Rows]:
    given = {"rows_per_batch": 2, "max_length": 12, "window_size": 8, "prefetch": False, **options}
    return PackedBatches(a_set(lengths), lambda rows: rows, **given)


def sequences(rows: Rows) -> list[tuple[int, ...]]:
    """The sequences of a batch, cut where positions begin again, and without the padding."""
    found = []
    for ids, positions, weights in zip(rows.token_ids, rows.position_ids, rows.loss_weights, strict=True):
        starts = [*np.flatnonzero(positions == 0), len(ids)]
        for start, end in itertools.pairwise(starts):
            length = 1 + int(weights[start + 1 : end].sum())
            assert weights[start] == 0
            assert weights[start + 1 : start + length].all(), "padding stands at the right"
            assert not ids[start + length : end].any()
            assert positions[start:end].tolist() == list(range(end - start))
            found.append(tuple(ids[start : start + length].tolist()))
    return found


@given(lengths=st.lists(st.integers(1, 20), max_size=60))
def test_packing_places_everything_once_and_leaves_no_two_rows_that_would_fit_in_one(lengths: list[int]) -> None:
    rows = pack(lengths, 20)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    sums = sorted(sum(lengths[index] for index in row) for row in rows)
    assert all(0 < total <= 20 for total in sums)
    assert len(sums) < 2 or sums[0] + sums[1] > 20


def test_rows_that_can_be_filled_are_filled() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 400, 4096).tolist()
    rows = pack(lengths, 2048)
    assert sum(lengths) / (len(rows) * 2048) > 0.99


@given(lengths=LENGTHS, packing=st.booleans(), shuffle=st.booleans(), seed=st.integers(0, 3))
def test_an_epoch_has_every_example_once(lengths: list[list[int]], packing: bool, shuffle: bool, seed: int) -> None:
    if not any(lengths):
        return
    drawn = batches(lengths, packing=packing, shuffle=shuffle, seed=seed)
    expected = Counter(
        tuple(example(i, n, length).token_ids.tolist())
        for i, each in enumerate(lengths)
        for n, length in enumerate(each)
    )
    for epoch in range(2):
        rows = [drawn.next() for _ in range(drawn.num_batches(epoch))]
        # A window at the end all of whose records were dropped is passed over by the next batch only.
        assert drawn.epoch == epoch + 1 or (not any(lengths[8 * ((len(lengths) - 1) // 8) :]) or shuffle)
        assert epoch < drawn.epoch <= epoch + 1
        assert Counter(sequence for each in rows for sequence in sequences(each)) == expected
        numbers = sorted({number for each in rows for row in each.records for number in row})
        assert numbers == [i for i, each in enumerate(lengths) if each]
        assert all(len(each.token_ids) == 2 for each in rows[:-1])
    if not packing and not shuffle:
        in_order = [sequence for each in rows for sequence in sequences(each)]
        assert in_order == sorted(in_order, key=lambda ids: (ids[0] % 5000, ids[0]))


@given(lengths=LENGTHS, drawn=st.integers(0, 12), packing=st.booleans(), prefetch=st.booleans())
@settings(max_examples=40)
def test_going_on_from_a_state_is_exact(lengths: list[list[int]], drawn: int, packing: bool, prefetch: bool) -> None:
    if not any(lengths):
        return
    options = {"packing": packing, "prefetch": prefetch, "seed": 5}
    first = batches(lengths, **options)
    for _ in range(drawn):
        first.next()
    second = batches(lengths, **options)
    second.restore(first.state())
    assert second.epoch == pytest.approx(first.epoch, abs=1)
    for _ in range(4):
        one, other = first.next(), second.next()
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in Rows.__slots__[:3])
        assert one.records == other.records
        assert first.state() == second.state()
    assert first.epoch == second.epoch


@given(lengths=LENGTHS, size=st.integers(2, 4), packing=st.booleans())
@settings(max_examples=40)
def test_the_shares_of_processes_are_the_batch_of_one(lengths: list[list[int]], size: int, packing: bool) -> None:
    if not any(lengths):
        return
    shares = [batches(lengths, packing=packing, rank=rank, world_size=size) for rank in range(size)]
    whole = batches(lengths, packing=packing, rows_per_batch=2 * size)
    for _ in range(whole.num_batches(0) + 1):
        parts, one = [share.next() for share in shares], whole.next()
        assert [row for part in parts for row in part.records if row] == list(one.records)
        assert [s for part in parts for s in sequences(part) if len(s) > 1] == sequences(one)
        assert all(len(part.token_ids) >= 1 for part in parts)
    assert {share.num_batches(1) for share in shares} == {whole.num_batches(1)}


def test_another_seed_is_another_order_and_every_epoch_its_own() -> None:
    lengths = [[3]] * 40
    orders = []
    for seed in (0, 1):
        drawn = batches(lengths, packing=False, seed=seed)
        for _ in range(2):
            orders.append([drawn.next().records for _ in range(drawn.per_epoch)])
    assert all(one != other for one, other in itertools.combinations(orders, 2))


def test_rows_of_like_length_stand_together_without_packing() -> None:
    lengths = [[n] for n in np.random.default_rng(0).integers(2, 12, 64).tolist()]
    drawn = batches(lengths, packing=False, rows_per_batch=8, window_size=64)
    padded = sum(drawn.next().token_ids.size for _ in range(drawn.per_epoch))
    assert padded < 1.15 * sum(length for (length,) in lengths)


def test_pairs_stay_together_and_are_never_packed() -> None:
    lengths = [[3, 5], [], [4, 2], [6, 6]]
    drawn = PackedBatches(a_set(lengths, are_pairs=True), lambda rows: rows, rows_per_batch=2, max_length=12)
    assert drawn.packing is False
    rows = [drawn.next() for _ in range(drawn.per_epoch)]
    assert [len(each.token_ids) for each in rows] == [4, 2]
    for each in rows:
        for number, record in enumerate(each.records):
            assert sequences(each)[number][0] == 100 * (record[0] + 1) + 5000 * (number % 2)
        assert each.records[::2] == each.records[1::2]
    alone = PackedBatches(
        a_set([[3, 5]], are_pairs=True), lambda r: r, rows_per_batch=1, max_length=12, rank=1, world_size=2
    )
    nothing = alone.next()
    assert nothing.records == ((), ())
    assert not nothing.loss_weights.any()


def test_padding_goes_on_with_the_positions_of_its_row() -> None:
    rows = rows_of([[example(0, 0, 2), example(1, 0, 3)], [example(2, 0, 2)]], [(0, 1), (2,)], pad_id=9)
    assert rows.token_ids.tolist() == [[100, 101, 200, 201, 202], [300, 301, 9, 9, 9]]
    assert rows.position_ids.tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 3, 4]]
    assert rows.loss_weights.tolist() == [[0, 1, 0, 1, 1], [0, 1, 0, 0, 0]]


def test_what_cannot_be_gone_on_with_is_refused() -> None:
    state = batches([[3]] * 4).state()
    with pytest.raises(CheckpointError, match="data whose seed is 0, and now it is 1"):
        batches([[3]] * 4, seed=1).restore(state)
    other = PackedBatches(a_set([[3]], fingerprint="g"), lambda r: r, rows_per_batch=2, max_length=12, window_size=8)
    with pytest.raises(CheckpointError, match="data whose fingerprint is 'f', and now it is 'g'"):
        other.restore(state)


def test_sets_of_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="no record to train on"):
        batches([])
    with pytest.raises(DataError, match="All 3 records were dropped as too long: raise max_length"):
        batches([[], [], []]).next()
    with pytest.raises(DataError, match="rows_per_batch is 0"):
        batches([[3]], rows_per_batch=0)


def test_an_error_of_a_record_comes_when_its_window_is_due() -> None:
    def encode(record: Any) -> tuple[Example, ...]:
        if record.text == "9":
            raise DataError("record 9 is wrong.")
        return (example(int(record.text), 0, 4),)

    records = [TextRecord(str(index), "") for index in range(16)]
    drawn = PackedBatches(
        ExampleSet(records, encode), lambda r: r, rows_per_batch=8, max_length=4, window_size=8, shuffle=False
    )
    assert len(drawn.next().token_ids) == 8
    with pytest.raises(DataError, match="record 9 is wrong"):
        drawn.next()
