"""The cpu backend's promise: a row's bits are the same in any company, chunk and layout, on any number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from op_data import KINDS, floats, odd_columns, same_bits, stored
from paged_batches import Table, paged_batch, scattered_tables

from ostro.ops.cpu import CpuOps
from ostro.ops.dtypes import DTYPES

Float32 = npt.NDArray[np.float32]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(41)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_linear_do_not_depend_on_company(isa: str, kind: str, rng: np.random.Generator) -> None:
    for cols in odd_columns(kind)[1:]:
        weight = stored(rng, kind, 61, cols)
        x = floats(rng, 135, cols)
        alone = [CpuOps(threads) for threads in (1, 2, 3)]
        whole = alone[0].linear(x, alone[0].weight(weight))
        for ops in alone:
            w = ops.weight(weight)
            assert same_bits(ops.linear(x, w), whole)
            for start, end in ((0, 1), (3, 5), (4, 7), (9, 13), (20, 37), (34, 67), (130, 135)):
                assert same_bits(ops.linear(x[start:end], w), whole[start:end])


def test_large_linear_uses_threads_and_keeps_its_bits(isa: str, rng: np.random.Generator) -> None:
    weight, x = stored(rng, "bfloat16", 700, 512), floats(rng, 5, 512)
    results = [CpuOps(threads).linear(x, CpuOps(1).weight(weight)) for threads in (1, 2, 3, 1, 2)]
    assert all(same_bits(result, results[0]) for result in results)


def test_rows_of_other_ops_do_not_depend_on_company(isa: str, rng: np.random.Generator) -> None:
    one, two = CpuOps(1), CpuOps(2)
    x, up = floats(rng, 300, 131), floats(rng, 300, 131)
    norm = one.weight(floats(rng, 131))
    router = one.weight(floats(rng, 8, 131))
    experts = [tuple(one.weight(floats(rng, *s)) for s in ((40, 131), (40, 131), (131, 40))) for _ in range(8)]
    positions, frequencies = np.arange(300, dtype=np.int32), floats(rng, 33)
    table = one.rope_table(positions, frequencies)
    assert same_bits(table, two.rope_table(positions, frequencies))
    calls: list[Any] = [
        lambda ops, rows: ops.rms_norm(x[rows], norm, 1e-5),
        lambda ops, rows: ops.swiglu(x[rows], up[rows]),
        lambda ops, rows: ops.moe(x[rows], router, experts, 2),
        lambda ops, rows: ops.rotary(x[rows, :66].copy(), table[:, rows].copy(), 1),
    ]
    for call in calls:
        whole = call(two, slice(0, 300))
        assert same_bits(call(one, slice(0, 300)), whole)
        for rows in (slice(0, 1), slice(7, 9), slice(100, 217), slice(299, 300)):
            assert same_bits(call(one, rows), whole[rows])
            assert same_bits(call(two, rows), whole[rows])


# Attention: one sequence through many chunkings, layouts and companies.

NUM_HEADS, NUM_KV_HEADS, HEAD_DIM = 6, 2, 20
LENGTH = 150


class Inputs:
    """Random q, k, v of LENGTH positions."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.q = 3 * floats(rng, LENGTH, NUM_HEADS * HEAD_DIM)
        self.k = floats(rng, LENGTH, NUM_KV_HEADS * HEAD_DIM)
        self.v = floats(rng, LENGTH, NUM_KV_HEADS * HEAD_DIM)


def attend_in_steps(
    ops: CpuOps,
    sequences: Sequence[Inputs],
    steps: Sequence[Sequence[tuple[int, int]]],
    *,
    tables: Sequence[Table],
    num_blocks: int,
    block_size: int,
    dtype: str,
    window: int | None,
    rolling: bool = False,
) -> list[Float32]:
    """The outputs of each sequence, all its positions joined. Memory that no one has written holds NaN."""
    pool = ops.kv_pool(1, num_blocks, block_size, NUM_KV_HEADS, HEAD_DIM, dtype)
    pool.keys.fill(0xFF)
    pool.values.fill(0xFF)
    outs: list[list[Float32]] = [[] for _ in sequences]
    for spans in steps:
        batch = paged_batch(spans, tables, block_size, window if rolling else None)
        q, k, v = (
            np.concatenate([getattr(s, name)[a:b] for s, (a, b) in zip(sequences, spans, strict=True)])
            for name in ("q", "k", "v")
        )
        out = ops.attention(q, k, v, pool, 0, batch, window)
        for mine, a, b in zip(outs, batch.row_starts[:-1], batch.row_starts[1:], strict=True):
            mine.append(out[a:b])
    return [np.concatenate(mine) for mine in outs]


def chunks(*ends: int) -> list[list[tuple[int, int]]]:
    return [[(a, b)] for a, b in zip((0, *ends), (*ends, LENGTH), strict=True)]


@pytest.mark.parametrize("window", [None, 1, 37, 64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_does_not_depend_on_chunks_layout_or_threads(
    isa: str, dtype: str, window: int | None, rng: np.random.Generator
) -> None:
    sequence = Inputs(rng)
    expected = None
    for steps in (chunks(), chunks(*range(1, LENGTH)), chunks(64, 65, 128), chunks(3, 10, 11, 100), chunks(149)):
        for block_size, threads in ((1, 2), (4, 1), (7, 3), (16, 2), (256, 1)):
            for rolling in {False, window is not None}:
                tables, num_blocks = scattered_tables([LENGTH], block_size, rng)
                out = attend_in_steps(
                    CpuOps(threads), [sequence], steps, tables=tables, num_blocks=num_blocks, block_size=block_size,
                    dtype=dtype, window=window, rolling=rolling,
                )[0]  # fmt: skip
                assert np.isfinite(out).all()
                expected = out if expected is None else expected
                assert same_bits(out, expected)


def test_attention_does_not_depend_on_other_sequences(isa: str, rng: np.random.Generator) -> None:
    sequences = [Inputs(rng) for _ in range(3)]
    sequences[1].v[5] = np.inf  # one sequence's overflow stays its own
    sequences[2].k[:] = np.nan
    tables, num_blocks = scattered_tables([LENGTH] * 3, 8, rng)
    options: dict[str, Any] = {"num_blocks": num_blocks, "block_size": 8, "dtype": "float16", "window": 50}
    steps = [[(0, 60), (0, 1), (0, 100)], [(60, LENGTH), (1, 9), (100, 101)]]
    together = attend_in_steps(CpuOps(2), sequences, steps, tables=tables, **options)
    alone = attend_in_steps(CpuOps(1), sequences[:1], chunks(), tables=tables[:1], **options)
    assert same_bits(together[0], alone[0])
    assert np.isfinite(together[1][:5]).all()
    assert not np.isfinite(together[1][5:]).all()
