"""`ForwardBatch`: the rows of one step and where their K/V lives.

Shapes: T rows (tokens) in all, S sequences, B blocks in the longest table, R rows whose logits are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ForwardBatch:
    """One step of the engine as arrays; a prefill chunk, decodes and any mixture of them look alike."""

    token_ids: Int32
    """(T,) the tokens, sequence after sequence."""
    positions: Int32
    """(T,) absolute position of each row in its sequence; consecutive within a sequence."""
    row_starts: Int32
    """(S + 1,) the rows of sequence s are row_starts[s] : row_starts[s + 1]."""
    slots: Int64
    """(T,) where the K/V of each row is stored: physical block * block_size + offset."""
    block_tables: Int32
    """(S, B) physical block of each logical block, beginning at `table_starts[s]`; -1 behind the end."""
    table_starts: Int32
    """(S,) logical index of the first entry of each table: above 0 once a rolling window has freed older blocks."""
    logit_rows: Int32
    """(R,) rows whose logits are wanted, in ascending order."""
    owners: Int32 | None = None
    """(T,) the number of each row's adapter, -1 for the base model; None: all rows are the base's."""
