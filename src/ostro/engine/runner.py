"""`ModelRunner`: from the scheduler's chunks to arrays, through the model, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ostro.config import ModelConfig
from ostro.engine.scheduler import Chunk
from ostro.models import llama
from ostro.ops.base import Array, Ops
from ostro.ops.batch import ForwardBatch, Int32, Int64

Float32 = npt.NDArray[np.float32]


class ModelRunner:
    """A model on a backend with a K/V pool of `num_blocks` blocks of `block_size` tokens."""

    def __init__(
        self,
        ops: Ops,
        config: ModelConfig,
        weights: llama.LlamaWeights,
        *,
        num_blocks: int,
        block_size: int,
        kv_dtype: str,
    ) -> None:
        self._ops = ops
        self._config = config
        self._weights = weights
        self.pool = ops.kv_pool(
            config.num_hidden_layers, num_blocks, block_size, config.num_key_value_heads, config.head_dim, kv_dtype
        )

    def forward(self, batch: ForwardBatch) -> Array:
        """Compute the batch and store its K/V; the hidden states of `batch.logit_rows`: (R, D)."""
        config = self._config

        def attend(layer: int, q: Array, k: Array, v: Array) -> Array:
            return self._ops.attention(q, k, v, self.pool, layer, batch, config.sliding_windows[layer])

        hidden = llama.hidden_states(self._ops, config, self._weights, batch.token_ids, batch.positions, attend)
        return hidden if len(batch.logit_rows) == len(batch.token_ids) else hidden[batch.logit_rows]

    def logits(self, hidden: Array) -> Float32:
        """Scores over the vocabulary for hidden states (R, D): (R, V)."""
        return self._ops.to_numpy(llama.logits(self._ops, self._weights, hidden))


def forward_batch(chunks: Sequence[Chunk], num_logit_rows: Sequence[int], block_size: int) -> ForwardBatch:
    """The chunks as arrays; `num_logit_rows[i]` rows at the end of chunk i give logits (0, 1 or all of them)."""
    counts = np.array([chunk.count for chunk in chunks], dtype=np.int32)
    row_starts = np.zeros(len(chunks) + 1, dtype=np.int32)
    np.cumsum(counts, out=row_starts[1:])
    wanted = [np.arange(end - rows, end) for end, rows in zip(row_starts[1:].tolist(), num_logit_rows, strict=True)]
    tables, table_starts = _tables(chunks)
    positions = np.concatenate([np.arange(c.start, c.start + c.count, dtype=np.int32) for c in chunks])
    return ForwardBatch(
        token_ids=np.concatenate([_token_ids(chunk) for chunk in chunks]),
        positions=positions,
        row_starts=row_starts,
        slots=_slots(tables, table_starts, positions, counts, block_size),
        block_tables=tables,
        table_starts=table_starts,
        logit_rows=np.concatenate(wanted).astype(np.int32),
    )


def _token_ids(chunk: Chunk) -> Int32:
    return np.array(chunk.sequence.token_ids[chunk.start : chunk.start + chunk.count], dtype=np.int32)


def _tables(chunks: Sequence[Chunk]) -> tuple[Int32, Int32]:
    """Block tables, padded with -1, and the logical index at which each begins."""
    caches = [chunk.sequence.cache for chunk in chunks]
    tables = np.full((len(caches), max(len(cache.blocks) for cache in caches if cache)), -1, dtype=np.int32)
    starts = np.zeros(len(caches), dtype=np.int32)
    for row, cache in enumerate(caches):
        assert cache is not None
        tables[row, : len(cache.blocks)] = cache.blocks
        starts[row] = cache.first_block
    return tables, starts


def _slots(tables: Int32, table_starts: Int32, positions: Int32, counts: Int32, block_size: int) -> Int64:
    """Where the K/V of every row goes."""
    sequences = np.repeat(np.arange(len(counts)), counts)
    logical = positions // block_size - table_starts[sequences]
    slots: Int64 = tables[sequences, logical].astype(np.int64) * block_size + positions % block_size
    return slots
