"""Packing in NumPy: floats are rounded well and within bounds, GGUF blocks keep every bit of their values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from gguf_quantize import ASYMMETRIC, BITS, GROUPS, pack, quantize
from gguf_writer import FORMATS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from quantize_data import blocks_of, q4_0, q8_0, squared_error
from tokenizer_conversions import STORIES

from ostro.checkpoint import packing
from ostro.checkpoint.gguf_blocks import BLOCKS, IQ4_NL_VALUES
from ostro.checkpoint.open import open_checkpoint
from ostro.checkpoint.packed import INT4, NF4, PackedTensor, decode_scales, decode_values
from ostro.checkpoint.tensors import QuantizedTensor
from ostro.errors import CheckpointError

needs_stories = pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside the checkout")


# GGUF blocks.


@pytest.mark.parametrize("kind", packing.REPACKED)
def test_repacked_blocks_have_the_same_values(kind: str) -> None:
    for rows in (1, 16, 35):
        tensor = blocks_of(kind, rows, 768, rows)
        packed = packing.repack(tensor)
        assert packed is not None
        assert (packed.kind, packed.codebook) == packing.REPACKED[kind]
        np.testing.assert_array_equal(packed.dequantize(), tensor.dequantize())


@pytest.mark.parametrize("kind", packing.REPACKED)
def test_repacked_blocks_of_a_quantizer_and_of_extremes(kind: str) -> None:
    """Fields put in place by other code than the reader's; zero, subnormal, negative and the largest scales."""
    rng = np.random.default_rng(7)
    elements = FORMATS[kind][1]
    rounded = quantize(kind, rng.standard_normal((5, 512)).astype(np.float32))
    d = np.array([0, -0.0, 2**-24, -(2**-20), 1, -3.5, 65504, -65504], np.float16)
    n, groups = len(d), GROUPS.get(kind, 1)
    q = rng.integers(1 if kind == "Q8_0" else 0, 1 << BITS[kind], (n, elements))
    q = q - 128 if kind == "Q8_0" else q
    m = d[::-1] if kind in ASYMMETRIC else None
    limit = 256 if kind == "Q6_K" else 64
    scales = rng.integers(0, limit, (n, groups)) if kind in GROUPS else None
    mins = rng.integers(0, limit, (n, groups)) if scales is not None and m is not None else None
    for blocks, cols in ((rounded, 512), (pack(kind, q, d, m, scales, mins), elements)):
        tensor = QuantizedTensor(kind, (len(blocks), cols), blocks, BLOCKS[kind].decode)
        packed = packing.repack(tensor)
        assert packed is not None
        np.testing.assert_array_equal(packed.dequantize(), tensor.dequantize())


def test_what_no_layout_holds_exactly_is_not_repacked() -> None:
    assert packing.repack(blocks_of("Q2_K", 3, 256)) is None
    tensor = blocks_of("Q8_0", 3, 64)
    assert packing.repack(tensor) is not None
    blocks = tensor.blocks.copy()
    blocks[2, -1] = 128
    assert packing.repack(replace(tensor, blocks=blocks)) is None


@pytest.mark.parametrize("kind", packing.REPACKED)
def test_outputs_that_fill_the_last_panel_are_zero(kind: str) -> None:
    """So that a kernel may compute with them: scales of zero, and codes that mean zero or stand next to it."""
    packed = packing.repack(blocks_of(kind, 18, 256))
    assert packed is not None
    scale, offset = decode_scales(packed.packing, packed.scales, 256)
    assert not scale[1, 2:].any()
    assert offset is None or not offset[1, 2:].any()
    values = decode_values(packed.packing, packed.codes, packed.codebook)
    assert np.abs(values[1, 2:]).max() == min(abs(value) for value in packed.codebook or (0,))
    assert values[0].any()


# Floats.


def scales_of(packed: PackedTensor) -> npt.NDArray[np.float32]:
    """What every weight is a multiple of: (N, K)."""
    scale, _ = decode_scales(packed.packing, packed.scales, 32 * packed.codes.shape[1])
    return scale.reshape(-1, scale.shape[2])[: packed.shape[0], : packed.shape[1]]


def matrices(limit: float) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    """Matrices of any size up to 20 x 70, of floats of all magnitudes and both zeros."""
    bound = float(np.float32(limit))
    return hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 20), st.integers(1, 70)),
        elements=st.floats(-bound, bound, width=32) | st.floats(-1, 1, width=32),
        fill=st.sampled_from([0.0, -0.0, 1.0]),
    )


@settings(max_examples=60)
@given(weights=matrices(65504))
def test_eight_bits_are_within_half_a_step(weights: npt.NDArray[np.float32]) -> None:
    packed = packing.quantize(weights, "P8")
    values = decode_values(packed.packing, packed.codes, ())
    assert np.abs(values).max() <= 127
    step = scales_of(packed).astype(np.float64)
    # A 127th of the smallest subnormal floats is zero, and so is their scale.
    assert (np.abs(packed.dequantize() - weights.astype(np.float64)) <= step * 0.5001 + 1e-40).all()
    # Float16 keeps 11 bits of a scale; below 2^-14 it keeps whole multiples of 2^-24.
    padded = np.zeros((len(weights), -(-weights.shape[1] // 32) * 32))
    padded[:, : weights.shape[1]] = np.abs(weights)
    reach = np.repeat(padded.reshape(len(weights), -1, 32).max(axis=2), 32, axis=1)[:, : weights.shape[1]]
    assert (step <= reach / 127 * (1 + 2**-10) + 2**-24).all()


@settings(max_examples=40)
@given(weights=matrices(65504), kind=st.sampled_from(["P4", "P4G"]), codebook=st.sampled_from([INT4, NF4]))
def test_four_bits_choose_the_nearest_level(
    weights: npt.NDArray[np.float32], kind: str, codebook: tuple[int, ...]
) -> None:
    """Whatever scale was found: no other code of its group would be nearer, but for a rounding at the middle."""
    packed = packing.quantize(weights, kind, codebook)
    step = scales_of(packed).astype(np.float64)
    assert np.isfinite(step).all()
    error = np.abs(packed.dequantize() - weights.astype(np.float64))
    nearest = np.abs(weights.astype(np.float64)[..., None] - step[..., None] * np.array(codebook)).min(axis=2)
    assert (error <= nearest + 1e-6 * np.abs(weights) + 1e-12).all()


@pytest.mark.parametrize("codebook", [INT4, NF4, IQ4_NL_VALUES])
def test_weights_that_are_levels_stay_as_they_are(codebook: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    levels = np.array(codebook)[rng.integers(0, 16, (17, 64))]
    # A group tells its scale if both ends of the codebook occur in it.
    levels[:, [0, 32]], levels[:, [1, 33]] = codebook[0], codebook[-1]
    weights = (levels * np.repeat(rng.choice([0.125, -0.5, 3.0], (17, 2)), 32, axis=1)).astype(np.float32)
    assert np.array_equal(packing.quantize(weights, "P4", codebook).dequantize(), weights)


def test_zero_tiny_and_large_groups() -> None:
    weights = np.zeros((6, 32), np.float32)
    weights[1], weights[2], weights[3], weights[4, 5], weights[5] = -0.0, 1e-30, 2.0**-24, 65504, -65504
    for kind in ("P4", "P4G", "P8"):
        values = packing.quantize(weights, kind).dequantize()
        assert not values[:3].any()
        assert np.abs(values[3] - weights[3]).max() <= 2.0**-24  # the least float16: a scale below half of it is none
        assert np.abs(values[4:] - weights[4:]).max() <= 40
    with pytest.raises(CheckpointError, match="not float32 of shape"):
        packing.quantize(weights[:0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 65536.0])
@pytest.mark.parametrize("kind", ["P4", "P4G", "P8"])
def test_weights_that_are_none_are_refused(bad: float, kind: str) -> None:
    weights = np.ones((40, 70), np.float32)
    weights[33, 69] = bad
    with pytest.raises(CheckpointError, match=r"row 33, column 69 is (nan|-?inf|65536).*up to 65504"):
        packing.quantize(weights, kind)


def test_what_is_no_matrix_of_floats_is_refused() -> None:
    for array in (np.ones((2, 32)), np.ones((2, 32), np.int8), np.ones(32, np.float32), np.ones((1, 2, 3), np.float32)):
        with pytest.raises(CheckpointError, match=r"A matrix of float32, float16 or bfloat16.*not"):
            packing.quantize(array)


@pytest.mark.parametrize("kind", ["P4", "P4G", "P8"])
def test_pieces_types_and_strides_do_not_matter(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(4).standard_normal((70, 300)).astype(ml_dtypes.bfloat16)
    whole = packing.quantize(weights, kind)
    monkeypatch.setattr(packing, "_CHUNK", 1)  # a panel at a time
    for same in (weights, weights.astype(np.float32), np.asfortranarray(weights)):
        pieces = packing.quantize(same, kind)
        assert np.array_equal(pieces.codes, whole.codes)
        assert np.array_equal(pieces.scales, whole.scales)
    assert np.array_equal(packing.quantize(weights[16:32], kind).codes[0], whole.codes[1])


# How much is lost.


def ratios(weights: npt.NDArray[Any]) -> dict[str, float]:
    """Squared errors over those of Q4_0, of P8 over those of Q8_0."""
    plain, eight = squared_error(weights, q4_0(weights)), squared_error(weights, q8_0(weights))
    found = {
        f"{kind} {name}": squared_error(weights, packing.quantize(weights, kind, codebook).dequantize()) / plain
        for kind in ("P4", "P4G")
        for name, codebook in (("int4", INT4), ("nf4", NF4), ("iq4_nl", IQ4_NL_VALUES))
    }
    return found | {"P8": squared_error(weights, packing.quantize(weights, "P8").dequantize()) / eight}


def test_less_is_lost_than_by_plain_rounding() -> None:
    weights = np.random.default_rng(5).standard_normal((64, 512), dtype=np.float32) / 50
    found = ratios(weights)
    assert found["P4 int4"] < 0.91
    assert found["P4 nf4"] < 0.80
    assert found["P4 iq4_nl"] < 0.75
    assert found["P8"] < 1.001
    for name in ("int4", "nf4", "iq4_nl"):
        assert found[f"P4G {name}"] < found[f"P4 {name}"] * 1.005


@needs_stories
def test_less_is_lost_of_trained_weights() -> None:
    tensors = open_checkpoint(STORIES / "hf").tensors
    for name in tensors:
        tensor = tensors[name]
        assert isinstance(tensor, np.ndarray)
        if tensor.ndim == 2:
            found = ratios(np.ascontiguousarray(tensor[:, : tensor.shape[1] // 32 * 32]))
            assert found["P4 int4"] < 0.95, name
            assert found["P4 nf4"] < 1.02, name
            assert found["P8"] < 1.001, name


def test_few_scales_are_nearly_as_good_as_many() -> None:
    """The ten scales of the search against two thousand."""
    weights = np.random.default_rng(6).standard_t(5, (40, 32)).astype(np.float32)
    for codebook, allowed in ((INT4, 1.01), (NF4, 1.03), (IQ4_NL_VALUES, 1.02)):
        found = squared_error(weights, packing.quantize(weights, "P4", codebook).dequantize())
        reach = np.abs(weights).max(axis=1, keepdims=True) / 127 * (127 / max(map(abs, codebook)))
        levels, best = np.array(codebook, np.float64), np.full(len(weights), np.inf)
        for factor in np.linspace(-2, 2, 2001):
            if factor:
                step = reach * factor
                error = np.abs(weights[..., None] - step[..., None] * levels).min(axis=2)
                best = np.minimum(best, np.square(error).sum(axis=1))
        assert found <= best.sum() / weights.size * allowed
