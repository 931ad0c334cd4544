"""The block types of GGUF tensors: how their bytes lie, and plain decoders to float32 that others are compared with.

A row is a whole number of blocks. All numbers are little endian, `d`, `m` and `dmin` are float16, and `q` is the stored
integer of an element. "Nibbles" below means: byte i holds element i in its low and element i + n/2 in its high half.

| kind | elements | bytes | fields (bytes) | value of an element |
|---|---|---|---|---|
| F32, F16, BF16 | 1 | 4, 2, 2 | the number | itself |
| Q4_0 | 32 | 18 | d (2), nibbles (16) | d * (q - 8) |
| Q4_1 | 32 | 20 | d (2), m (2), nibbles (16) | d * q + m |
| Q5_0 | 32 | 22 | d (2), fifth bits, bit i for element i (4), nibbles (16) | d * (q - 16) |
| Q5_1 | 32 | 24 | d (2), m (2), fifth bits (4), nibbles (16) | d * q + m |
| Q8_0 | 32 | 34 | d (2), int8 (32) | d * q |
| IQ4_NL | 32 | 18 | d (2), nibbles (16) | d * `IQ4_NL_VALUES`[q] |
| Q2_K | 256 | 84 | scales (16), 2-bit (64), d (2), dmin (2) | d * scale * q - dmin * min |
| Q3_K | 256 | 110 | third bits (32), 2-bit (64), scales (12), d (2) | d * (scale - 32) * (q - 4) |
| Q4_K | 256 | 144 | d (2), dmin (2), scales (12), nibbles (128) | d * scale * q - dmin * min |
| Q5_K | 256 | 176 | d (2), dmin (2), scales (12), fifth bits (32), nibbles (128) | d * scale * q - dmin * min |
| Q6_K | 256 | 210 | low nibbles (128), high 2-bit (64), int8 scales (16), d (2) | d * scale * (q - 32) |

The K types divide a block into 16 groups of 16 elements (Q2_K, Q3_K, Q6_K) or 8 groups of 32 (Q4_K, Q5_K):

- Q2_K: byte g of `scales` has the scale of group g in its low and the min in its high half. Each 32 bytes of 2-bit
  values hold 128 elements: element 32 k + i of the 128 is bits 2 k, 2 k + 1 of byte i.
- Q3_K: 2-bit values as in Q2_K; the third bit of element 32 k + i of the whole block is bit k of byte i of the 32.
  The 6-bit scale of group g has its low half in byte g mod 8 (low half for g < 8, else the high one) and its top two
  bits in bits 2 (g div 4) and up of byte 8 + g mod 4.
- Q4_K and Q5_K: six bits each of scale and min in 12 bytes. For g < 4 the scale is the low six bits of byte g, the min
  those of byte g + 4. For g >= 4 byte g + 4 has the low halves (scale in its low, min in its high half); the top two
  bits of the scale are those of byte g - 4, the top two of the min those of byte g. Each 32 bytes of nibbles hold 64
  elements, and the fifth bit of element 32 g + i is bit g of byte i.
- Q6_K: each 128 elements have 64 bytes of low halves (nibbles) and 32 bytes of high bits, laid as in Q2_K.

Source: the structs of ggml's `ggml-common.h`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]
Halves: TypeAlias = npt.NDArray[np.float16]
Decoder: TypeAlias = Callable[[Bytes], Floats]

_CHUNK = 1 << 18  # elements decoded at a time, so that the intermediate arrays stay in the cache

IQ4_NL_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""What the codes of IQ4_NL mean: steps that grow with the distance from zero, as the weights thin out."""


@dataclass(frozen=True, slots=True)
class Fields:
    """What n blocks hold: `q` uint8 (n, elements), `d` and `m` (n, 1), `scales` and `mins` (n, groups) or None.

    int8 elements are kept as q + 128. `m` is the m of the table, or dmin where there are `mins`. The scales of Q3_K
    have been lowered by 32 already.
    """

    q: Bytes
    d: Halves
    m: Halves | None = None
    scales: npt.NDArray[Any] | None = None
    mins: Bytes | None = None


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """One block type: its number in the file, elements and bytes of a block, and `decode` of whole rows.

    `decode` turns uint8 (rows, bytes of one row) into float32 (rows, elements of one row). `fields` takes blocks
    (n, block_bytes) apart; it is None for plain numbers, which are read by `decode` alone. The integer that is
    multiplied is q - `zero`.
    """

    ggml_id: int
    block_size: int
    block_bytes: int
    decode: Decoder
    fields: Callable[[Bytes], Fields] | None = None
    zero: int = 0

    def row_bytes(self, num_elements: int) -> int:
        """Bytes of a row of `num_elements`, which must be a multiple of `block_size`."""
        assert num_elements % self.block_size == 0
        return num_elements // self.block_size * self.block_bytes


def _by_rows(kernel: Decoder, block_size: int, block_bytes: int) -> Decoder:
    """A decoder of rows from `kernel`, which turns uint8 (blocks, block_bytes) into float32 (blocks, block_size)."""

    def decode(rows: Bytes) -> Floats:
        blocks = rows.reshape(-1, block_bytes)
        out = np.empty((len(blocks), block_size), np.float32)
        step = _CHUNK // block_size
        with np.errstate(invalid="ignore", over="ignore"):  # a damaged scale may be infinite; that is the value then
            for start in range(0, len(blocks), step):
                out[start : start + step] = kernel(blocks[start : start + step])
        return out.reshape(len(rows), rows.shape[1] // block_bytes * block_size)

    return decode


def _values(fields: Fields, zero: int) -> Floats:
    """The table's last column: (blocks, elements)."""
    d = fields.d.astype(np.float32)
    scale = d if fields.scales is None else d * fields.scales
    groups = fields.q.reshape(*scale.shape, -1).astype(np.float32)
    if zero:
        groups -= np.float32(zero)
    groups *= scale[:, :, None]
    if fields.m is not None:
        m = fields.m.astype(np.float32)
        groups += m[:, :, None] if fields.mins is None else -(m * fields.mins)[:, :, None]
    return groups.reshape(fields.q.shape)


def _half(blocks: Bytes, at: int) -> Halves:
    """The float16 at byte `at` of every block: (blocks, 1)."""
    return blocks[:, at : at + 2].copy().view("<f2")


def _nibbles(packed: Bytes) -> Bytes:
    """(..., n) bytes to (..., 2 n) values: all low halves, then all high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=-1)


def _fifth_bits(packed: Bytes) -> Bytes:
    """(blocks, 4) to (blocks, 32) of 0 or 16."""
    bits: Bytes = np.unpackbits(packed, axis=1, bitorder="little") << np.uint8(4)
    return bits


def _spread(packed: Bytes, step: int) -> Bytes:
    """(..., 32) bytes to (..., 8 / step, 32): the bits `step` at a time, lowest first."""
    shifts = np.arange(0, 8, step, dtype=np.uint8)[:, None]
    bits: Bytes = (packed[..., None, :] >> shifts) & np.uint8((1 << step) - 1)
    return bits


def _q4_0(b: Bytes) -> Fields:
    return Fields(_nibbles(b[:, 2:]), _half(b, 0))


def _q4_1(b: Bytes) -> Fields:
    return Fields(_nibbles(b[:, 4:]), _half(b, 0), _half(b, 2))


def _q5_0(b: Bytes) -> Fields:
    return Fields(_nibbles(b[:, 6:]) | _fifth_bits(b[:, 2:6]), _half(b, 0))


def _q5_1(b: Bytes) -> Fields:
    return Fields(_nibbles(b[:, 8:]) | _fifth_bits(b[:, 4:8]), _half(b, 0), _half(b, 2))


def _q8_0(b: Bytes) -> Fields:
    return Fields(b[:, 2:] ^ np.uint8(128), _half(b, 0))


def _q2_k(b: Bytes) -> Fields:
    q = _spread(b[:, 16:80].reshape(-1, 2, 32), 2).reshape(-1, 256)
    return Fields(q, _half(b, 80), _half(b, 82), b[:, :16] & 15, b[:, :16] >> np.uint8(4))


def _q3_k(b: Bytes) -> Fields:
    low, high = _nibbles(b[:, 96:104]), (b[:, None, 104:108] >> np.array([[0], [2], [4], [6]], np.uint8)) & 3
    scales = (low | high.reshape(-1, 16) << 4).astype(np.int8) - np.int8(32)
    third = _spread(b[:, :32], 1).reshape(-1, 2, 4, 32)
    q = _spread(b[:, 32:96].reshape(-1, 2, 32), 2) | third << np.uint8(2)
    return Fields(q.reshape(-1, 256), _half(b, 108), scales=scales)


def _scales_and_mins(packed: Bytes) -> tuple[Bytes, Bytes]:
    """The 12 bytes of Q4_K and Q5_K to 8 scales and 8 mins."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, (third & 15) | (first >> 6 << 4)], axis=1)
    mins = np.concatenate([second & 63, (third >> 4) | (second >> 6 << 4)], axis=1)
    return scales, mins


def _q4_k(b: Bytes) -> Fields:
    q = _nibbles(b[:, 16:].reshape(-1, 4, 32)).reshape(-1, 256)
    return Fields(q, _half(b, 0), _half(b, 2), *_scales_and_mins(b[:, 4:16]))


def _q5_k(b: Bytes) -> Fields:
    q = _nibbles(b[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32) | _spread(b[:, 16:48], 1) << np.uint8(4)
    return Fields(q.reshape(-1, 256), _half(b, 0), _half(b, 2), *_scales_and_mins(b[:, 4:16]))


def _q6_k(b: Bytes) -> Fields:
    high = _spread(b[:, 128:192].reshape(-1, 2, 32), 2) << np.uint8(4)
    q = _nibbles(b[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32) | high
    return Fields(q.reshape(-1, 256), _half(b, 208), scales=b[:, 192:208].view(np.int8))


def _iq4_nl_values(b: Bytes) -> Floats:
    fields = _q4_0(b)
    return fields.d.astype(np.float32) * np.asarray(IQ4_NL_VALUES, np.float32)[fields.q]


def _f32(b: Bytes) -> Floats:
    return b.copy().view("<f4").astype(np.float32, copy=False)


def _f16(b: Bytes) -> Floats:
    return _half(b, 0).astype(np.float32)


def _bf16(b: Bytes) -> Floats:
    return (b.copy().view("<u2").astype(np.uint32) << 16).view(np.float32)


def _plain(ggml_id: int, block_bytes: int, kernel: Decoder) -> BlockFormat:
    return BlockFormat(ggml_id, 1, block_bytes, _by_rows(kernel, 1, block_bytes))


def _format(ggml_id: int, size: int, block_bytes: int, fields: Callable[[Bytes], Fields], zero: int = 0) -> BlockFormat:
    decode = _by_rows(lambda blocks: _values(fields(blocks), zero), size, block_bytes)
    return BlockFormat(ggml_id, size, block_bytes, decode, fields, zero)


BLOCKS: dict[str, BlockFormat] = {
    "F32": _plain(0, 4, _f32),
    "F16": _plain(1, 2, _f16),
    "BF16": _plain(30, 2, _bf16),
    "Q4_0": _format(2, 32, 18, _q4_0, 8),
    "Q4_1": _format(3, 32, 20, _q4_1),
    "Q5_0": _format(6, 32, 22, _q5_0, 16),
    "Q5_1": _format(7, 32, 24, _q5_1),
    "Q8_0": _format(8, 32, 34, _q8_0, 128),
    "Q2_K": _format(10, 256, 84, _q2_k),
    "Q3_K": _format(11, 256, 110, _q3_k, 4),
    "Q4_K": _format(12, 256, 144, _q4_k),
    "Q5_K": _format(13, 256, 176, _q5_k),
    "Q6_K": _format(14, 256, 210, _q6_k, 32),
    "IQ4_NL": BlockFormat(20, 32, 18, _by_rows(_iq4_nl_values, 32, 18), _q4_0),
}
"""Every block type that ostro reads, by its GGUF name."""

KINDS: dict[int, str] = {block.ggml_id: kind for kind, block in BLOCKS.items()}
"""GGUF name of a type number."""

REFUSED: dict[int, str] = {
    4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
    31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 34: "TQ1_0", 35: "TQ2_0", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8", 39: "MXFP4", 40: "NVFP4",
}  # fmt: skip
"""Types of ggml that ostro does not read, so that an error can name them."""
