"""Simple quantizers for every GGUF block type, for tests.

`pack` puts the fields of blocks in their places one element at a time, which is another way to write the layouts down
than the reader's, so that the two check each other. `quantize` rounds to nearest and looks for no better scales.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from gguf_writer import FORMATS

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

# For each type: groups in a block, largest scale, bits of an element.
GROUPS = {"Q2_K": 16, "Q3_K": 16, "Q4_K": 8, "Q5_K": 8, "Q6_K": 16}
BITS = {"Q4_0": 4, "Q4_1": 4, "Q5_0": 5, "Q5_1": 5, "Q8_0": 8, "Q2_K": 2, "Q3_K": 3, "Q4_K": 4, "Q5_K": 5, "Q6_K": 6}
BITS["IQ4_NL"] = 4
IQ4_NL = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113])
ASYMMETRIC = ("Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K")


def _place(kind: str, i: int) -> list[tuple[int, int, int, int]]:
    """Where the bits of element i go: (first bit of q, how many, byte of the block, first bit in the byte)."""
    half, r = divmod(i, 128)
    places: dict[str, Callable[[], list[tuple[int, int, int, int]]]] = {
        "Q4_0": lambda: [(0, 4, 2 + i % 16, i // 16 * 4)],
        "IQ4_NL": lambda: [(0, 4, 2 + i % 16, i // 16 * 4)],
        "Q4_1": lambda: [(0, 4, 4 + i % 16, i // 16 * 4)],
        "Q5_0": lambda: [(0, 4, 6 + i % 16, i // 16 * 4), (4, 1, 2 + i // 8, i % 8)],
        "Q5_1": lambda: [(0, 4, 8 + i % 16, i // 16 * 4), (4, 1, 4 + i // 8, i % 8)],
        "Q8_0": lambda: [(0, 8, 2 + i, 0)],
        "Q2_K": lambda: [(0, 2, 16 + 32 * half + r % 32, r // 32 * 2)],
        "Q3_K": lambda: [(0, 2, 32 + 32 * half + r % 32, r // 32 * 2), (2, 1, i % 32, i // 32)],
        "Q4_K": lambda: [(0, 4, 16 + i // 64 * 32 + i % 32, i % 64 // 32 * 4)],
        "Q5_K": lambda: [(0, 4, 48 + i // 64 * 32 + i % 32, i % 64 // 32 * 4), (4, 1, 16 + i % 32, i // 32)],
        "Q6_K": lambda: [(0, 4, 64 * half + r % 64, r // 64 * 4), (4, 2, 128 + 32 * half + r % 32, r // 32 * 2)],
    }
    return places[kind]()


def _scale_places(kind: str, g: int, minimum: bool) -> list[tuple[int, int, int, int]]:
    """The same for the scale or the minimum of group g."""
    if kind == "Q2_K":
        return [(0, 4, g, 4 if minimum else 0)]
    if kind == "Q3_K":
        return [(0, 4, 96 + g % 8, g // 8 * 4), (4, 2, 104 + g % 4, g // 4 * 2)]
    if kind == "Q6_K":
        return [(0, 8, 192 + g, 0)]
    if g < 4:
        return [(0, 6, 4 + g + (4 if minimum else 0), 0)]
    return [(0, 4, 4 + g + 4, 4 if minimum else 0), (4, 2, 4 + (g if minimum else g - 4), 6)]


def _put(blocks: U8, places: list[tuple[int, int, int, int]], value: npt.NDArray[Any]) -> None:
    for first, count, byte, shift in places:
        blocks[:, byte] |= (((value.astype(np.int64) >> first) & ((1 << count) - 1)) << shift).astype(np.uint8)


def pack(
    kind: str,
    q: npt.NDArray[Any],
    d: npt.NDArray[np.float16],
    m: npt.NDArray[np.float16] | None = None,
    scales: npt.NDArray[Any] | None = None,
    mins: npt.NDArray[Any] | None = None,
) -> U8:
    """Blocks (n, bytes) from stored integers q (n, elements), d and m (n,), scales and mins (n, groups)."""
    _, elements, size, halves = FORMATS[kind]
    blocks = np.zeros((len(q), size), np.uint8)
    for at, number in zip(halves, (d, m), strict=False):
        assert number is not None
        blocks[:, at : at + 2] = np.ascontiguousarray(number.astype("<f2"))[:, None].view(np.uint8)
    for i in range(elements):
        _put(blocks, _place(kind, i), q[:, i])
    for minimum, numbers in ((False, scales), (True, mins)):
        for g in range(0 if numbers is None else numbers.shape[1]):
            _put(blocks, _scale_places(kind, g, minimum), numbers[:, g])
    return blocks


def quantize(kind: str, values: F32) -> U8:
    """values (rows, columns) as blocks of `kind`: uint8 (rows, bytes of a row)."""
    _, elements, _, _ = FORMATS[kind]
    rows = len(values)
    if elements == 1:
        dtype = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype(ml_dtypes.bfloat16)}[kind]
        return np.ascontiguousarray(values.astype(dtype)).view(np.uint8).reshape(rows, -1)
    x = values.reshape(-1, elements).astype(np.float64)
    blocks = _quantize_groups(kind, x) if kind in GROUPS else _quantize_block(kind, x)
    return blocks.reshape(rows, -1)


def _quantize_block(kind: str, x: npt.NDArray[np.float64]) -> U8:
    top = (1 << BITS[kind]) - 1
    if kind in ASYMMETRIC:
        m = x.min(axis=1).astype(np.float16)
        d = ((x.max(axis=1) - x.min(axis=1)) / top).astype(np.float16)
        return pack(kind, np.clip(_divide(x - m[:, None], d[:, None]), 0, top), d, m)
    if kind == "IQ4_NL":
        d = (np.abs(x).max(axis=1) / 113).astype(np.float16)
        return pack(kind, np.abs(_divide(x, d[:, None])[:, :, None] - IQ4_NL).argmin(axis=2), d)
    zero = 0 if kind == "Q8_0" else (top + 1) // 2
    reach = 127 if kind == "Q8_0" else zero
    d = (np.abs(x).max(axis=1) / reach).astype(np.float16)
    low, high = (-127, 127) if kind == "Q8_0" else (0, top)
    return pack(kind, np.clip(_divide(x, d[:, None]) + zero, low, high), d)


def _quantize_groups(kind: str, x: npt.NDArray[np.float64]) -> U8:
    top, groups = (1 << BITS[kind]) - 1, x.reshape(len(x), GROUPS[kind], -1)
    if kind in ASYMMETRIC:
        limit = 15 if kind == "Q2_K" else 63
        lowest = np.maximum(0, -groups.min(axis=2))
        step = (np.maximum(groups.max(axis=2), 0) + lowest) / top
        d, m = (step.max(axis=1) / limit).astype(np.float16), (lowest.max(axis=1) / limit).astype(np.float16)
        scales = np.clip(_divide(step, d[:, None]), 0, limit)
        mins = np.clip(_divide(lowest, m[:, None]), 0, limit)
        shifted = groups + (mins * m[:, None])[:, :, None]
        q = np.clip(_divide(shifted, (scales * d[:, None])[:, :, None]), 0, top)
        return pack(kind, q.reshape(len(x), -1), d, m, scales, mins)
    zero, limit, bias = (top + 1) // 2, (31 if kind == "Q3_K" else 127), (32 if kind == "Q3_K" else 0)
    step = np.abs(groups).max(axis=2) / zero
    d = (step.max(axis=1) / limit).astype(np.float16)
    scales = np.clip(_divide(step, d[:, None]), 0, limit)
    q = np.clip(_divide(groups, (scales * d[:, None])[:, :, None]), -zero, zero - 1) + zero
    return pack(kind, q.reshape(len(x), -1), d, None, scales + bias)


def _divide(x: npt.NDArray[Any], by: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """round(x / by), and 0 where `by` is."""
    by = by.astype(np.float64)
    return np.rint(np.divide(x, by, out=np.zeros(np.broadcast_shapes(x.shape, by.shape)), where=by != 0))
