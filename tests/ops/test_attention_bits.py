"""Attention of the cpu backend: a row has the same bits in any company, chunk and layout, on any number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from op_data import floats, same_bits
from paged_batches import Table, paged_batch, scattered_tables

from ostro.config.kv import KV_DTYPES
from ostro.ops.cpu import CpuOps

Float32 = npt.NDArray[np.float32]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(41)


@dataclass(frozen=True)
class Shape:
    """Of one sequence."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    length: int


SHORT = Shape(6, 2, 20, 150)
LONG = Shape(4, 1, 32, 1200)  # several spans, which threads share; panels that are read in the pool


class Inputs:
    """Random q, k, v of all positions."""

    def __init__(self, rng: np.random.Generator, shape: Shape) -> None:
        self.q = 3 * floats(rng, shape.length, shape.num_heads * shape.head_dim)
        self.k = floats(rng, shape.length, shape.num_kv_heads * shape.head_dim)
        self.v = floats(rng, shape.length, shape.num_kv_heads * shape.head_dim)


def attend_in_steps(
    ops: CpuOps,
    shape: Shape,
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
    pool = ops.kv_pool(1, num_blocks, block_size, shape.num_kv_heads, shape.head_dim, dtype)
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


def chunks(shape: Shape, *ends: int) -> list[list[tuple[int, int]]]:
    return [[(a, b)] for a, b in zip((0, *ends), (*ends, shape.length), strict=True)]


@pytest.mark.parametrize("window", [None, 1, 37, 64])
@pytest.mark.parametrize("dtype", KV_DTYPES)
def test_bits_do_not_depend_on_chunks_layout_or_threads(
    isa: str, dtype: str, window: int | None, rng: np.random.Generator
) -> None:
    sequence = Inputs(rng, SHORT)
    expected = None
    cuts = (chunks(SHORT, *ends) for ends in ((), range(1, SHORT.length), (64, 65, 128), (3, 10, 11, 100), (149,)))
    for steps in cuts:
        for block_size, threads in ((1, 2), (4, 1), (7, 3), (16, 2), (256, 1)):
            for rolling in {False, window is not None}:
                tables, num_blocks = scattered_tables([SHORT.length], block_size, rng)
                out = attend_in_steps(
                    CpuOps(threads), SHORT, [sequence], steps, tables=tables, num_blocks=num_blocks,
                    block_size=block_size, dtype=dtype, window=window, rolling=rolling,
                )[0]  # fmt: skip
                assert np.isfinite(out).all()
                expected = out if expected is None else expected
                assert same_bits(out, expected)


@pytest.mark.parametrize("window", [None, 600])
@pytest.mark.parametrize("dtype", KV_DTYPES)
def test_bits_of_long_texts(isa: str, dtype: str, window: int | None, rng: np.random.Generator) -> None:
    sequence = Inputs(rng, LONG)
    expected = None
    for ends, block_size, threads in (
        ((), 16, 1),
        ((), 7, 2),
        ((511, 512, 513, 1030), 256, 3),
        (range(1000, LONG.length), 16, 2),
        (range(1, LONG.length, 5), 48, 3),
    ):
        for rolling in {False, window is not None}:
            tables, num_blocks = scattered_tables([LONG.length], block_size, rng)
            out = attend_in_steps(
                CpuOps(threads), LONG, [sequence], chunks(LONG, *ends), tables=tables, num_blocks=num_blocks,
                block_size=block_size, dtype=dtype, window=window, rolling=rolling,
            )[0]  # fmt: skip
            assert np.isfinite(out).all()
            expected = out if expected is None else expected
            assert same_bits(out, expected)


@pytest.mark.parametrize("dtype", KV_DTYPES)
def test_bits_do_not_depend_on_other_sequences(isa: str, dtype: str, rng: np.random.Generator) -> None:
    sequences = [Inputs(rng, SHORT) for _ in range(3)]
    sequences[1].v[5] = np.inf  # one sequence's overflow stays its own
    sequences[2].k[:] = np.nan
    tables, num_blocks = scattered_tables([SHORT.length] * 3, 8, rng)
    options: dict[str, Any] = {"num_blocks": num_blocks, "block_size": 8, "dtype": dtype, "window": 50}
    steps = [[(0, 60), (0, 1), (0, 100)], [(60, SHORT.length), (1, 9), (100, 101)]]
    together = attend_in_steps(CpuOps(2), SHORT, sequences, steps, tables=tables, **options)
    alone = attend_in_steps(CpuOps(1), SHORT, sequences[:1], chunks(SHORT), tables=tables[:1], **options)
    assert same_bits(together[0], alone[0])
    assert np.isfinite(together[1][:5]).all()
    assert not np.isfinite(together[1][5:]).all()
