"""The cpu backend: NumPy arrays and the C++ kernels of `ostro._native`.

Weights are used where their file is mapped, in their stored type; sums are float32. The bits of a row's results do not
depend on the rows beside it, on how a prompt is cut into chunks, on the pool's layout or on the number of threads.
They may differ in the last places between kernel sets (OSTRO_ISA). Shape letters are those of `ostro.ops.base`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ostro import env
from ostro.checkpoint.packed import PANEL, PackedTensor
from ostro.checkpoint.packing import REPACKED, check_request, check_rows
from ostro.checkpoint.tensors import QuantizedTensor, Tensor
from ostro.config.kv import KV_DTYPES, kv_row_bytes
from ostro.errors import BackendError
from ostro.ops.batch import ForwardBatch, Int32
from ostro.ops.dtypes import DTYPES
from ostro.ops.threads import decide_threads
from ostro.pages import in_small_pages

try:
    from ostro import _native
except ImportError as error:
    raise BackendError(
        "The C++ kernels of the cpu backend are not here: ostro was installed without them. "
        "Install it again where a C++20 compiler is found."
    ) from error

Float32: TypeAlias = npt.NDArray[np.float32]
Weight: TypeAlias = _native.Weight
Expert: TypeAlias = tuple[Weight, Weight, Weight]
Qkv: TypeAlias = tuple[Weight, Weight, Weight]

KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
KV_KINDS = {**KINDS, "int8": "I8"}
_KV_RUN = 128  # KV_RUN of csrc/attention.h


@dataclass(frozen=True, slots=True, eq=False)
class CpuKVPool:
    """K and V as bytes: each (L, num_blocks, G, block_size, bytes of a head of a token), in the order of the kernels.

    That order is another one than the shape says: csrc/attention.h describes it. `kind` is the type of an element, as
    the kernels call it.
    """

    keys: npt.NDArray[np.uint8]
    values: npt.NDArray[np.uint8]
    kind: str
    head_dim: int

    @property
    def num_blocks(self) -> int:
        """Blocks in the pool."""
        return int(self.keys.shape[1])

    @property
    def block_size(self) -> int:
        """Tokens in a block."""
        return int(self.keys.shape[3])

    @property
    def nbytes(self) -> int:
        """Bytes of K and V together."""
        return int(self.keys.nbytes + self.values.nbytes)

    def read_block(self, block: int) -> memoryview:
        """K of all layers, then V; of each layer the regions of all heads."""
        regions = self._regions(block)
        return np.stack([self._by_region(side)[:, regions] for side in (self.keys, self.values)]).reshape(-1).data

    def write_block(self, block: int, data: bytes | memoryview) -> None:
        """The same back."""
        regions, (num_layers, _, num_heads, *_) = self._regions(block), self.keys.shape
        both = np.frombuffer(data, np.uint8).reshape(2, num_layers, num_heads, -1)
        for side, content in zip((self.keys, self.values), both, strict=True):
            self._by_region(side)[:, regions] = content

    def _by_region(self, side: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        num_layers, num_blocks, num_heads = side.shape[:3]
        return side.reshape(num_layers, num_blocks * num_heads, -1)

    def _regions(self, block: int) -> slice:
        """Where in a layer the regions of a block's heads lie: `kv_place` of csrc/attention.h."""
        num_blocks, num_heads = self.keys.shape[1:3]
        run_blocks = max(1, _KV_RUN // self.block_size)
        run = block // run_blocks * run_blocks
        first, step = run * num_heads + block - run, min(num_blocks - run, run_blocks)
        return slice(first, first + step * num_heads, step)


class CpuOps:
    """`Ops` over the C++ kernels.

    num_threads: threads of every operation; None: `decide_threads()`. Errors: BackendError for an OSTRO_ISA that cannot
    run here, for arrays of a wrong type or shape, and for ids, slots or tables that point outside what there is.
    """

    name = "cpu"
    row_independent = True

    def __init__(self, num_threads: int | None = None) -> None:
        count = decide_threads().count if num_threads is None else num_threads
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise BackendError(f"num_threads must be a whole number of at least 1, not {num_threads!r}.")
        self._native = _native.Runtime(env.isa() or "", count)

    @property
    def isa(self) -> str:
        """The kernel set in use: `portable`, `avx2`, `avx_vnni`, `avx512` or `avx512_vnni`."""
        return str(self._native.isa)

    @property
    def identity(self) -> str:
        """The kernel set, and a digest of the compiled kernels."""
        return f"cpu {self.isa} {_digest_of_kernels()}"

    @property
    def num_threads(self) -> int:
        """Threads of every operation."""
        return int(self._native.num_threads)

    def weight(self, tensor: Tensor) -> Weight:
        """A view of the tensor (N, K), or (D,) for a norm; a copy only if its rows do not follow each other.

        GGUF blocks are repacked, exactly, but for Q2_K (and Q8_0 with a weight of -128 times its scale), which stay.
        """
        if isinstance(tensor, PackedTensor):
            return _native.Weight(
                tensor.kind, *tensor.shape, _bytes(tensor.codes), _bytes(tensor.scales), list(tensor.codebook)
            )
        if isinstance(tensor, QuantizedTensor):
            packed = repack_native(tensor, self.num_threads)
            if packed is not None:
                return self.weight(packed)
            return _native.Weight(tensor.kind, *tensor.shape, _bytes(tensor.blocks))
        if tensor.ndim not in (1, 2):
            raise BackendError(f"A weight has one or two axes, not the shape {tensor.shape}.")
        kind = KINDS.get(tensor.dtype.name)
        if kind is None:
            raise BackendError(f"The cpu backend holds weights of {', '.join(DTYPES)}, not {tensor.dtype.name}.")
        if tensor.ndim == 1:  # a copy: it is small, and a view would keep the whole file of a repacked model mapped
            return _native.Weight(kind, 1, len(tensor), _bytes(tensor.copy()))
        rows, cols = tensor.shape
        return _native.Weight(kind, rows, cols, _bytes(tensor))

    def embedding(self, table: Weight, token_ids: Int32) -> Float32:
        """(V, D)[(T,)] -> (T, D)."""
        out = np.empty((len(token_ids), table.cols), np.float32)
        self._native.embedding(table, _dense("token_ids", token_ids, np.int32, 1), out)
        return out

    def rms_norm(self, x: Float32, weight: Weight, eps: float) -> Float32:
        """x / sqrt(mean(x^2) + eps) * weight."""
        out = np.empty_like(_dense("x", x, np.float32, 2))
        self._native.rms_norm(x, weight, eps, out)
        return out

    def linear(self, x: Float32, weight: Weight) -> Float32:
        """(T, K) x (N, K) -> (T, N)."""
        out = np.empty((len(x), weight.rows), np.float32)
        self._native.linear(_dense("x", x, np.float32, 2), weight, out)
        return out

    def logits(self, x: Float32, head: Weight) -> Float32:
        """(T, D) x (V, D) -> (T, V). A packed head meets x in two bytes: reading it leaves time for that."""
        out = np.empty((len(x), head.rows), np.float32)
        self._native.logits(_dense("x", x, np.float32, 2), head, out)
        return out

    def linear_add(self, x: Float32, weight: Weight, residual: Float32) -> Float32:
        """residual + (T, K) x (N, K) -> (T, N)."""
        out = np.empty((len(x), weight.rows), np.float32)
        dense = _dense("residual", residual, np.float32, 2)
        self._native.linear_add(_dense("x", x, np.float32, 2), weight, dense, out)
        return out

    def qkv(
        self, x: Float32, norm: Weight, eps: float, weights: Qkv, rope: Float32, num_heads: int, num_kv_heads: int
    ) -> tuple[Float32, Float32, Float32]:
        """x is normed and rounded once for the three projections; q and k are rotated where they lie."""
        d = 2 * rope.shape[2]
        wq, wk, wv = weights
        if (wq.rows, wk.rows) != (num_heads * d, num_kv_heads * d):
            raise BackendError(
                f"{num_heads} and {num_kv_heads} heads of {d} do not fit q and k of {wq.rows} and {wk.rows} rows."
            )
        q, k, v = (np.empty((len(x), weight.rows), np.float32) for weight in weights)
        table = _dense("rope", rope, np.float32, 3)
        self._native.qkv(_dense("x", x, np.float32, 2), norm, eps, wq, wk, wv, table, q, k, v)
        return q, k, v

    def feed_forward(self, x: Float32, norm: Weight, eps: float, mlp: Expert) -> Float32:
        """x + down(silu(gate) * up); with packed weights the inner activations are never written as floats."""
        gate, up, down = mlp
        out = np.empty_like(_dense("x", x, np.float32, 2))
        self._native.feed_forward(x, norm, eps, gate, up, down, out)
        return out

    def rope_table(self, positions: Int32, inv_freq: Float32) -> Float32:
        """cos and sin: (2, T, d/2)."""
        out = np.empty((2, len(positions), len(inv_freq)), np.float32)
        frequencies = _dense("inv_freq", inv_freq, np.float32, 1)
        self._native.rope_table(_dense("positions", positions, np.int32, 1), frequencies, out)
        return out

    def rotary(self, x: Float32, table: Float32, num_heads: int) -> Float32:
        """Rotate the pairs (i, i + d/2) of each head, in place; returns x."""
        self._native.rotary(_dense("x", x, np.float32, 2), _dense("table", table, np.float32, 3), num_heads)
        return x

    def kv_pool(
        self, num_layers: int, num_blocks: int, block_size: int, num_kv_heads: int, head_dim: int, dtype: str
    ) -> CpuKVPool:
        """Zeroed memory; the system gives the pages, small ones, when they are first written."""
        if dtype not in KV_DTYPES:
            raise BackendError(f"A K/V cache of dtype {dtype!r} is not known; choose one of {', '.join(KV_DTYPES)}.")
        shape = (num_layers, num_blocks, num_kv_heads, block_size, kv_row_bytes(dtype, head_dim))
        if min(shape) < 1:
            raise BackendError(f"Every number of a K/V cache must be at least 1, not {shape}.")
        keys, values = (in_small_pages(prod(shape)).reshape(shape) for _ in range(2))
        return CpuKVPool(keys, values, KV_KINDS[dtype], head_dim)

    def attention(
        self,
        q: Float32,
        k: Float32,
        v: Float32,
        pool: CpuKVPool,
        layer: int,
        batch: ForwardBatch,
        window: int | None,
    ) -> Float32:
        """Store k and v, then attend; a window of None sees everything before."""
        if window is not None and window < 1:
            raise BackendError(f"A sliding window must be at least 1, not {window}.")
        out = np.empty_like(_dense("q", q, np.float32, 2))
        self._native.attention(
            q,
            _dense("k", k, np.float32, 2),
            _dense("v", v, np.float32, 2),
            pool.kind,
            pool.head_dim,
            pool.keys,
            pool.values,
            layer,
            _dense("positions", batch.positions, np.int32, 1),
            _dense("row_starts", batch.row_starts, np.int32, 1),
            _dense("slots", batch.slots, np.int64, 1),
            _dense("block_tables", batch.block_tables, np.int32, 2),
            _dense("table_starts", batch.table_starts, np.int32, 1),
            window or 0,
            out,
        )
        return out

    def swiglu(self, gate: Float32, up: Float32) -> Float32:
        """silu(gate) * up."""
        out = np.empty_like(_dense("gate", gate, np.float32, 2))
        self._native.swiglu(gate, _dense("up", up, np.float32, 2), out)
        return out

    def moe(self, x: Float32, router: Weight, experts: Sequence[Expert], num_experts_per_tok: int) -> Float32:
        """Each expert runs once over the rows that chose it; sums run in ascending order of experts."""
        out = np.empty_like(_dense("x", x, np.float32, 2))
        self._native.moe(x, router, list(experts), num_experts_per_tok, out)
        return out

    def vector(self, tensor: Tensor) -> Float32:
        """The tensor in float32."""
        return np.ascontiguousarray(tensor if isinstance(tensor, np.ndarray) else tensor.dequantize(), np.float32)

    def layer_norm(self, x: Float32, weight: Float32, bias: Float32, eps: float) -> Float32:
        """(x - mean) / sqrt(variance + eps) * weight + bias."""
        out = np.empty_like(_dense("x", x, np.float32, 2))
        self._native.layer_norm(
            x, _dense("weight", weight, np.float32, 1), _dense("bias", bias, np.float32, 1), eps, out
        )
        return out

    def gelu(self, x: Float32) -> Float32:
        """x times the normal distribution function of x, within 1e-7."""
        out = np.empty_like(_dense("x", x, np.float32, 2))
        self._native.gelu(x, out)
        return out

    def encoder_attention(
        self, q: Float32, k: Float32, v: Float32, row_starts: Int32, num_heads: int, bias: Float32 | None
    ) -> Float32:
        """Every head of every text is a piece of work of its own."""
        out = np.empty_like(_dense("q", q, np.float32, 2))
        rows = (_dense("k", k, np.float32, 2), _dense("v", v, np.float32, 2))
        starts = _dense("row_starts", row_starts, np.int32, 1)
        self._native.encoder_attention(q, *rows, starts, num_heads, _centred(bias), out)
        return out

    def to_numpy(self, x: Float32) -> Float32:
        """x itself."""
        return x


def _centred(bias: Float32 | None) -> Float32:
    """A bias (H, 2 * M - 1) with distance 0 in the middle of an even width, and room for reading whole vectors."""
    if bias is None:
        return np.empty((0, 0), np.float32)
    reach = bias.shape[1] // 2 + 1 + _native.MAX_LANES
    out = np.zeros((len(bias), 2 * reach), np.float32)
    begin = reach - bias.shape[1] // 2
    out[:, begin : begin + bias.shape[1]] = bias
    return out


@functools.cache
def _digest_of_kernels() -> str:
    return hashlib.sha256(Path(_native.__file__).read_bytes()).hexdigest()[:16]


def cpu_features() -> dict[str, list[str]]:
    """For `ostro doctor`: `features` of the CPU, kernel sets `compiled` in, and those `usable` here, the best last."""
    return {
        "features": list(_native.cpu_features()),
        "compiled": list(_native.compiled_isas()),
        "usable": list(_native.usable_isas()),
    }


def pack_native(
    array: npt.NDArray[Any], kind: str, codebook: Sequence[int], num_threads: int | None = None
) -> PackedTensor:
    """`ostro.checkpoint.packing.quantize` in C++: the same bytes on every kernel set and number of threads."""
    levels = check_request(array, kind, codebook)
    out = PackedTensor.empty(kind, array.shape, levels)
    unfit = _native.quantize(
        KINDS[array.dtype.name],
        *out.shape,
        _bytes(array),
        kind,
        list(levels),
        _bytes(out.codes),
        _bytes(out.scales),
        env.isa() or "",
        num_threads or decide_threads().count,
    )
    if unfit >= 0:
        check_rows(array[unfit : unfit + PANEL].astype(np.float32), unfit)
    return out


def repack_native(tensor: QuantizedTensor, num_threads: int | None = None) -> PackedTensor | None:
    """`ostro.checkpoint.packing.repack` in C++: the same bytes."""
    if tensor.kind not in REPACKED:
        return None
    kind, codebook = REPACKED[tensor.kind]
    out = PackedTensor.empty(kind, tensor.shape, codebook)
    stored = "Q4_0" if tensor.kind == "IQ4_NL" else tensor.kind  # the codes lie alike; the codebook says what they mean
    threads = num_threads or decide_threads().count
    exact = _native.repack(stored, *out.shape, _bytes(tensor.blocks), _bytes(out.codes), _bytes(out.scales), threads)
    return out if exact else None


def _bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The array's bytes in one row: a view where it is dense."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _dense(name: str, array: npt.NDArray[Any], dtype: type, ndim: int) -> npt.NDArray[Any]:
    """`array`, if it is what the kernels take."""
    if array.dtype != dtype or array.ndim != ndim or not array.flags.c_contiguous:
        raise BackendError(
            f"{name} must be a dense {np.dtype(dtype).name} array with {ndim} axes, not {array.dtype.name} of shape "
            f"{array.shape} and strides {array.strides}."
        )
    return array


def ceilings(num_threads: int, *, buffer_bytes: int = 1 << 30, seconds: float = 0.5) -> dict[str, float]:
    """What this machine can do at most on `num_threads` threads with the kernel set in use, for `ostro bench`.

    `dram_gb_per_s`: 10**9 bytes read a second out of `buffer_bytes`, which should be several times the last cache;
    `int8_gops` and `fma_gflops`: 10**9 operations a second of int8 dot products and of float32 multiply-adds, on
    registers; a multiply-add is two operations. Each is measured for about `seconds`, and the best pass counts.
    BackendError for numbers that make no sense.
    """
    found = _native.measure_ceilings(env.isa() or "", num_threads, buffer_bytes, seconds)
    return dict(zip(("dram_gb_per_s", "int8_gops", "fma_gflops"), (each / 1e9 for each in found), strict=True))
