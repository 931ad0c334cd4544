"""The reference backend: every op in a few lines of NumPy, float32 throughout.

It is the definition that the other backends are compared with, and what runs where no compiled kernels are.
Shape letters are those of `ostro.ops.base`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ostro.checkpoint.tensors import Tensor
from ostro.ops.base import ArrayKVPool, Expert
from ostro.ops.batch import ForwardBatch, Int32
from ostro.ops.dtypes import numpy_dtype
from ostro.ops.int8_kv import Int8Array
from ostro.ops.unfused import Unfused

Float32 = npt.NDArray[np.float32]


class ReferenceOps(Unfused):
    """`Ops` in plain NumPy."""

    name = "reference"
    identity = f"reference, numpy {np.__version__}"
    row_independent = False  # BLAS may sum a row of many in another order than a row alone

    def weight(self, tensor: Tensor) -> Tensor:
        """The tensor itself: it stays in its file's form and is widened to float32 where it is used."""
        return tensor

    def embedding(self, table: Tensor, token_ids: Int32) -> Float32:
        """(V, D)[(T,)] -> (T, D)."""
        return widen(table[token_ids]) if isinstance(table, np.ndarray) else table.row_values(token_ids)

    def rms_norm(self, x: Float32, weight: Tensor, eps: float) -> Float32:
        """x / sqrt(mean(x^2) + eps) * weight."""
        mean_square = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
        normed: Float32 = x / np.sqrt(mean_square + np.float32(eps))
        return normed * widen(weight)

    def linear(self, x: Float32, weight: Tensor) -> Float32:
        """(T, K) x (N, K) -> (T, N)."""
        y: Float32 = x @ widen(weight).T
        return y

    def rope_table(self, positions: Int32, inv_freq: Float32) -> tuple[Float32, Float32]:
        """cos and sin, each (T, d/2); the angle is the float32 product, as the models were trained with."""
        angle = (positions.astype(np.float32)[:, None] * inv_freq).astype(np.float64)
        return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)

    def rotary(self, x: Float32, table: tuple[Float32, Float32], num_heads: int) -> Float32:
        """Rotate the pairs (i, i + d/2) of each head."""
        cos, sin = (t[:, None, :] for t in table)
        first, second = np.split(x.reshape(len(x), num_heads, -1), 2, axis=-1)
        rotated = np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
        return rotated.reshape(x.shape)

    def kv_pool(
        self, num_layers: int, num_blocks: int, block_size: int, num_kv_heads: int, head_dim: int, dtype: str
    ) -> ArrayKVPool:
        """Zeroed arrays; the system gives the pages when they are first written."""
        shape = (num_layers, num_blocks, block_size, num_kv_heads, head_dim)
        if dtype == "int8":
            return ArrayKVPool(Int8Array(shape), Int8Array(shape))
        return ArrayKVPool(np.zeros(shape, numpy_dtype(dtype)), np.zeros(shape, numpy_dtype(dtype)))

    def attention(
        self,
        q: Float32,
        k: Float32,
        v: Float32,
        pool: ArrayKVPool,
        layer: int,
        batch: ForwardBatch,
        window: int | None,
    ) -> Float32:
        """Store, then attend sequence after sequence."""
        _, _, _, num_kv_heads, head_dim = pool.keys.shape
        blocks, offsets = np.divmod(batch.slots, pool.block_size)
        pool.keys[layer, blocks, offsets] = k.reshape(len(k), num_kv_heads, head_dim)
        pool.values[layer, blocks, offsets] = v.reshape(len(v), num_kv_heads, head_dim)
        out = np.empty_like(q)
        for s in range(len(batch.row_starts) - 1):
            rows = slice(batch.row_starts[s], batch.row_starts[s + 1])
            first = int(batch.table_starts[s]) * pool.block_size
            table = batch.block_tables[s]
            table = table[table >= 0]
            keys = pool.keys[layer, table].astype(np.float32).reshape(-1, num_kv_heads, head_dim)
            values = pool.values[layer, table].astype(np.float32).reshape(-1, num_kv_heads, head_dim)
            out[rows] = attend(q[rows], keys, values, batch.positions[rows], first, window)
        return out

    def swiglu(self, gate: Float32, up: Float32) -> Float32:
        """silu(gate) * up, by tanh because exp would overflow for very negative gates."""
        half = np.float32(0.5)
        sigmoid: Float32 = half * np.tanh(half * gate) + half
        return gate * sigmoid * up

    def moe(self, x: Float32, router: Tensor, experts: Sequence[Expert], num_experts_per_tok: int) -> Float32:
        """Each expert runs once over the tokens that chose it; sums run in ascending order of experts."""
        chosen, weights = route(self.linear(x, router), num_experts_per_tok)
        out = np.zeros_like(x)
        for index, (gate, up, down) in enumerate(experts):
            rows, place = np.nonzero(chosen == index)
            if len(rows):
                h = x[rows]
                y = self.linear(self.swiglu(self.linear(h, gate), self.linear(h, up)), down)
                out[rows] += weights[rows, place, None] * y
        return out

    def vector(self, tensor: Tensor) -> Float32:
        """The tensor in float32."""
        return widen(tensor)

    def layer_norm(self, x: Float32, weight: Float32, bias: Float32, eps: float) -> Float32:
        """(x - mean) / sqrt(variance + eps) * weight + bias."""
        centred: Float32 = x - x.mean(axis=-1, keepdims=True, dtype=np.float32)
        variance = np.mean(np.square(centred), axis=-1, keepdims=True, dtype=np.float32)
        normed: Float32 = centred / np.sqrt(variance + np.float32(eps))
        return normed * weight + bias

    def gelu(self, x: Float32) -> Float32:
        """x / 2 * (1 + erf(x / sqrt(2)))."""
        half: Float32 = (0.5 * _erfc(-x * math.sqrt(0.5))).astype(np.float32)
        return x * half

    def encoder_attention(
        self, q: Float32, k: Float32, v: Float32, row_starts: Int32, num_heads: int, bias: Float32 | None
    ) -> Float32:
        """Text after text."""
        out = np.empty_like(q)
        for first, end in itertools.pairwise(row_starts.tolist()):
            rows = slice(first, end)
            out[rows] = attend_all(q[rows], k[rows], v[rows], num_heads, bias)
        return out

    def to_numpy(self, x: Float32) -> Float32:
        """x itself."""
        return x


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def widen(weight: Tensor) -> Float32:
    """A weight of any stored form as float32."""
    if not isinstance(weight, np.ndarray):
        return weight.dequantize()
    wide: Float32 = weight.astype(np.float32, copy=False)
    return wide


def route(scores: Float32, num_experts_per_tok: int) -> tuple[npt.NDArray[np.intp], Float32]:
    """The experts of each token, best first, and their softmax weights: both (T, num_experts_per_tok)."""
    chosen = np.argsort(-scores, axis=-1, kind="stable")[:, :num_experts_per_tok]
    best = np.take_along_axis(scores, chosen, axis=-1)
    weights = np.exp(best - best[:, :1])
    return chosen, weights / weights.sum(axis=-1, keepdims=True)


def attend(q: Float32, keys: Float32, values: Float32, positions: Int32, first: int, window: int | None) -> Float32:
    """Causal, windowed, grouped-query attention of q (T, H*d) over keys and values (P, G, d) at positions first + p."""
    _, num_kv_heads, head_dim = keys.shape
    grouped = q.reshape(len(q), num_kv_heads, -1, head_dim)
    scores = np.einsum("tghd,pgd->tghp", grouped, keys) * np.float32(head_dim**-0.5)
    distance = positions[:, None] - (first + np.arange(len(keys)))[None, :]
    seen: npt.NDArray[np.bool_] = (distance >= 0) & (distance < (window or np.iinfo(np.int64).max))
    scores = np.where(seen[:, None, None, :], scores, np.float32(-np.inf))
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    # Slots behind the end of a sequence may hold anything, NaN included; 0 * NaN must not reach the sum.
    values = np.where(np.logical_or.reduce(seen, axis=0)[:, None, None], values, np.float32(0))
    out: Float32 = np.einsum("tghp,pgd->tghd", weights, values).reshape(q.shape)
    return out


def attend_all(q: Float32, k: Float32, v: Float32, num_heads: int, bias: Float32 | None) -> Float32:
    """Attention of every row to all rows of one text, q, k and v (T, H * d); `bias` as in `Ops.encoder_attention`."""
    length = len(q)
    queries, keys, values = (x.reshape(length, num_heads, -1).swapaxes(0, 1) for x in (q, k, v))
    scores = queries @ keys.swapaxes(1, 2) * np.float32(queries.shape[2] ** -0.5)
    if bias is not None:
        distance = np.arange(length)[None, :] - np.arange(length)[:, None]
        scores = scores + bias[:, distance + (bias.shape[1] - 1) // 2]
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    out: Float32 = (weights @ values).swapaxes(0, 1).reshape(q.shape)
    return out
