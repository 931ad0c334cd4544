"""Reader of `.safetensors` files over a memory map.

The safetensors library hands out copies of its map; here every tensor is a view of the file's pages, so that weights
take no memory of their own until they are touched, and the system may drop them again.

Layout: 8 bytes, little-endian length N of the header; N bytes of JSON, {name: {dtype, shape, data_offsets}} and
optionally "__metadata__"; then the tensors, one after another without a gap.
Source: the format's description in the README of huggingface/safetensors.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ostro.checkpoint.text import parse_json_object
from ostro.errors import CheckpointError, DamagedError

MAX_HEADER_BYTES = 100_000_000
"""Longest header that the format allows."""

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip

WEIGHT_DTYPES = ("F32", "F16", "BF16")
"""Types that can be had as a weight."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies: `start` and `end` are byte positions in the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class SafetensorsFile:
    """One mapped file, its header read and proved against its size.

    Raises CheckpointError, naming the file and where there is one the tensor, for a file that is cut, damaged or
    contradicts itself. The map lives as long as an array of it does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                if size < 8:
                    raise DamagedError(f"{path} has only {size} bytes: the file is cut")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None
        self.infos: Mapping[str, TensorInfo] = MappingProxyType(_read_header(path, self._map, size))

    def tensor(self, name: str) -> npt.NDArray[Any]:
        """A read-only array over the file's pages; float32, float16 or `ml_dtypes.bfloat16`."""
        info = self.infos[name]
        check_weight(self.path, info)
        dtype = _numpy_dtype(info.dtype)
        flat = np.frombuffer(self._map, dtype, count=math.prod(info.shape), offset=info.start)
        if info.start % dtype.itemsize:  # legal and never seen; kernels want aligned numbers, so this one is copied
            flat = flat.copy()
            flat.setflags(write=False)
        return flat.reshape(info.shape)

    def codes(self, name: str) -> npt.NDArray[np.uint8]:
        """A tensor of bytes (U8) as a read-only array over the file's pages."""
        info = self.infos[name]
        assert info.dtype == "U8", info
        flat = np.frombuffer(self._map, np.uint8, count=info.end - info.start, offset=info.start)
        return flat.reshape(info.shape)

    def drop_pages(self) -> None:
        """Let the system take the pages that were read back; what is read again comes from its cache or the disk."""
        drop_pages(self._map)


def drop_pages(data: mmap.mmap) -> None:
    """Take a map's pages out of this process. They are counted as its memory although the system may take them."""
    if hasattr(mmap, "MADV_DONTNEED"):
        data.madvise(mmap.MADV_DONTNEED)


def check_weight(path: Path, info: TensorInfo) -> None:
    """CheckpointError where a tensor's type cannot be used as a weight."""
    if info.dtype not in WEIGHT_DTYPES:
        raise CheckpointError(
            f"{path}: tensor {info.name} is stored as {info.dtype}; a weight must be {', '.join(WEIGHT_DTYPES)}. "
            "Take the model's bfloat16 or float16 checkpoint, or a GGUF file of it."
        )


def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name == "BF16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype("<f4" if name == "F32" else "<f2")


def _read_header(path: Path, data: mmap.mmap, size: int) -> dict[str, TensorInfo]:
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise DamagedError(
            f"{path}: the header's length is {length} bytes, and {MAX_HEADER_BYTES} are allowed: this is no "
            "safetensors file, or it is damaged"
        )
    if 8 + length > size:
        raise DamagedError(f"{path}: the header has {length} bytes, but the file ends after {size}: it is cut")
    header = parse_json_object(data[8 : 8 + length], f"the header of {path}")
    header.pop("__metadata__", None)
    infos = {name: _tensor_info(path, name, entry, 8 + length) for name, entry in header.items()}
    _check_layout(path, infos, 8 + length, size)
    return infos


def _tensor_info(path: Path, name: str, entry: object, base: int) -> TensorInfo:
    def damaged(why: str) -> DamagedError:
        return DamagedError(f"{path}: tensor {name}: {why}: the file is damaged")

    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise damaged("its entry must have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise damaged(f"dtype {dtype!r} is not of the format")
    if not _are_counts(shape):
        raise damaged(f"shape {shape!r} is not a list of whole numbers")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise damaged(f"data_offsets {offsets!r} are not a start and an end")
    bits = math.prod(shape) * _BITS[dtype]
    if bits != 8 * (offsets[1] - offsets[0]):
        raise damaged(f"shape {tuple(shape)} of {dtype} needs {bits / 8:g} bytes, its offsets give {offsets}")
    return TensorInfo(name, dtype, tuple(shape), base + offsets[0], base + offsets[1])


def _are_counts(values: object) -> bool:
    # The bound is far above any file, and keeps products of a damaged shape small.
    return (
        isinstance(values, list)
        and len(values) <= 8
        and all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 48 for v in values)
    )


def _check_layout(path: Path, infos: Mapping[str, TensorInfo], base: int, size: int) -> None:
    """Every byte after the header belongs to exactly one tensor."""
    position = base
    for info in sorted(infos.values(), key=lambda item: (item.start, item.end)):
        if info.end > size:
            raise DamagedError(
                f"{path}: tensor {info.name} ends at byte {info.end}, but the file has {size}: it is cut"
            )
        if info.start != position:
            how = "overlaps the one before it" if info.start < position else "leaves a gap before it"
            raise DamagedError(f"{path}: tensor {info.name} {how}: the file is damaged")
        position = info.end
    if position != size:
        raise DamagedError(f"{path}: the tensors end at byte {position}, but the file has {size}: it is damaged")
