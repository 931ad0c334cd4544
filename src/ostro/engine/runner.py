"""`ModelRunner`: from the scheduler's chunks to arrays, through the model, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ostro.config import ModelConfig
from ostro.engine.scheduler import Chunk
from ostro.models import llama
from ostro.ops.base import Array, Ops
from ostro.ops.batch import ForwardBatch, Int32
from ostro.ops.lora import LoraOps

Float32 = npt.NDArray[np.float32]


class ModelRunner:
    """A model on a backend with a K/V pool of `num_blocks` blocks of `block_size` tokens.

    `adapted` are the weights with adapters over them (`ostro.models.adapters`), for steps that have rows of one.
    """

    def __init__(
        self,
        ops: Ops,
        config: ModelConfig,
        weights: llama.LlamaWeights,
        *,
        num_blocks: int,
        block_size: int,
        kv_dtype: str,
        adapted: llama.LlamaWeights | None = None,
    ) -> None:
        self._ops = ops
        self._config = config
        self._weights = weights
        self._adapted = adapted
        self.pool = ops.kv_pool(
            config.num_hidden_layers, num_blocks, block_size, config.num_key_value_heads, config.head_dim, kv_dtype
        )

    def forward(self, batch: ForwardBatch) -> Array:
        """Compute the batch and store its K/V; the hidden states of `batch.logit_rows`: (R, D)."""
        config = self._config
        ops, weights = self._of(batch.owners)

        def attend(layer: int, q: Array, k: Array, v: Array) -> Array:
            return self._ops.attention(q, k, v, self.pool, layer, batch, config.sliding_windows[layer])

        hidden = llama.hidden_states(ops, config, weights, batch.token_ids, batch.positions, attend)
        return hidden if len(batch.logit_rows) == len(batch.token_ids) else hidden[batch.logit_rows]

    def logits(self, hidden: Array, owners: Int32 | None = None) -> Float32:
        """Scores over the vocabulary for hidden states (R, D) of rows with `owners` (R,) as in a batch: (R, V)."""
        ops, weights = self._of(owners)
        return self.to_numpy(llama.logits(ops, weights, hidden))

    def _of(self, owners: Int32 | None) -> tuple[Ops, llama.LlamaWeights]:
        """Operations and weights for rows with these owners."""
        if owners is None:
            return self._ops, self._weights
        assert self._adapted is not None
        return LoraOps(self._ops, owners), self._adapted

    def to_numpy(self, x: Array) -> Float32:
        """Rows of the backend as a NumPy array."""
        return self._ops.to_numpy(x)


def owners_of(chunks: Sequence[Chunk], num_rows: Sequence[int]) -> Int32 | None:
    """The numbers of the adapters of the chunks' rows, `num_rows[i]` of chunk i; None where all are the base's."""
    if all(chunk.sequence.adapter < 0 for chunk in chunks):
        return None
    return np.repeat(np.array([chunk.sequence.adapter for chunk in chunks], dtype=np.int32), num_rows)


def forward_batch(chunks: Sequence[Chunk], num_logit_rows: Sequence[int], block_size: int) -> ForwardBatch:
    """The chunks as arrays; `num_logit_rows[i]` rows at the end of chunk i give logits (0, 1 or all of them).

    Plain lists are filled and made arrays at the end: for the few rows of a decoding step that takes half the time.
    """
    token_ids: list[int] = []
    positions: list[int] = []
    row_starts = [0]
    slots: list[int] = []
    logit_rows: list[int] = []
    for chunk, wanted in zip(chunks, num_logit_rows, strict=True):
        token_ids += chunk.token_ids
        positions += range(chunk.start, chunk.start + chunk.count)
        slots += _slots(chunk, block_size)
        row_starts.append(len(positions))
        logit_rows += range(len(positions) - wanted, len(positions))
    tables, table_starts = _tables(chunks)
    return ForwardBatch(
        token_ids=np.array(token_ids, dtype=np.int32),
        positions=np.array(positions, dtype=np.int32),
        row_starts=np.array(row_starts, dtype=np.int32),
        slots=np.array(slots, dtype=np.int64),
        block_tables=tables,
        table_starts=table_starts,
        logit_rows=np.array(logit_rows, dtype=np.int32),
        owners=owners_of(chunks, [chunk.count for chunk in chunks]),
    )


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


def _slots(chunk: Chunk, block_size: int) -> list[int]:
    """Where the K/V of every row of the chunk goes."""
    cache = chunk.sequence.cache
    assert cache is not None
    slots: list[int] = []
    position, end = chunk.start, chunk.start + chunk.count
    while position < end:
        logical, offset = divmod(position, block_size)
        count = min(block_size - offset, end - position)
        first = cache.blocks[logical - cache.first_block] * block_size + offset
        slots += range(first, first + count)
        position += count
    return slots
