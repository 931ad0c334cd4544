"""Packing of weights, written down in NumPy: floats are quantized, GGUF blocks are laid out anew without a loss.

`ostro.ops.packing` does the same through the C++ kernels where they are built, and gives the same bytes: every sum of
floats below runs over the 32 columns of a group in their order, and no product is fused with a sum.

    P8   scale = the largest |w| / 127 as float16, code = w / scale to the nearest even. Where the float16 came out so
         small that the largest weight would need the code 128, the next larger one is taken.
    P4   with any codebook c: for a scale s every weight takes the nearest s * c[code]; for given codes the least error
         is at s = sum(w c) / sum(c c), and it is sum(w w) less sum(w c)^2 / sum(c c). So s is begun at several values,
         which put the weight of largest magnitude, with its sign, on `STARTS` of either end of the codebook; the best
         is refitted once and rounded to float16, and the codes are chosen anew for that.
    P4G  as P4, but a scale is rounded to a multiple -127 .. 127 of d, which is to the scales of 256 columns what the
         scale of P8 is to weights. That adds 0.1 % to the squared error.

The sign of s is free, since a codebook such as -8 .. 7 reaches farther on one side. Beginning at both ends and inside
them is what wins: the mean squared error on Gaussian weights is 0.89 of that of Q4_0 as llama.cpp rounds it
(max |w| on -8, nothing searched) with the codebook INT4, 0.77 with NF4; trying 80 scales instead of ten would win 0.6
and 1.1 % more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ostro.checkpoint.gguf_blocks import BLOCKS, IQ4_NL_VALUES, Fields
from ostro.checkpoint.packed import (
    GROUP,
    INT4,
    PACKINGS,
    PANEL,
    SIGNED3,
    UNSIGNED4,
    Bytes,
    Float32,
    PackedTensor,
    Packing,
    encode_codes,
    encode_scales,
)
from ostro.checkpoint.tensors import QuantizedTensor
from ostro.errors import CheckpointError

Float16 = npt.NDArray[np.float16]
Codes = npt.NDArray[np.uint8]

LARGEST = 65504.0
"""Weights above the range of float16 are refused: they are no weights of a model that works."""
SMALLEST = 2.0**-32
"""A group whose weights are all smaller than this becomes zero; its scale would be none of float16."""
STARTS = (46 / 64, 54 / 64, 62 / 64, 65 / 64, 69 / 64)
"""Multiples of an end of the codebook on which the largest weight is tried; found greedily over steps of 1/50."""

REPACKED: dict[str, tuple[str, tuple[int, ...]]] = {
    "Q4_0": ("P4", INT4),
    "Q4_1": ("P4M", UNSIGNED4),
    "Q4_K": ("P4K", UNSIGNED4),
    "IQ4_NL": ("P4", IQ4_NL_VALUES),
    "Q3_K": ("P4S", SIGNED3),
    "Q6_K": ("P6S", ()),
    "Q5_0": ("P8", ()),
    "Q8_0": ("P8", ()),
    "Q5_1": ("P8M", ()),
    "Q5_K": ("P8K", ()),
}
"""The layout and codebook of a GGUF block type whose values a layout has exactly. Q2_K has none."""

LAYER_KINDS = {4: "P4G", 8: "P8"}
"""Layout of the matrices of the layers, by the bits that were asked for; that of embeddings that are no head, too."""
HEAD_KINDS = {4: "P8", 8: "P8"}
"""Layout of the output head, which is the embeddings where they are tied: its errors go straight into the logits."""

_CHUNK = 1 << 18  # weights at a time, so that the intermediate arrays stay small


def quantize(array: npt.NDArray[Any], kind: str = "P4", codebook: Sequence[int] = INT4) -> PackedTensor:
    """A float matrix (N, K) rounded to `kind`: "P4" or "P4G" with an ascending `codebook` of 16 values, or "P8".

    `array` is float32, float16 or bfloat16, of any strides. Raises CheckpointError where a weight is not finite or
    larger than float16 holds.

    >>> quantize(np.array([[-8.0, 1, 0, 7]], np.float32)).dequantize().tolist()
    [[-8.0, 1.0, 0.0, 7.0]]
    """
    codebook = check_request(array, kind, codebook)
    packing, (N, K) = PACKINGS[kind], array.shape
    out = PackedTensor.empty(kind, (N, K), codebook)
    codes, scales = out.codes, out.scales
    panels, groups = codes.shape[:2]
    step = max(1, _CHUNK // (PANEL * GROUP * groups))
    for first in range(0, panels, step):
        rows = array[PANEL * first : PANEL * (first + step)].astype(np.float32)
        check_rows(rows, PANEL * first)
        part = codes[first : first + step]
        padded = np.zeros((len(part) * PANEL, groups * GROUP), np.float32)
        padded[: len(rows), :K] = rows
        grouped = padded.reshape(-1, groups, GROUP)
        code, d, fine = _quantize(grouped, kind, codebook)
        part[:] = encode_codes(packing, code.reshape(-1, PANEL, groups * GROUP))
        scales[first : first + step] = encode_scales(packing, d.reshape(-1, PANEL, d.shape[1]), None, fine)
    return out


def check_request(array: npt.NDArray[Any], kind: str, codebook: Sequence[int]) -> tuple[int, ...]:
    """The codebook that the packed tensor will have; CheckpointError for an array that cannot be quantized."""
    assert kind in ("P4", "P4G", "P8"), kind
    if array.dtype.name not in ("float32", "float16", "bfloat16") or array.ndim != 2 or not array.size:
        raise CheckpointError(
            f"A matrix of float32, float16 or bfloat16 can be quantized, not {array.dtype.name} of shape {array.shape}."
        )
    if kind == "P8":
        return ()
    values = tuple(int(value) for value in codebook)
    assert len(values) == 16, values
    assert list(values) == sorted(values), values
    assert -127 <= values[0] < values[-1] <= 127, values
    return values


def check_rows(rows: Float32, first: int) -> None:
    """CheckpointError where a weight of rows `first` and up is not finite or too large."""
    bad = np.argwhere(~(np.abs(rows) <= LARGEST))
    if len(bad):
        row, column = (int(place) for place in bad[0])
        raise CheckpointError(
            f"The weight in row {first + row}, column {column} is {rows[row, column]}: only finite weights up to "
            f"{LARGEST:.0f} can be quantized. The file is damaged, or the weights are: download the model again."
        )


def _quantize(groups: Float32, kind: str, codebook: Sequence[int]) -> tuple[Codes, Float16, Bytes | None]:
    """Groups (R, G, 32) as codes (R, G, 32), the float16 scales (R, pieces), and for P4G those of the groups."""
    if kind == "P8":
        d = _rounded_up(np.abs(groups).max(axis=-1) / np.float32(127))
        values = np.rint(groups * _inverse(d.astype(np.float32))[..., None])
        return (np.clip(values, -127, 127) + 128).astype(np.uint8), d, None
    levels = np.array(codebook, np.float32)
    scale, fine = _search(groups, levels), None
    if kind == "P4":
        d = np.clip(scale, -LARGEST, LARGEST).astype(np.float16)
        scale = d.astype(np.float32)
    else:
        d, fine, scale = _two_levels(scale)
    return _nearest(groups, _inverse(scale), levels), d, fine


def _rounded_up(scale: Float32) -> Float16:
    """Scales as float16, the next larger one where 127 of the rounded one would not reach 127 of the exact one."""
    half = scale.astype(np.float16)
    short = half.astype(np.float32) * np.float32(127.5) < scale * np.float32(127)
    larger: Float16 = (half.view(np.uint16) + short.astype(np.uint16)).view(np.float16)
    return larger


def _two_levels(scale: Float32) -> tuple[Float16, Bytes, Float32]:
    """Scales (R, G) as d (R, S) and the whole multiples of it (R / 16, 16, S, 8, 1), and what they are worth (R, G)."""
    R, G = scale.shape
    padded = np.zeros((R, -(-G // 8), 8), np.float32)
    padded.reshape(R, -1)[:, :G] = scale
    d = _rounded_up(np.abs(padded).max(axis=-1) / np.float32(127))
    wide = d.astype(np.float32)[..., None]
    whole = np.clip(np.rint(padded * _inverse(wide)), -127, 127)
    fine = whole.astype(np.int8).view(np.uint8).reshape(-1, PANEL, *whole.shape[1:], 1)
    return d, fine, (wide * whole).reshape(R, -1)[:, :G]


def _search(groups: Float32, levels: Float32) -> Float32:
    """The scales (R, G) of groups (R, G, 32) that lose least of those that are tried."""
    low, high = groups.min(axis=-1), groups.max(axis=-1)
    largest = np.where(-low > high, low, high)
    counts = np.abs(largest) > np.float32(SMALLEST)
    best, scale = np.zeros_like(largest), np.zeros_like(largest)
    for end in (levels[0], levels[-1]):
        for start in STARTS:
            target = end * np.float32(start)
            gain, fitted = _fit(groups, np.divide(target, largest, out=np.zeros_like(largest), where=counts), levels)
            better = gain > best
            best, scale = np.where(better, gain, best), np.where(better, fitted, scale)
    return _fit(groups, _inverse(scale), levels)[1]


def _inverse(scale: Float32) -> Float32:
    """1 / scale, and 0 where the scale is."""
    return np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)


def _nearest(groups: Float32, inverse: Float32, levels: Float32) -> Codes:
    """The code of the level nearest to each weight times `inverse` (R, G); of two equally near ones the lower."""
    middles = (levels[1:] + levels[:-1]) / 2
    return np.searchsorted(middles, groups * inverse[..., None]).astype(np.uint8)


def _fit(groups: Float32, inverse: Float32, levels: Float32) -> tuple[Float32, Float32]:
    """What the codes for `inverse` take off the squared error, and the scale that suits these codes best: (R, G)."""
    values = levels[_nearest(groups, inverse, levels)]
    # In the order of the columns (`sum` would pair them up); a sum of zeros is +0, as if begun with it.
    dot = np.add.accumulate(groups * values, axis=-1)[..., -1] + np.float32(0)
    square = np.square(values).sum(axis=-1)  # whole numbers: any order is exact
    fitted = np.divide(dot, square, out=np.zeros_like(dot), where=square > 0)
    return np.divide(dot * dot, square, out=np.zeros_like(dot), where=square > 0), fitted


def repack(tensor: QuantizedTensor) -> PackedTensor | None:
    """The same values bit for bit in a layout of `REPACKED`.

    None where there is no such layout: for Q2_K, and for a Q8_0 matrix that holds a -128 (ggml writes none).
    """
    if tensor.kind not in REPACKED:
        return None
    kind, codebook = REPACKED[tensor.kind]
    packing, (N, K) = PACKINGS[kind], tensor.shape
    out = PackedTensor.empty(kind, (N, K), codebook)
    codes, scales = out.codes, out.scales
    step = max(1, _CHUNK // (PANEL * K))
    for first in range(0, len(codes), step):
        blocks = tensor.blocks[PANEL * first : PANEL * (first + step)]
        part = codes[first : first + step]
        fields = _fields(tensor.kind, blocks)
        code = _stored_codes(fields.q, packing, BLOCKS[tensor.kind].zero)
        if packing.bits == 8 and not code.all():
            return None
        part[:] = encode_codes(packing, _panels(code.reshape(-1, K), len(part), zero_code(packing, codebook)))
        scales[first : first + step] = _stored_scales(fields, packing, len(blocks), len(part))
    return out


def zero_code(packing: Packing, codebook: Sequence[int]) -> int:
    """The code of the value nearest to zero, which the outputs have that only fill the last panel."""
    if packing.bits == 4:
        return min(range(16), key=lambda code: abs(codebook[code]))
    return int(1 << (packing.bits - 1))


def _fields(kind: str, blocks: Bytes) -> Fields:
    take_apart = BLOCKS[kind].fields
    assert take_apart is not None
    return take_apart(np.ascontiguousarray(blocks).reshape(-1, BLOCKS[kind].block_bytes))


def _stored_codes(q: Bytes, packing: Packing, zero: int) -> Codes:
    """Elements of blocks as codes: those of 8 bits mean q - zero, kept with 128 added."""
    return q + np.uint8(128 - zero) if packing.bits == 8 else q


def _stored_scales(fields: Fields, packing: Packing, num_rows: int, num_panels: int) -> Bytes:
    """The scales of blocks of whole rows, as they lie in a layout: (P, pieces, bytes of a piece)."""

    def by_panel(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return _panels(values.reshape(num_rows, -1, *values.shape[1:]), num_panels, 0)

    fine = None
    if fields.scales is not None:
        # The S forms have two scales a group of 32 columns, the K forms a scale and a minimum.
        pairs = fields.scales if fields.mins is None else np.stack([fields.scales, fields.mins], axis=-1)
        fine = by_panel(pairs.view(np.uint8).reshape(-1, 8, 2))
    m = None if fields.m is None else by_panel(fields.m[:, 0])
    return encode_scales(packing, by_panel(fields.d[:, 0]), m, fine)


def _panels(rows: npt.NDArray[Any], num_panels: int, fill: int) -> npt.NDArray[Any]:
    """(R, ...) as (num_panels, 16, ...), with rows of `fill` behind the last."""
    out = np.full((num_panels * PANEL, *rows.shape[1:]), fill, rows.dtype)
    out[: len(rows)] = rows
    return out.reshape(num_panels, PANEL, *rows.shape[1:])
