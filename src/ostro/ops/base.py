"""The few array operations that a Mistral or Llama decoder needs, and three more for encoders of embedding models.

Shape letters: T rows (tokens), D hidden size, N outputs and K inputs of a linear layer, V vocabulary, H heads,
G key/value heads, d head_dim, F feed-forward size, E experts, L layers.

Activations are float32 arrays of the backend (NumPy arrays or torch tensors; torch may hold another float type);
they support `+` and indexing of rows. A weight is whatever `Ops.weight` returned for a checkpoint tensor.
Results of a row never depend on the other rows of the call (bit for bit where
`Ops.row_independent` says so, else to rounding).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ostro.checkpoint.tensors import Tensor
from ostro.ops.batch import ForwardBatch, Int32

Array: TypeAlias = Any
"""A backend's own array."""
Weight: TypeAlias = Any
"""A backend's own form of a weight."""
Expert: TypeAlias = tuple[Weight, Weight, Weight]
"""gate_proj (F, D), up_proj (F, D), down_proj (D, F)."""
Qkv: TypeAlias = tuple[Weight, Weight, Weight]
"""q_proj (H * d, D), k_proj (G * d, D), v_proj (G * d, D)."""


class KVPool(Protocol):
    """K/V of all layers in blocks of `block_size` tokens; made by `Ops.kv_pool`, read by `Ops.attention` alone."""

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""

    @property
    def block_size(self) -> int:
        """Tokens in a block."""

    @property
    def nbytes(self) -> int:
        """Bytes that the pool takes when all of it has been touched."""

    def read_block(self, block: int) -> bytes | memoryview:
        """A copy of K and V of a block, of all layers, in an order of the backend's own."""

    def write_block(self, block: int, data: bytes | memoryview) -> None:
        """Put what `read_block` gave, of this pool or of another of the same model, layout and type, into a block."""


@dataclass(frozen=True, slots=True, eq=False)
class ArrayKVPool:
    """K and V in one array of the backend each, or what stands in for it: (L, num_blocks, block_size, G, d).

    What stands in for an array has `parts`, the arrays that it consists of.
    """

    keys: Array
    values: Array

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        return int(self.keys.shape[1])

    @property
    def block_size(self) -> int:
        """Tokens in a block."""
        return int(self.keys.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes of K and V together."""
        return int(self.keys.nbytes + self.values.nbytes)

    def read_block(self, block: int) -> bytes:
        """K and V of a block: layer after layer of each array."""
        return b"".join(self._bytes_of(part[:, block]) for part in self._parts())

    def write_block(self, block: int, data: bytes | memoryview) -> None:
        """The same back."""
        start = 0
        for part in self._parts():
            end = start + int(part[:, block].nbytes)
            part[:, block] = self._from_bytes(data[start:end], part[:, block])
            start = end
        assert start == len(data)

    def _parts(self) -> list[Array]:
        return [part for side in (self.keys, self.values) for part in getattr(side, "parts", (side,))]

    def _bytes_of(self, array: Array) -> bytes:
        found: bytes = array.tobytes()
        return found

    def _from_bytes(self, data: bytes | memoryview, like: Array) -> Array:
        return np.frombuffer(data, like.dtype).reshape(like.shape)


class Ops(Protocol):
    """One backend."""

    @property
    def name(self) -> str:
        """`reference`, `cpu`, `torch`, ..."""

    @property
    def identity(self) -> str:
        """What the bits of results depend on beside model and input: another value means that they may differ."""

    @property
    def row_independent(self) -> bool:
        """Whether the bits of a row's results never depend on the other rows: speculation is exact only then."""

    def weight(self, tensor: Tensor) -> Weight:
        """The backend's form of a tensor as the checkpoint stores it; copies only where it must."""

    def embedding(self, table: Weight, token_ids: Int32) -> Array:
        """Rows of `table` (V, D) for `token_ids` (T,): (T, D)."""

    def rms_norm(self, x: Array, weight: Weight, eps: float) -> Array:
        """x / sqrt(mean(x^2) + eps) * weight over the last axis; x (T, D), weight (D,)."""

    def linear(self, x: Array, weight: Weight) -> Array:
        """x (T, K) times the transpose of weight (N, K): (T, N)."""

    def rope_table(self, positions: Int32, inv_freq: npt.NDArray[np.float32]) -> Array:
        """cos and sin of float32(position) * inv_freq, made once a step for `rotary`; (T,) and (d/2,)."""

    def rotary(self, x: Array, table: Array, num_heads: int) -> Array:
        """Rotate the pairs (i, i + d/2) of every head of x (T, num_heads * d); may work in place and returns x."""

    def kv_pool(
        self, num_layers: int, num_blocks: int, block_size: int, num_kv_heads: int, head_dim: int, dtype: str
    ) -> KVPool:
        """An empty pool; `dtype` is one of `ostro.config.kv.KV_DTYPES`."""

    def attention(
        self, q: Array, k: Array, v: Array, pool: KVPool, layer: int, batch: ForwardBatch, window: int | None
    ) -> Array:
        """Store k, v (T, G * d) in the pool, then attend with q (T, H * d) over what the pool holds: (T, H * d).

        A row at position p sees positions max(0, p - window + 1) .. p of its own sequence; scores are scaled by
        d**-0.5.
        """

    def qkv(
        self, x: Array, norm: Weight, eps: float, weights: Qkv, rope: Array, num_heads: int, num_kv_heads: int
    ) -> tuple[Array, Array, Array]:
        """q (T, H * d), k and v (T, G * d) of the normed x (T, D), q and k rotated."""

    def logits(self, x: Array, head: Weight) -> Array:
        """`linear` for the output head (V, D), with activations as exact as the backend has them at little cost."""

    def linear_add(self, x: Array, weight: Weight, residual: Array) -> Array:
        """residual (T, N) + x (T, K) times the transpose of weight (N, K)."""

    def feed_forward(self, x: Array, norm: Weight, eps: float, mlp: Expert) -> Array:
        """x (T, D) + down(silu(gate) * up) of the normed x."""

    def swiglu(self, gate: Array, up: Array) -> Array:
        """silu(gate) * up, both (T, F)."""

    def moe(self, x: Array, router: Weight, experts: Sequence[Expert], num_experts_per_tok: int) -> Array:
        """Mixture of experts: x (T, D), router (E, D); a softmax over the chosen experts' logits weighs their SwiGLUs.

        Ties are broken towards the lower expert, and a token's sum runs over its experts in ascending order.
        """

    def vector(self, tensor: Tensor) -> Array:
        """A tensor of one axis as an array of the backend: biases, and both sides of a layer norm."""

    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array:
        """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis; x (T, D), weight and bias (D,)."""

    def gelu(self, x: Array) -> Array:
        """x times the normal distribution function of x (the exact form, by erf); x (T, F)."""

    def encoder_attention(
        self, q: Array, k: Array, v: Array, row_starts: Int32, num_heads: int, bias: npt.NDArray[np.float32] | None
    ) -> Array:
        """Every row of q, k, v (T, H * d) attends to all rows of its own text, before and behind it: (T, H * d).

        The rows of text s are row_starts[s] : row_starts[s + 1]; scores are scaled by d**-0.5. `bias` (H, 2 * M - 1)
        is added to scores, by the distance from query to key plus M - 1; no text has more than M rows.
        """

    def to_numpy(self, x: Array) -> npt.NDArray[np.float32]:
        """x as a float32 NumPy array, for the sampler."""
