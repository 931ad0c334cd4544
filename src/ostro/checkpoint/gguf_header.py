"""The head of one GGUF file: metadata and the table of tensors, read with suspicion.

    magic "GGUF", version (uint32), number of tensors (uint64), number of metadata entries (uint64)
    metadata: key (string), type (uint32), value          string: bytes (uint64), UTF-8
    tensors:  name (string), dimensions (uint32), sizes (uint64 each, columns first), type (uint32), offset (uint64)
    padding to `general.alignment` (32 if not given), then the tensors' data; offsets count from here

A count is compared with the bytes that are left before anything is made of that size, so a damaged file costs no
memory. Source: ggml's `docs/gguf.md`.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from ostro.checkpoint.gguf_blocks import BLOCKS, KINDS, REFUSED
from ostro.errors import CheckpointError

_MAX_DEPTH = 4  # of arrays within arrays; files in the field have none
_MAX_DIMENSIONS = 4  # of a tensor, as in ggml
_MIN_ENTRY, _MIN_TENSOR = 13, 32  # bytes of the smallest metadata entry and tensor description
_AGAIN = "the file is incomplete or damaged, download or convert it again"

_NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_BOOL, _STRING, _ARRAY = 7, 8, 9
_DTYPES = {number: np.dtype(code) for number, code in _NUMBERS.items()}
_SIZES = {**{number: dtype.itemsize for number, dtype in _DTYPES.items()}, _STRING: 8, _ARRAY: 12}  # smallest, in bytes


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: `shape` in NumPy order (rows first), `kind` a key of `BLOCKS`.

    `offset` and `nbytes` are bytes in file number `part` of the model (0 unless it is split over several files).
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    offset: int
    nbytes: int
    part: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of one file says."""

    metadata: dict[str, object]
    tensors: tuple[TensorInfo, ...]


class _Cursor:
    """A place in the file; every read is checked against the end, and every error names the file."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.at, self.end = data, path, 0, len(data)

    def fail(self, message: str) -> NoReturn:
        raise CheckpointError(f"{self.path}: {message}.")

    def take(self, size: int, what: str) -> int:
        """Step over `size` bytes; the place where they begin."""
        if size > self.end - self.at:
            self.fail(f"{what} needs {size} bytes at byte {self.at}, but the file has {self.end} bytes: {_AGAIN}")
        begin = self.at
        self.at += size
        return begin

    def u32(self, what: str) -> int:
        return int(struct.unpack_from("<I", self.data, self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(struct.unpack_from("<Q", self.data, self.take(8, what))[0])

    def count(self, smallest: int, what: str) -> int:
        """A number of things that take at least `smallest` bytes each and must all lie in the file."""
        number = self.u64(what)
        if number * smallest > self.end - self.at:
            left = self.end - self.at
            self.fail(f"{what} is {number}, which cannot fit in the {left} bytes after byte {self.at}: {_AGAIN}")
        return number

    def string(self, what: str) -> str:
        size = self.u64(what)
        begin = self.take(size, what)
        return self.text(self.data[begin : begin + size], what)

    def text(self, raw: bytes, what: str) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self.fail(f"{what} is not valid UTF-8 ({error.reason} at byte {error.start} of {len(raw)}): {_AGAIN}")


def read_header(data: mmap.mmap, path: Path, part: int = 0) -> Header:
    """Metadata and tensor table of the GGUF file in `data`; `path` is for the errors.

    Raises `CheckpointError` when the file is no little-endian GGUF of version 2 or 3, is damaged or cut, or has a
    tensor of a type that ostro does not read.
    """
    cursor = _Cursor(data, path)
    _check_version(cursor)
    num_tensors = cursor.count(_MIN_TENSOR, "the number of tensors")
    num_entries = cursor.count(_MIN_ENTRY, "the number of metadata entries")
    metadata: dict[str, object] = {}
    for index in range(num_entries):
        key = cursor.string(f"the key of metadata entry {index}")
        if key in metadata:
            cursor.fail(f"metadata key {key!r} is given twice: convert the model again")
        what = f"metadata key {key!r}"
        metadata[key] = _value(cursor, cursor.u32(what), what)
    alignment = _alignment(cursor, metadata)
    described = [_tensor(cursor, index, alignment) for index in range(num_tensors)]
    data_start = -(-cursor.at // alignment) * alignment
    tensors = tuple(replace(info, offset=data_start + info.offset, part=part) for info in described)
    _check_tensors(cursor, tensors)
    return Header(metadata, tensors)


def _check_version(cursor: _Cursor) -> None:
    begin = cursor.take(4, "the magic")
    magic = cursor.data[begin : begin + 4]
    if magic != b"GGUF":
        cursor.fail(
            f"no GGUF file: it begins with {magic!r} instead of b'GGUF'. Give a .gguf file or the folder of a "
            "safetensors checkpoint"
        )
    version = cursor.u32("the version")
    if version and version & 0xFFFF == 0:
        cursor.fail(
            "a big-endian GGUF file; ostro reads little-endian ones: convert the model again without --bigendian"
        )
    if version not in (2, 3):
        cursor.fail(
            f"GGUF version {version}; ostro reads versions 2 and 3: convert the model again with a current llama.cpp"
        )


def _value(cursor: _Cursor, kind: int, what: str, depth: int = 0) -> object:
    if kind == _STRING:
        return cursor.string(what)
    if kind == _ARRAY:
        return _array(cursor, what, depth)
    return _numbers(cursor, kind, 1, what)[0]


def _numbers(cursor: _Cursor, kind: int, count: int, what: str) -> list[object]:
    """`count` numbers or booleans as Python values."""
    dtype = _DTYPES.get(kind)
    if dtype is None:
        cursor.fail(f"{what} has the unknown value type {kind}; GGUF knows 0 to 12: {_AGAIN}")
    values = np.frombuffer(cursor.data, np.dtype(dtype), count, cursor.take(count * dtype.itemsize, what))
    if kind == _BOOL and count and int(values.view(np.uint8).max()) > 1:
        cursor.fail(f"{what} is a boolean that is neither 0 nor 1: {_AGAIN}")
    result: list[object] = values.tolist()
    return result


def _array(cursor: _Cursor, what: str, depth: int) -> list[object]:
    if depth == _MAX_DEPTH:
        cursor.fail(f"{what} has arrays nested deeper than {_MAX_DEPTH}: {_AGAIN}")
    kind = cursor.u32(what)
    if kind not in _SIZES:
        cursor.fail(f"{what} is an array of the unknown value type {kind}; GGUF knows 0 to 12: {_AGAIN}")
    count = cursor.count(_SIZES[kind], f"the length of {what}")
    if kind == _STRING:
        return _strings(cursor, count, what)
    if kind == _ARRAY:
        return [_array(cursor, what, depth + 1) for _ in range(count)]
    return _numbers(cursor, kind, count, what)


def _strings(cursor: _Cursor, count: int, what: str) -> list[object]:
    """`count` strings. A vocabulary has hundreds of thousands, so the loop calls as little as it can."""
    data, at, end = cursor.data, cursor.at, cursor.end
    length = struct.Struct("<Q").unpack_from
    out: list[object] = []
    try:
        for _ in range(count):
            begin = at + 8
            stop = begin + length(data, at)[0]
            if stop > end:
                break
            out.append(data[begin:stop].decode("utf-8"))
            at = stop
    except (struct.error, UnicodeDecodeError):
        pass
    cursor.at = at
    if len(out) < count:  # read the offending string again the slow way, which says what is wrong
        cursor.string(f"string {len(out)} of {what}")
        raise AssertionError("a string that failed can be read")
    return out


def _alignment(cursor: _Cursor, metadata: dict[str, object]) -> int:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1) or alignment > 1 << 20:
        cursor.fail(f"general.alignment must be a power of two from 8 to 1048576, not {alignment!r}: {_AGAIN}")
    return alignment


def _tensor(cursor: _Cursor, index: int, alignment: int) -> TensorInfo:
    """One row of the tensor table; its offset still counts from the start of the data."""
    name = cursor.string(f"the name of tensor {index}")
    what = f"tensor {name!r}"
    dimensions = cursor.u32(what)
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        cursor.fail(f"{what} has {dimensions} dimensions; 1 to {_MAX_DIMENSIONS} are possible: {_AGAIN}")
    shape = tuple(cursor.u64(what) for _ in range(dimensions))[::-1]
    kind = _kind(cursor, cursor.u32(what), what)
    offset = cursor.u64(what)
    if 0 in shape:
        cursor.fail(f"{what} has the shape {shape}, with a size of 0: {_AGAIN}")
    block = BLOCKS[kind]
    if shape[-1] % block.block_size:
        cursor.fail(
            f"{what} has rows of {shape[-1]} elements, which is no multiple of the {block.block_size} elements of a "
            f"{kind} block: {_AGAIN}"
        )
    if offset % alignment:
        cursor.fail(f"{what} begins at offset {offset}, which is no multiple of the alignment {alignment}: {_AGAIN}")
    return TensorInfo(name, shape, kind, offset, math.prod(shape[:-1]) * block.row_bytes(shape[-1]))


def _kind(cursor: _Cursor, number: int, what: str) -> str:
    kind = KINDS.get(number)
    if kind is None:
        named = f"type {REFUSED[number]} (number {number})" if number in REFUSED else f"unknown type number {number}"
        cursor.fail(
            f"{what} is of the {named}, which ostro does not read. It reads {', '.join(BLOCKS)}: choose a file of "
            "such a type, for instance a Q4_K_M or Q8_0 of the same model"
        )
    return kind


def _check_tensors(cursor: _Cursor, tensors: tuple[TensorInfo, ...]) -> None:
    """Every name is given once and every tensor lies inside the file."""
    seen: set[str] = set()
    for info in tensors:
        if info.name in seen:
            cursor.fail(f"tensor {info.name!r} is given twice: convert the model again")
        seen.add(info.name)
        if info.offset + info.nbytes > cursor.end:
            cursor.fail(
                f"tensor {info.name!r} ends at byte {info.offset + info.nbytes}, but the file has {cursor.end} bytes: "
                f"{_AGAIN}"
            )
