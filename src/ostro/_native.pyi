"""Types of the C++ module (csrc/bindings.cpp); ops/cpu.py alone uses it."""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

class NativeError(Exception): ...

class Weight:
    @overload
    def __init__(self, kind: str, rows: int, cols: int, data: Bytes) -> None: ...
    @overload
    def __init__(
        self, kind: str, rows: int, cols: int, codes: Bytes, scales: Bytes, codebook: Sequence[int]
    ) -> None: ...
    @property
    def kind(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

class Runtime:
    def __init__(self, isa: str, num_threads: int) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def num_threads(self) -> int: ...
    def embedding(self, table: Weight, ids: Int32, out: Float32) -> None: ...
    def rms_norm(self, x: Float32, weight: Weight, eps: float, out: Float32) -> None: ...
    def linear(self, x: Float32, weight: Weight, out: Float32) -> None: ...
    def logits(self, x: Float32, weight: Weight, out: Float32) -> None: ...
    def linear_add(self, x: Float32, weight: Weight, residual: Float32, out: Float32) -> None: ...
    def qkv(
        self,
        x: Float32,
        norm: Weight,
        eps: float,
        wq: Weight,
        wk: Weight,
        wv: Weight,
        table: Float32,
        q: Float32,
        k: Float32,
        v: Float32,
    ) -> None: ...
    def feed_forward(
        self, x: Float32, norm: Weight, eps: float, gate: Weight, up: Weight, down: Weight, out: Float32
    ) -> None: ...
    def rope_table(self, positions: Int32, inv_freq: Float32, out: Float32) -> None: ...
    def rotary(self, x: Float32, table: Float32, num_heads: int) -> None: ...
    def swiglu(self, gate: Float32, up: Float32, out: Float32) -> None: ...
    def layer_norm(self, x: Float32, weight: Float32, bias: Float32, eps: float, out: Float32) -> None: ...
    def gelu(self, x: Float32, out: Float32) -> None: ...
    def encoder_attention(
        self, q: Float32, k: Float32, v: Float32, row_starts: Int32, num_heads: int, bias: Float32, out: Float32
    ) -> None: ...
    def attention(
        self,
        q: Float32,
        k: Float32,
        v: Float32,
        dtype: str,
        head_dim: int,
        keys: Bytes,
        values: Bytes,
        layer: int,
        positions: Int32,
        row_starts: Int32,
        slots: npt.NDArray[np.int64],
        block_tables: Int32,
        table_starts: Int32,
        window: int,
        out: Float32,
    ) -> None: ...
    def moe(
        self,
        x: Float32,
        router: Weight,
        experts: Sequence[tuple[Any, Any, Any]],
        num_experts_per_tok: int,
        out: Float32,
    ) -> None: ...

def quantize(
    kind: str,
    rows: int,
    cols: int,
    data: Bytes,
    packed_as: str,
    codebook: Sequence[int],
    codes: Bytes,
    scales: Bytes,
    isa: str,
    num_threads: int,
) -> int: ...
def repack(kind: str, rows: int, cols: int, data: Bytes, codes: Bytes, scales: Bytes, num_threads: int) -> bool: ...

MAX_LANES: int

def cpu_features() -> list[str]: ...
def compiled_isas() -> list[str]: ...
def usable_isas() -> list[str]: ...
def measure_ceilings(isa: str, num_threads: int, buffer_bytes: int, seconds: float) -> tuple[float, float, float]: ...
