"""Packed layouts: written down a second way, and there and back for any codes and scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed_data import CODEBOOK, PACKED_KINDS, packed

from ostro.checkpoint.packed import (
    GROUP,
    INT4,
    NF4,
    PACKINGS,
    PANEL,
    SUPER,
    PackedTensor,
    decode_scales,
    decode_values,
    encode_codes,
    encode_scales,
)

SEEDS = st.integers(0, 2**32 - 1)


def code_at(tensor: PackedTensor, row: int, column: int) -> int:
    """One code by the words of the module's docstring, bit by bit."""
    group = tensor.codes[row // PANEL, column // GROUP]
    n, c, bits = row % PANEL, column % GROUP, tensor.packing.bits
    if bits == 8:
        return int(group[64 * (c // 4) + 4 * n + c % 4])
    v, high_half, b = c // 8, c % 8 // 4, c % 4
    code = int(group[64 * v + 4 * n + b]) >> (4 * high_half) & 15
    if bits == 6:
        code |= (int(group[256 + 64 * (c // 16) + 4 * n + c % 4]) >> (2 * (c % 16 // 4)) & 3) << 4
    return code


def scale_and_offset_at(tensor: PackedTensor, row: int, column: int) -> tuple[np.float32, np.float32]:
    """The same for what multiplies a value and what is added."""
    form, n, zero = tensor.kind[2:], row % PANEL, np.float32(0)
    scales = tensor.scales[row // PANEL, column // tensor.packing.scale_columns]

    def half(number: int) -> np.float32:
        return np.float32(scales[32 * number + 2 * n : 32 * number + 2 * n + 2].view(np.float16)[0])

    def fine(number: int, at: int) -> np.uint8:
        return np.uint8(scales[at + 16 * number + n])

    group = column % SUPER // GROUP
    if form == "":
        return half(0), zero
    if form == "M":
        return half(0), half(1)
    if form == "G":
        return half(0) * np.float32(fine(group, 32).view(np.int8)), zero
    if form == "S":
        return half(0) * np.float32(fine(2 * group + column % GROUP // 16, 32).view(np.int8)), zero
    return half(0) * np.float32(fine(2 * group, 64)), -half(1) * np.float32(fine(2 * group + 1, 64))


@pytest.mark.parametrize("kind", PACKED_KINDS)
def test_every_bit_lies_where_the_layout_says(kind: str) -> None:
    tensor = packed(np.random.default_rng(1), kind, 19, 512, CODEBOOK)
    values = tensor.dequantize()
    zero = {4: 0, 6: 32, 8: 128}[tensor.packing.bits]
    for row in (0, 3, 15, 16, 18):
        for column in (*range(40), 255, 256, 300, 511):
            code = code_at(tensor, row, column)
            scale, offset = scale_and_offset_at(tensor, row, column)
            value = CODEBOOK[code] if tensor.codebook else code - zero
            assert values[row, column] == scale * np.float32(value) + offset, (row, column)


@given(kind=st.sampled_from(PACKED_KINDS), panels=st.integers(1, 3), groups=st.integers(1, 9), seed=SEEDS)
def test_codes_there_and_back(kind: str, panels: int, groups: int, seed: int) -> None:
    packing = PACKINGS[kind]
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << packing.bits, (panels, PANEL, GROUP * groups), np.uint8)
    encoded = encode_codes(packing, codes)
    assert encoded.shape == packing.codes_shape(PANEL * panels, GROUP * groups)
    zero = {4: 0, 6: 32, 8: 128}[packing.bits]
    np.testing.assert_array_equal(decode_values(packing, encoded, range(16)), codes.astype(np.float32) - zero)


@given(kind=st.sampled_from(PACKED_KINDS), panels=st.integers(1, 3), pieces=st.integers(1, 4), seed=SEEDS)
def test_scales_there_and_back(kind: str, panels: int, pieces: int, seed: int) -> None:
    packing, rng = PACKINGS[kind], np.random.default_rng(seed)
    shape, form = (panels, PANEL, pieces), kind[2:]
    d, m = rng.standard_normal((2, *shape)).astype(np.float16)
    fine = rng.integers(0, 256, (*shape, 8, 1 if form == "G" else 2), np.uint8) if form in ("G", "K", "S") else None
    encoded = encode_scales(packing, d, m if form in ("M", "K") else None, fine)
    cols = packing.scale_columns * pieces
    assert encoded.shape == packing.scales_shape(PANEL * panels, cols)
    scale, offset = decode_scales(packing, encoded, cols)
    wide = d.astype(np.float32)[..., None, None]
    if fine is None:
        np.testing.assert_array_equal(scale, np.repeat(d.astype(np.float32), GROUP, axis=2))
    elif form == "K":
        np.testing.assert_array_equal(scale, _spread(wide * fine[..., :1], cols))
        assert offset is not None
        np.testing.assert_array_equal(offset, -_spread(m.astype(np.float32)[..., None, None] * fine[..., 1:], cols))
    else:
        np.testing.assert_array_equal(scale, _spread(wide * fine.view(np.int8), cols))
    assert (offset is None) == (form not in ("M", "K"))


def _spread(scales: npt.NDArray[Any], cols: int) -> npt.NDArray[Any]:
    """(P, 16, pieces, groups, halves) to every column."""
    flat = scales.reshape(*scales.shape[:2], -1)
    return np.repeat(flat, cols // flat.shape[2], axis=2)


@pytest.mark.parametrize("kind", PACKED_KINDS)
def test_rows_are_those_of_the_whole(kind: str) -> None:
    tensor = packed(np.random.default_rng(2), kind, 53, 256)
    index = np.array([52, 0, 17, 17, 31], np.int32)
    np.testing.assert_array_equal(tensor.row_values(index), tensor.dequantize()[index])
    assert tensor.row_values(index[:0]).shape == (0, 256)


def test_sizes() -> None:
    """Bits of a weight: 4.5, 5, 4.3125 and 4.625 for 4-bit codes, 8.5 for P8 (Mistral 7B's widest matrix)."""
    bits = {kind: 8 * PACKINGS[kind].nbytes(4096, 14336) / (4096 * 14336) for kind in PACKINGS}
    assert (bits["P4"], bits["P4M"], bits["P4G"], bits["P4K"], bits["P8"]) == (4.5, 5.0, 4.3125, 4.625, 8.5)


def test_nf4_has_the_quantiles_of_the_normal_distribution() -> None:
    """Its levels are, up to rounding, means of neighbouring quantiles: even in probability on each side of zero."""
    from statistics import NormalDist

    reach = 0.9677083  # of the paper's construction: the outermost quantile
    quantile = NormalDist().inv_cdf
    positive = [quantile(0.5 + (reach - 0.5) * i / 8) for i in range(9)]
    negative = [-quantile(0.5 + (reach - 0.5) * i / 7) for i in range(7, 0, -1)]
    levels = np.array(negative + positive) / quantile(reach) * 127
    np.testing.assert_allclose(NF4, levels, atol=0.51)
    assert len(INT4) == 16
