"""Keys or values of a pool as int8: the definition that every backend follows, and the array that holds them.

Each `INT8_GROUP` channels of a row share a scale, max |x| / 127 rounded to float16; a code is x / scale, rounded to
nearest even and at most 127; the number that stands for x is scale * code, which float32 holds exactly. A group with
infinity, NaN or numbers beyond 8 million cannot be held: its scale is not finite, and all of it reads as NaN.
Groups rather than rows have a scale because some channels of rotated keys are many times larger than the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ostro.config.kv import INT8_GROUP, num_groups

Float32 = npt.NDArray[np.float32]


def quantize(x: Float32) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """Codes (..., d) and scales (..., groups) of x (..., d).

    >>> codes, scales = quantize(np.array([1.0, -0.5, 0.0], np.float32))
    >>> codes.tolist(), float(scales[0])
    ([127, -64, 0], 0.00787353515625)
    """
    *rows, head_dim = x.shape
    padded = np.zeros((*rows, num_groups(head_dim) * INT8_GROUP), np.float32)
    padded[..., :head_dim] = x
    grouped = padded.reshape(*rows, -1, INT8_GROUP)
    top = np.abs(grouped).max(axis=-1)
    with np.errstate(over="ignore"):
        scales = np.where(np.isfinite(top), top / np.float32(127), np.float32(np.nan)).astype(np.float16)
    usable = np.isfinite(scales) & (scales > 0)
    wide = np.where(usable, scales, np.float16(1)).astype(np.float32)[..., None]
    codes = np.where(usable[..., None], np.clip(np.rint(grouped / wide), -127, 127), 0).astype(np.int8)
    return codes.reshape(padded.shape)[..., :head_dim], scales


def dequantize(codes: npt.NDArray[np.int8], scales: npt.NDArray[np.float16]) -> Float32:
    """The numbers that codes (..., d) and scales (..., groups) stand for."""
    wide: Float32 = np.repeat(scales.astype(np.float32), INT8_GROUP, axis=-1)[..., : codes.shape[-1]]
    with np.errstate(invalid="ignore"):
        return wide * codes


class Int8Array:
    """Stands in for a float32 array (..., d) that is written and read by whole rows."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        *rows, head_dim = self.shape = shape
        self._codes = np.zeros(shape, np.int8)
        self._scales = np.zeros((*rows, num_groups(head_dim)), np.float16)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self._codes.nbytes + self._scales.nbytes

    @property
    def parts(self) -> tuple[npt.NDArray[Any], ...]:
        """The arrays that hold it."""
        return self._codes, self._scales

    def __setitem__(self, index: Any, x: Float32) -> None:
        rows = np.broadcast_to(np.asarray(x, np.float32), self._codes[index].shape)
        self._codes[index], self._scales[index] = quantize(rows)

    def __getitem__(self, index: Any) -> Float32:
        return dequantize(self._codes[index], self._scales[index])
