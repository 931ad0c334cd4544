"""The torch backend: the ops of the decoder in PyTorch, on any of its devices, with autograd.

A weight is a tensor, or a module that acts as one: `linear` and `embedding` call a module, so that quantized layers,
adapters and forward hooks take part. Activations have one float type; norms, rotation and routing are computed in
float32 at least. Shape letters are those of `ostro.ops.base`.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ostro.checkpoint.tensors import Tensor
from ostro.errors import BackendError, MissingExtraError
from ostro.ops.base import ArrayKVPool, Expert, KVPool
from ostro.ops.batch import ForwardBatch, Int32
from ostro.ops.dtypes import DTYPES
from ostro.ops.unfused import Unfused

try:
    import torch
    import torch.nn.functional as F

    from ostro.ops.torch_int8_kv import Int8Tensor
except ImportError as error:  # pragma: no cover - the tests have it
    raise MissingExtraError("torch", "torch", "The torch backend") from error

if TYPE_CHECKING:
    Weight = torch.Tensor | torch.nn.Module

_ROWS_AT_ONCE = 1024  # of a packed matrix that are unpacked together: its float32 form is never whole in memory


class TorchKVPool(ArrayKVPool):
    """K and V in tensors."""

    def _bytes_of(self, array: torch.Tensor) -> bytes:
        return array.contiguous().cpu().view(torch.uint8).numpy().tobytes()

    def _from_bytes(self, data: bytes | memoryview, like: torch.Tensor) -> torch.Tensor:
        return torch.frombuffer(bytearray(data), dtype=like.dtype).reshape(like.shape)


class TorchOps(Unfused):
    """`Ops` in PyTorch.

    `device` is "auto" (a CUDA device where there is one, else the CPU), or a name or `torch.device` of PyTorch's.
    `dtype` is the type of weights and activations: "float32", "float16", "bfloat16" or a `torch.dtype`.

    Raises BackendError for a device that is not there and for a dtype that cannot be computed with.
    """

    name = "torch"
    row_independent = False  # its matrix products choose their order of sums by the number of rows

    def __init__(self, device: str | torch.device = "auto", dtype: str | torch.dtype = "float32") -> None:
        self.device = find_device(device)
        self.dtype = torch_dtype(dtype)

    @property
    def identity(self) -> str:
        """The version of PyTorch, the device and the type of the activations."""
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        return f"torch {torch.__version__}, {device}, {self.dtype}"

    def weight(self, tensor: Tensor) -> torch.Tensor:
        """The tensor on the device in the backend's dtype; without a copy where it lies so in its file."""
        if isinstance(tensor, np.ndarray):
            return from_numpy(tensor).to(self.device, self.dtype)
        out = torch.empty(tensor.shape, dtype=self.dtype, device=self.device)
        for start in range(0, tensor.shape[0], _ROWS_AT_ONCE):
            rows = np.arange(start, min(start + _ROWS_AT_ONCE, tensor.shape[0]))
            out[start : start + len(rows)] = torch.from_numpy(tensor.row_values(rows)).to(self.device, self.dtype)
        return out

    def embedding(self, table: Weight, token_ids: Int32 | torch.Tensor) -> torch.Tensor:
        """(V, D)[(T,)] -> (T, D)."""
        ids = self._integers(token_ids)
        if isinstance(table, torch.nn.Module):
            rows: torch.Tensor = table(ids)
            return rows
        return F.embedding(ids, table)

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        """x / sqrt(mean(x^2) + eps) * weight, rounded once at the end."""
        wide = x.to(_wide(x.dtype))
        normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
        return (normed * weight).to(x.dtype)

    def linear(self, x: torch.Tensor, weight: Weight) -> torch.Tensor:
        """(T, K) x (N, K) -> (T, N)."""
        if isinstance(weight, torch.nn.Module):
            y: torch.Tensor = weight(x)
            return y
        return F.linear(x, weight)

    def rope_table(
        self, positions: Int32 | torch.Tensor, inv_freq: npt.NDArray[np.float32]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin, each float32 (T, 1, d/2); the angle is the float32 product, as the models were trained with."""
        frequencies = torch.tensor(inv_freq, device=self.device)
        angle = (self._integers(positions).to(torch.float32)[:, None] * frequencies)[:, None, :]
        return angle.cos(), angle.sin()

    def rotary(self, x: torch.Tensor, table: tuple[torch.Tensor, torch.Tensor], num_heads: int) -> torch.Tensor:
        """Rotate the pairs (i, i + d/2) of each head."""
        cos, sin = table
        first, second = x.reshape(len(x), num_heads, -1).chunk(2, dim=-1)
        rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
        return rotated.to(x.dtype).reshape(x.shape)

    def kv_pool(
        self, num_layers: int, num_blocks: int, block_size: int, num_kv_heads: int, head_dim: int, dtype: str
    ) -> ArrayKVPool:
        """Zeroed tensors on the device."""
        shape = (num_layers, num_blocks, block_size, num_kv_heads, head_dim)
        if dtype == "int8":
            return TorchKVPool(Int8Tensor(shape, self.device), Int8Tensor(shape, self.device))
        keys, values = (torch.zeros(shape, dtype=torch_dtype(dtype), device=self.device) for _ in range(2))
        return TorchKVPool(keys, values)

    def attention(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        pool: KVPool,
        layer: int,
        batch: ForwardBatch,
        window: int | None,
    ) -> torch.Tensor:
        """Store, then attend sequence after sequence over the part of its blocks that its rows can see."""
        assert isinstance(pool, ArrayKVPool)
        *_, num_kv_heads, head_dim = pool.keys.shape
        slots = self._integers(batch.slots)
        blocks, offsets = slots // pool.block_size, slots % pool.block_size
        for side, x in ((pool.keys, k), (pool.values, v)):
            side[layer, blocks, offsets] = x.detach().reshape(len(k), num_kv_heads, head_dim).to(side.dtype)
        out = torch.empty_like(q)
        for s in range(len(batch.row_starts) - 1):
            rows = slice(int(batch.row_starts[s]), int(batch.row_starts[s + 1]))
            if rows.start < rows.stop:
                out[rows] = self._attend(q[rows], pool, layer, batch, s, window)
        return out

    def _attend(
        self, q: torch.Tensor, pool: ArrayKVPool, layer: int, batch: ForwardBatch, s: int, window: int | None
    ) -> torch.Tensor:
        *_, num_kv_heads, head_dim = pool.keys.shape
        first = int(batch.table_starts[s]) * pool.block_size
        last = int(batch.positions[batch.row_starts[s + 1] - 1])
        start = last - len(q) + 1
        oldest = max(first, start - window + 1) if window else first
        table = self._integers(batch.block_tables[s][batch.block_tables[s] >= 0])
        # Cut off what no row may see: behind the end of a sequence a block may hold anything, NaN included.
        seen = slice(oldest - first, last + 1 - first)
        keys, values = (
            side[layer, table].reshape(-1, num_kv_heads, head_dim)[seen].transpose(0, 1)[None].to(q.dtype)
            for side in (pool.keys, pool.values)
        )
        queries = q.reshape(len(q), -1, head_dim).transpose(0, 1)[None]
        mask = None
        causal = len(q) > 1 and oldest == start and (window is None or len(q) <= window)
        if len(q) > 1 and not causal:
            mask = causal_mask(start, last + 1, oldest, last + 1, window, q.device)
        out = attend(queries, keys, values, mask=mask, causal=causal)
        return out[0].transpose(0, 1).reshape(q.shape)

    def swiglu(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up."""
        return F.silu(gate) * up

    def moe(self, x: torch.Tensor, router: Weight, experts: Sequence[Expert], num_experts_per_tok: int) -> torch.Tensor:
        """Each expert runs once over the tokens that chose it; sums run in ascending order of experts."""
        scores = self.linear(x, router)
        best, chosen = torch.sort(scores.to(_wide(scores.dtype)), dim=-1, descending=True, stable=True)
        weights = best[:, :num_experts_per_tok].softmax(dim=-1)
        chosen = chosen[:, :num_experts_per_tok]
        out = torch.zeros_like(x)
        for index, (gate, up, down) in enumerate(experts):
            rows, place = (chosen == index).nonzero(as_tuple=True)
            # In training an expert that nobody chose runs over no rows: every process of a group needs its gradient.
            if len(rows) or torch.is_grad_enabled():
                h = x[rows]
                y = self.linear(self.swiglu(self.linear(h, gate), self.linear(h, up)), down)
                out = out.index_add(0, rows, (y * weights[rows, place, None]).to(out.dtype))
        return out

    def vector(self, tensor: Tensor) -> torch.Tensor:
        """As `weight`."""
        return self.weight(tensor)

    def layer_norm(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
        """(x - mean) / sqrt(variance + eps) * weight + bias."""
        return F.layer_norm(x, weight.shape, weight, bias, eps)

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        """x times the normal distribution function of x."""
        return F.gelu(x)

    def encoder_attention(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        row_starts: Int32,
        num_heads: int,
        bias: npt.NDArray[np.float32] | None,
    ) -> torch.Tensor:
        """Text after text."""
        whole = None if bias is None else torch.from_numpy(bias).to(q.device, q.dtype)
        out = torch.empty_like(q)
        for first, end in itertools.pairwise(row_starts.tolist()):
            mask = None
            if whole is not None:
                places = torch.arange(end - first, device=q.device)
                mask = whole[:, places[None, :] - places[:, None] + (whole.shape[1] - 1) // 2]
            rows = (x[first:end].reshape(end - first, num_heads, -1).transpose(0, 1)[None] for x in (q, k, v))
            queries, keys, values = rows
            attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
            out[first:end] = attended[0].transpose(0, 1).reshape(end - first, -1)
        return out

    def to_numpy(self, x: torch.Tensor) -> npt.NDArray[np.float32]:
        """x as float32 on the CPU, cut off from the graph."""
        array: npt.NDArray[np.float32] = x.detach().to("cpu", torch.float32).numpy()
        return array

    def _integers(self, values: npt.NDArray[Any] | torch.Tensor) -> torch.Tensor:
        if isinstance(values, torch.Tensor):
            return values.to(self.device)
        return torch.tensor(values, dtype=torch.int64, device=self.device)


def attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    mask: torch.Tensor | None,
    causal: bool,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Grouped-query attention: q (B, H, T, d), k and v (B, G, S, d) -> (B, H, T, d), scores scaled by d**-0.5.

    `mask` is boolean, broadcast to (B, 1, T, S), True where a query sees a key; `causal` is the square lower triangle.
    """
    batch, num_heads, num_rows, head_dim = q.shape
    group = num_heads // k.shape[1]
    if num_rows == 1 and not causal:
        # The heads of a group stand in for rows, so that K and V of a long context are not copied for each head.
        rows = F.scaled_dot_product_attention(q.reshape(batch, -1, group, head_dim), k, v, mask, dropout)
        return rows.reshape(q.shape)
    k, v = (side.repeat_interleave(group, dim=1) if group > 1 else side for side in (k, v))
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal)


def causal_mask(
    first_query: int, end_query: int, first_key: int, end_key: int, window: int | None, device: torch.device
) -> torch.Tensor:
    """True where the query at position p sees the key: max(0, p - window + 1) .. p; (queries, keys)."""
    distance = torch.arange(first_query, end_query, device=device)[:, None] - torch.arange(
        first_key, end_key, device=device
    )
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)


def from_numpy(array: npt.NDArray[Any]) -> torch.Tensor:
    """A tensor over the array's memory, which may be a read-only map of a file; bfloat16 is `ml_dtypes`'."""
    bfloat16 = array.dtype.name == "bfloat16"
    with warnings.catch_warnings():
        # PyTorch has no read-only tensors and warns; weights are never written to.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tensor = torch.from_numpy(array.view(np.int16) if bfloat16 else array)
    return tensor.view(torch.bfloat16) if bfloat16 else tensor


def find_device(device: str | int | torch.device) -> torch.device:
    """The device called so; BackendError names what can be used where it is not there.

    >>> find_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(f"cuda:{device}" if isinstance(device, int) else device)
    except (RuntimeError, TypeError):
        raise BackendError(f'PyTorch knows no device {device!r}; use "auto", "cpu" or "cuda".') from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise BackendError(
            f"The device {str(found)!r} is not here: PyTorch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            'devices. Use "cpu", or "auto", which takes a GPU only where there is one.'
        )
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise BackendError('The device "mps" is not here: PyTorch sees no Apple GPU. Use "cpu".')
    return found


def torch_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A torch dtype from itself or its name, with or without "torch."; BackendError for one that weights can't have.

    >>> torch_dtype("torch.float16")
    torch.float16
    """
    name = str(dtype).removeprefix("torch.")
    if name not in (*DTYPES, "float64"):
        raise BackendError(f"dtype {name!r} cannot be computed with; choose one of {', '.join(DTYPES)}.")
    found: torch.dtype = getattr(torch, name)
    return found


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
