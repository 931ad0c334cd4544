"""Writes GGUF files for tests: every value type, every block type, split models."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

# Elements and bytes of a block, and where its float16 fields lie: written anew, so that the tests check the reader.
FORMATS: dict[str, tuple[int, int, int, tuple[int, ...]]] = {  # number, elements, bytes, float16 at
    "F32": (0, 1, 4, ()),
    "F16": (1, 1, 2, ()),
    "BF16": (30, 1, 2, ()),
    "Q4_0": (2, 32, 18, (0,)),
    "Q4_1": (3, 32, 20, (0, 2)),
    "Q5_0": (6, 32, 22, (0,)),
    "Q5_1": (7, 32, 24, (0, 2)),
    "Q8_0": (8, 32, 34, (0,)),
    "Q2_K": (10, 256, 84, (80, 82)),
    "Q3_K": (11, 256, 110, (108,)),
    "Q4_K": (12, 256, 144, (0, 2)),
    "Q5_K": (13, 256, 176, (0, 2)),
    "Q6_K": (14, 256, 210, (208,)),
    "IQ4_NL": (20, 32, 18, (0,)),
}

Tensor: TypeAlias = npt.NDArray[Any] | tuple[str, tuple[int, ...], npt.NDArray[np.uint8]]
"""An array (float32, float16, bfloat16), or (kind, shape with rows first, packed bytes)."""


class Typed:
    """A metadata value with its GGUF type number, where the default (`_type_of`) is not wanted."""

    def __init__(self, number: int, value: object) -> None:
        self.number = number
        self.value = value


_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def _type_of(value: object) -> int:
    """bool, uint32 (or the next larger that holds it), float32, string, array."""
    if isinstance(value, Typed):
        return value.number
    if isinstance(value, bool):
        return 7
    if isinstance(value, int):
        return (4 if value < 2**32 else 10) if value >= 0 else (5 if value >= -(2**31) else 11)
    return {float: 6, str: 8, bytes: 8, list: 9, tuple: 9}[type(value)]


def _string(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def _value(kind: int, value: Any) -> bytes:
    if isinstance(value, Typed):
        value = value.value
    if kind == 8:
        return _string(value)
    if kind == 9:
        inner = max((_type_of(item) for item in value), default=4)  # the widest of the numbers
        if any(isinstance(item, int) and item < 0 for item in value):
            inner = 5
        return struct.pack("<IQ", inner, len(value)) + b"".join(_value(inner, item) for item in value)
    return struct.pack("<" + _CODES[kind], value)


def _packed(tensor: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    if isinstance(tensor, tuple):
        kind, shape, blocks = tensor
        return kind, shape, np.ascontiguousarray(blocks).tobytes()
    array = np.ascontiguousarray(tensor)
    names = {np.dtype("<f4"): "F32", np.dtype("<f2"): "F16", np.dtype(ml_dtypes.bfloat16): "BF16"}
    return names[array.dtype], array.shape, array.tobytes()


def gguf_bytes(metadata: Mapping[str, object], tensors: Mapping[str, Tensor], version: int = 3) -> bytes:
    """A whole file. `general.alignment` in the metadata is honoured."""
    aligned = metadata.get("general.alignment", 32)
    alignment = aligned if isinstance(aligned, int) else 32
    head = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(metadata))]
    for key, value in metadata.items():
        kind = _type_of(value)
        head += [_string(key), struct.pack("<I", kind), _value(kind, value)]
    data = b""
    for name, tensor in tensors.items():
        kind_name, shape, raw = _packed(tensor)
        head += [_string(name), struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))]
        head += [struct.pack("<IQ", FORMATS[kind_name][0], len(data))]
        data += raw + bytes(-len(raw) % alignment)
    front = b"".join(head)
    return front + bytes(-len(front) % alignment) + data


def write_gguf(path: Path, metadata: Mapping[str, object], tensors: Mapping[str, Tensor], version: int = 3) -> Path:
    """Write the file and return its path. Metadata: bool, int, float, str, lists of these (nested too), or `Typed`."""
    path.write_bytes(gguf_bytes(metadata, tensors, version))
    return path


def write_split_gguf(path: Path, metadata: Mapping[str, object], tensors: Mapping[str, Tensor], count: int) -> Path:
    """Write the model as `count` parts beside `path` (`m.gguf` becomes `m-00001-of-00002.gguf`); returns the first."""
    names = list(tensors)
    paths = [path.with_name(f"{path.stem}-{part + 1:05}-of-{count:05}.gguf") for part in range(count)]
    for part, part_path in enumerate(paths):
        split = {
            "split.no": Typed(2, part),
            "split.count": Typed(2, count),
            "split.tensors.count": Typed(5, len(tensors)),
        }
        chosen = {name: tensors[name] for name in names[part::count]}
        write_gguf(part_path, {**(metadata if part == 0 else {}), **split}, chosen)
    return paths[0]


def random_blocks(kind: str, shape: tuple[int, ...], seed: int = 0, scale: float = 0.05) -> npt.NDArray[np.uint8]:
    """Random valid blocks of `kind` for `shape` (rows first): uint8 (rows, bytes of a row).

    Every bit of the integers is random; the float16 fields are normal numbers of about `scale`, so values are finite.
    """
    _, elements, size, halves = FORMATS[kind]
    assert shape[-1] % elements == 0
    rows, per_row = int(np.prod(shape[:-1], dtype=np.int64)), shape[-1] // elements
    rng = np.random.default_rng(seed)
    if elements == 1:
        dtype = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}[kind]
        values = (scale * rng.standard_normal((rows, per_row))).astype(np.float32).astype(dtype)
        return np.ascontiguousarray(values).view(np.uint8).reshape(rows, -1)
    blocks = rng.integers(0, 256, (rows * per_row, size), dtype=np.uint8)
    for at in halves:
        numbers = (scale * rng.standard_normal(len(blocks))).astype("<f2")
        blocks[:, at : at + 2] = numbers[:, None].view(np.uint8)
    return blocks.reshape(rows, per_row * size)
