"""Batches over a paged pool, with tables in random order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ostro.ops.batch import ForwardBatch

Table = npt.NDArray[np.int32]


def scattered_tables(lengths: Sequence[int], block_size: int, rng: np.random.Generator) -> tuple[list[Table], int]:
    """A table for each sequence of `lengths` tokens, in random order, and the blocks of a pool that holds them all."""
    counts = [-(-length // block_size) for length in lengths]
    num_blocks = sum(counts) + 3
    order = rng.permutation(num_blocks).astype(np.int32)
    ends = np.cumsum(counts)
    return [order[end - count : end] for end, count in zip(ends, counts, strict=True)], num_blocks


def paged_batch(
    spans: Sequence[tuple[int, int]], tables: Sequence[Table], block_size: int, window: int | None = None
) -> ForwardBatch:
    """Positions start .. end - 1 of each sequence; with a window, blocks that no row sees are cut off in front."""
    positions = [np.arange(start, end, dtype=np.int32) for start, end in spans]
    slots = [
        table[p // block_size].astype(np.int64) * block_size + p % block_size
        for p, table in zip(positions, tables, strict=True)
    ]
    starts = np.zeros(len(spans), dtype=np.int32)
    if window is not None:
        starts[:] = [max(0, start - window + 1) // block_size for start, _ in spans]
    shown = [table[first : -(-end // block_size)] for table, first, (_, end) in zip(tables, starts, spans, strict=True)]
    padded = np.full((len(spans), max(map(len, shown))), -1, dtype=np.int32)
    for row, table in zip(padded, shown, strict=True):
        row[: len(table)] = table
    counts = [end - start for start, end in spans]
    return ForwardBatch(
        token_ids=np.zeros(sum(counts), dtype=np.int32),
        positions=np.concatenate(positions),
        row_starts=np.cumsum([0, *counts], dtype=np.int32),
        slots=np.concatenate(slots),
        block_tables=padded,
        table_starts=starts,
        logit_rows=np.zeros(0, dtype=np.int32),
    )
