"""What a checkpoint hands out: tensors as they lie in their file, mapped into memory and not copied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ostro.checkpoint.packed import PackedTensor


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTensor:
    """A matrix of GGUF blocks, still packed: `blocks` is uint8 (rows, bytes of one row), `shape` is (rows, columns).

    `kind` is the GGUF name of the block type ("Q4_0", "Q6_K", ...). `decoder` turns packed rows into float32.
    """

    kind: str
    shape: tuple[int, int]
    blocks: npt.NDArray[np.uint8]
    decoder: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]

    def rows(self, index: Any) -> QuantizedTensor:
        """The rows that `index` (a slice or an integer array) selects, still packed."""
        blocks = self.blocks[index]
        return QuantizedTensor(self.kind, (blocks.shape[0], self.shape[1]), blocks, self.decoder)

    def dequantize(self) -> npt.NDArray[np.float32]:
        """The whole matrix as float32 (rows, columns)."""
        return self.decoder(self.blocks)

    def row_values(self, index: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Rows `index` (R,) as float32 (R, columns)."""
        return self.decoder(self.blocks[index])

    @property
    def nbytes(self) -> int:
        """Bytes of the packed matrix."""
        return int(self.blocks.nbytes)


Tensor: TypeAlias = npt.NDArray[Any] | QuantizedTensor | PackedTensor
"""float32, float16 or bfloat16 (`ml_dtypes`) array, a matrix of GGUF blocks, or one packed for integer kernels.

All have `shape` and `nbytes`; what is no array has `dequantize()` and `row_values(index)`, both float32.
"""
