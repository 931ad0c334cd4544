"""Writer of `.safetensors` files whose tensors are written piece by piece, in any order.

The format has no gaps between tensors, so they are aligned by their order: those whose size is a multiple of 64 bytes
come first, and every tensor begins at a multiple of the largest power of two up to 64 that divides its size. The header
is padded with spaces, as the format allows, so that the data begins at a multiple of 64. Integer codes, and everything
in models whose sizes are the usual multiples of 64, can so be used where the file is mapped by kernels that want
aligned memory.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT = 64
_SIZES = {"U8": 1, "F16": 2, "BF16": 2, "F32": 4}
NAMES = {"uint8": "U8", "float16": "F16", "bfloat16": "BF16", "float32": "F32"}
"""The format's names of types, by NumPy's."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor of a file that is to be written: `dtype` is the format's name (U8, F16, BF16 or F32)."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * _SIZES[self.dtype]


def slot_of(array: npt.NDArray[Any]) -> Slot:
    """The slot that an array needs.

    >>> slot_of(np.zeros((2, 3), np.float16))
    Slot(dtype='F16', shape=(2, 3))
    """
    return Slot(NAMES[array.dtype.name], array.shape)


class SafetensorsWriter:
    """A new file with room for `slots`. `write` fills it; `close` forces it to the disk.

        with SafetensorsWriter(path, {"norm": Slot("F32", (4,))}) as file:
            file.write("norm", np.ones(4, np.float32))

    OSError where the file cannot be written.
    """

    def __init__(self, path: Path, slots: Mapping[str, Slot]) -> None:
        order = sorted(slots, key=lambda name: -_alignment(slots[name].nbytes))
        offsets: dict[str, tuple[int, int]] = {}
        end = 0
        for name in order:
            offsets[name] = (end, end + slots[name].nbytes)
            end += slots[name].nbytes
        header = _header(slots, offsets)
        self.size = len(header) + end
        self._slots = slots
        self._at = {name: len(header) + begin for name, (begin, _) in offsets.items()}
        self._file = path.open("wb")
        self._file.write(header)
        self._file.truncate(self.size)

    def write(self, name: str, piece: npt.NDArray[Any]) -> None:
        """The next piece of a tensor; its pieces follow each other in the order of its elements."""
        assert NAMES[piece.dtype.name] == self._slots[name].dtype
        self._file.seek(self._at[name])
        self._file.write(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
        self._at[name] += piece.nbytes

    def close(self) -> None:
        """Force everything to the disk and close."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


def _alignment(nbytes: int) -> int:
    """The largest power of two up to 64 that divides a size."""
    return min(nbytes & -nbytes, ALIGNMENT) if nbytes else ALIGNMENT


def _header(slots: Mapping[str, Slot], offsets: Mapping[str, tuple[int, int]]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # what Hugging Face's readers ask for
    for name, (begin, end) in offsets.items():
        entries[name] = {
            "dtype": slots[name].dtype,
            "shape": list(slots[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
