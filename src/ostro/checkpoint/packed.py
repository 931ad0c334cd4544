"""Matrices packed for integer kernels: the layouts, and plain decoders that the kernels are compared with.

N outputs are taken in panels of 16, K inputs in groups of 32, both padded with zeros: P panels, G groups. A group of a
panel has 512 codes, and every SIMD lane of a kernel owns one output, so nothing is ever summed across lanes. Byte
64 v + 4 n + b of a group belongs to output n:

    4 bits  256 bytes, v < 4: low half column 8 v + b, high half column 8 v + 4 + b; value codebook[code]
    6 bits  256 bytes as above with the low four bits of the code, then 128 bytes with the high two: bits 2 i and
            2 i + 1 of byte 64 h + 4 n + b (h < 2) belong to column 16 h + 4 i + b; value code - 32
    8 bits  512 bytes, v < 8: column 4 v + b; value code - 128

Scales lie beside the codes; their form is a letter behind the width, 16 outputs at a time:

    P4  P8   a group: f16 s                               weight = s * value
    P4M P8M  a group: f16 s, f16 m                        weight = s * value + m
    P4K P8K  256 columns: f16 d, f16 e, and for each of   weight = d * s * value - e * m
             their 8 groups: u8 s, u8 m
    P4G      256 columns: f16 d, and for each of their 8  weight = d * s * value
             groups: i8 s
    P4S P6S  256 columns: f16 d, and for each of their 8  weight = d * s * value, s of the column's half group
             groups: i8 s of the first 16 columns, then
             of the second
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ostro.pages import in_huge_pages

Bytes = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

PANEL = 16
"""Outputs of a panel."""
GROUP = 32
"""Columns of a group."""
SUPER = 256
"""Columns of a superblock of the G, K and S forms."""


@dataclass(frozen=True, slots=True)
class Packing:
    """A layout: bits of a code, bytes of the codes of a group, and of the scales of `scale_columns` columns."""

    kind: str
    bits: int
    group_bytes: int
    scale_columns: int
    scale_bytes: int

    def codes_shape(self, rows: int, cols: int) -> tuple[int, int, int]:
        """(P, G, bytes of a group)."""
        return -(-rows // PANEL), -(-cols // GROUP), self.group_bytes

    def scales_shape(self, rows: int, cols: int) -> tuple[int, int, int]:
        """(P, pieces of `scale_columns` columns, bytes of the scales of a piece)."""
        return -(-rows // PANEL), -(-cols // self.scale_columns), self.scale_bytes

    def nbytes(self, rows: int, cols: int) -> int:
        """Bytes of codes and scales of a matrix."""
        shapes = self.codes_shape(rows, cols), self.scales_shape(rows, cols)
        return sum(int(np.prod(shape)) for shape in shapes)


def _packing(kind: str) -> Packing:
    bits = int(kind[1])
    forms = {"": (GROUP, 32), "M": (GROUP, 64), "G": (SUPER, 160), "K": (SUPER, 320), "S": (SUPER, 288)}
    columns, scale_bytes = forms[kind[2:]]
    return Packing(kind, bits, 64 * bits, columns, scale_bytes)


PACKINGS = {kind: _packing(kind) for kind in ("P4", "P4M", "P4G", "P4K", "P4S", "P6S", "P8", "P8M", "P8K")}

INT4 = tuple(range(-8, 8))
"""Symmetric four-bit integers, GGUF's Q4_0."""
UNSIGNED4 = tuple(range(16))
"""Q4_1 and Q4_K, whose minimum is kept beside the scale."""
NF4 = (-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127)
"""The sixteen levels of NormalFloat-4 (QLoRA, Dettmers et al. 2023, appendix E) times 127, rounded."""
SIGNED3 = (-4, -3, -2, -1, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0)
"""Q3_K."""
CODEBOOKS = {"int4": INT4, "nf4": NF4}
"""Those that floats can be rounded to, by the names that users give."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedTensor:
    """A matrix (rows, cols) in one of `PACKINGS`: `codes` and `scales` are dense uint8 of the shapes named there.

    `codebook` has the 16 values of a four-bit code, each in -127 .. 127; it is empty for other widths.
    """

    kind: str
    shape: tuple[int, int]
    codes: Bytes
    scales: Bytes
    codebook: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        packing = PACKINGS[self.kind]
        assert self.codes.shape == packing.codes_shape(*self.shape), (self.codes.shape, self.shape)
        assert self.scales.shape == packing.scales_shape(*self.shape), (self.scales.shape, self.shape)
        assert len(self.codebook) == (16 if packing.bits == 4 else 0), self.codebook

    @classmethod
    def empty(cls, kind: str, shape: tuple[int, int], codebook: tuple[int, ...] = ()) -> PackedTensor:
        """One with memory of its own, to be written: huge pages where the system has them."""
        codes, scales = PACKINGS[kind].codes_shape(*shape), PACKINGS[kind].scales_shape(*shape)
        size = int(np.prod(codes))
        memory = in_huge_pages(size + int(np.prod(scales)))
        return cls(kind, shape, memory[:size].reshape(codes), memory[size:].reshape(scales), codebook)

    @property
    def packing(self) -> Packing:
        """The layout."""
        return PACKINGS[self.kind]

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return int(self.codes.nbytes + self.scales.nbytes)

    def dequantize(self) -> Float32:
        """The whole matrix as float32 (rows, cols)."""
        return self.panels(np.arange(len(self.codes)))[: self.shape[0]]

    def row_values(self, index: npt.NDArray[Any]) -> Float32:
        """Rows `index` (R,) as float32 (R, cols)."""
        if len(index) == 0:
            return np.empty((0, self.shape[1]), np.float32)
        panels, places = np.unique(np.asarray(index) // PANEL, return_inverse=True)
        values = self.panels(panels).reshape(len(panels), PANEL, -1)
        rows: Float32 = values[places.reshape(-1), np.asarray(index) % PANEL]
        return rows

    def panels(self, index: npt.NDArray[Any]) -> Float32:
        """The outputs of the panels `index` (R,): float32 (16 R, cols)."""
        values = decode_values(PACKINGS[self.kind], self.codes[index], self.codebook)
        scale, offset = decode_scales(PACKINGS[self.kind], self.scales[index], values.shape[-1])
        weights = scale * values if offset is None else scale * values + offset
        return weights.reshape(-1, weights.shape[-1])[:, : self.shape[1]].astype(np.float32, copy=False)


def decode_values(packing: Packing, codes: Bytes, codebook: Sequence[int]) -> Float32:
    """Codes (P, G, bytes) as the integers they mean, float32 (P, 16, 32 G)."""
    P, G, _ = codes.shape
    if packing.bits == 8:
        values = codes.reshape(P, G, 8, PANEL, 4).astype(np.float32) - 128
    else:
        nibbles = codes[..., :256].reshape(P, G, 4, 1, PANEL, 4)
        both = np.concatenate([nibbles & 15, nibbles >> 4], axis=3).reshape(P, G, 8, PANEL, 4)
        if packing.bits == 4:
            values = np.asarray(codebook, np.float32)[both]
        else:
            high = codes[..., 256:].reshape(P, G, 2, 1, PANEL, 4) >> (2 * np.arange(4, dtype=np.uint8))[:, None, None]
            values = (both | (high & 3).reshape(P, G, 8, PANEL, 4) << 4).astype(np.float32) - 32
    # (P, G, v, n, b) -> (P, n, G, v, b)
    return values.transpose(0, 3, 1, 2, 4).reshape(P, PANEL, GROUP * G)


def decode_scales(packing: Packing, scales: Bytes, cols: int) -> tuple[Float32, Float32 | None]:
    """What every column of a panel is multiplied with, and what is added (None: nothing): (P, 16, cols)."""
    P = len(scales)
    form = packing.kind[2:]
    if form in ("", "M"):
        halves = scales.view(np.float16).astype(np.float32).reshape(P, -1, 1 + (form == "M"), PANEL)
        scale = np.repeat(halves[:, :, 0].transpose(0, 2, 1), GROUP, axis=2)
        return scale, np.repeat(halves[:, :, 1].transpose(0, 2, 1), GROUP, axis=2) if form == "M" else None
    heads = 2 if form == "K" else 1
    head = np.ascontiguousarray(scales[..., : 32 * heads]).view(np.float16).astype(np.float32)
    head = head.reshape(P, -1, 1, heads, PANEL)
    parts = np.ascontiguousarray(scales[..., 32 * heads :]).reshape(P, -1, 8, 1 if form == "G" else 2, PANEL)
    if form == "K":
        both = head * parts  # (P, superblock, group, scale or minimum, n)
        wide = np.repeat(both.reshape(P, -1, 2, PANEL), GROUP, axis=1)[:, :cols]
        return wide[:, :, 0].transpose(0, 2, 1), -wide[:, :, 1].transpose(0, 2, 1)
    fine = head * parts.view(np.int8)  # (P, superblock, group, half or all of it, n)
    columns = GROUP // parts.shape[3]
    return np.repeat(fine.reshape(P, -1, PANEL), columns, axis=1)[:, :cols].transpose(0, 2, 1), None


def encode_codes(packing: Packing, codes: Bytes) -> Bytes:
    """The inverse of the layout: codes (P, 16, 32 G), still one a byte, as (P, G, bytes of a group)."""
    P, _, cols = codes.shape
    units = codes.reshape(P, PANEL, cols // GROUP, 8, 4).transpose(0, 2, 3, 1, 4)  # (P, G, v, n, b)
    G = units.shape[1]
    if packing.bits == 8:
        return np.ascontiguousarray(units).reshape(P, G, 512)
    pairs = (units & 15).reshape(P, G, 4, 2, PANEL, 4)
    low = np.asarray(pairs[:, :, :, 0] | pairs[:, :, :, 1] << 4, np.uint8).reshape(P, G, 256)
    if packing.bits == 4:
        return low
    quads = (units >> 4).reshape(P, G, 2, 4, PANEL, 4) << (2 * np.arange(4, dtype=np.uint8))[:, None, None]
    high: Bytes = np.bitwise_or.reduce(quads, axis=3).reshape(P, G, 128)
    return np.concatenate([low, high], axis=2)


def encode_scales(
    packing: Packing, d: npt.NDArray[np.float16], m: npt.NDArray[np.float16] | None, fine: Bytes | None
) -> Bytes:
    """The inverse of `decode_scales`, as (P, S, bytes of a piece): d and m (P, 16, S) for each of S pieces.

    `m` is for the forms M and K; `fine` (P, 16, S, 8, 2) for K (scale and minimum) and S (the scales of both halves).
    """
    heads = d[:, :, :, None] if m is None else np.stack([d, m], axis=3)
    coarse = np.ascontiguousarray(heads.transpose(0, 2, 3, 1).astype("<f2"))  # (P, S, heads, n)
    P, S = coarse.shape[:2]
    parts = [coarse.view(np.uint8).reshape(P, S, -1)]
    if fine is not None:
        parts.append(fine.transpose(0, 2, 3, 4, 1).reshape(P, S, -1))  # (P, S, group, part, n)
    scales = np.concatenate(parts, axis=2)
    assert scales.shape[2] == packing.scale_bytes, (packing.kind, scales.shape)
    return scales
