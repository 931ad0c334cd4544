"""Run a model over one whole sequence without an engine: one chunk, one table, all rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ostro.config import ModelConfig
from ostro.models import llama
from ostro.ops.base import Ops
from ostro.ops.batch import ForwardBatch


def whole_batch(num_tokens: int, token_ids: npt.NDArray[np.int32], block_size: int = 4) -> ForwardBatch:
    """The batch of one sequence from position 0; blocks lie in reverse, so that a table that is ignored shows."""
    num_blocks = -(-num_tokens // block_size)
    table = np.arange(num_blocks, dtype=np.int32)[::-1].copy()
    positions = np.arange(num_tokens, dtype=np.int32)
    return ForwardBatch(
        token_ids=token_ids,
        positions=positions,
        row_starts=np.array([0, num_tokens], dtype=np.int32),
        slots=(table[positions // block_size].astype(np.int64) * block_size + positions % block_size),
        block_tables=table[None, :],
        table_starts=np.zeros(1, dtype=np.int32),
        logit_rows=positions,
    )


def dense_logits(ops: Ops, config: ModelConfig, weights: llama.LlamaWeights, ids: list[int]) -> npt.NDArray[np.float32]:
    """Logits (T, V) of one sequence, float32 K/V."""
    return ops.to_numpy(llama.logits(ops, weights, _hidden(ops, config, weights, ids)))


def dense_hidden(ops: Ops, config: ModelConfig, weights: llama.LlamaWeights, ids: list[int]) -> npt.NDArray[np.float32]:
    """Final, normed hidden states (T, D) of one sequence, float32 K/V."""
    return ops.to_numpy(_hidden(ops, config, weights, ids))


def _hidden(ops: Ops, config: ModelConfig, weights: llama.LlamaWeights, ids: list[int]) -> Any:
    token_ids = np.asarray(ids, dtype=np.int32)
    batch = whole_batch(len(ids), token_ids)
    pool = ops.kv_pool(
        config.num_hidden_layers, batch.block_tables.shape[1], 4, config.num_key_value_heads, config.head_dim, "float32"
    )

    def attend(layer: int, q: Any, k: Any, v: Any) -> Any:
        return ops.attention(q, k, v, pool, layer, batch, config.sliding_windows[layer])

    return llama.hidden_states(ops, config, weights, token_ids, batch.positions, attend)
