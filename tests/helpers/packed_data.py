"""Random packed weights, and activations that rounding to bytes leaves as they are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ostro.checkpoint.packed import INT4, PACKINGS, PANEL, PackedTensor, encode_codes

PACKED_KINDS = tuple(PACKINGS)
CODEBOOK = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""One that no symmetry of a kernel could hide behind."""


def packed(rng: np.random.Generator, kind: str, rows: int, cols: int, codebook: tuple[int, ...] = INT4) -> PackedTensor:
    """A weight of about unit size with random codes, scales of both signs, and minima where the kind has them."""
    packing = PACKINGS[kind]
    panels, groups, _ = packing.codes_shape(rows, cols)
    lowest = 1 if packing.bits == 8 else 0  # the value -128 is not used
    codes = encode_codes(packing, rng.integers(lowest, 1 << packing.bits, (panels, PANEL, 32 * groups), np.uint8))
    scales = np.empty(packing.scales_shape(rows, cols), np.uint8)
    halves = {"": 16, "M": 32, "G": 16, "K": 32, "S": 16}[kind[2:]]
    size = 2.0 ** -(packing.bits + (5 if kind[2:] in ("G", "K", "S") else 0))
    heads = (rng.standard_normal((*scales.shape[:2], halves)) * size).astype(np.float16)
    scales[..., : 2 * halves] = heads.view(np.uint8)
    scales[..., 2 * halves :] = rng.integers(0, 64, scales[..., 2 * halves :].shape)
    if kind[2:] in ("G", "S"):
        scales[..., 2 * halves :] -= 32  # wraps around: signed bytes
    return PackedTensor(kind, (rows, cols), codes, scales, codebook if packing.bits == 4 else ())


def packed_columns(kind: str) -> tuple[int, ...]:
    """Numbers of columns that a kind can have, awkward ones first."""
    return (7, 32, 172, 300) if kind[2:] in ("", "M", "G") else (256, 768)


def whole(rng: np.random.Generator, rows: int, cols: int) -> npt.NDArray[np.float32]:
    """Activations (rows, cols) that are whole multiples of a power of two, 127 of them the largest in every group."""
    q = rng.integers(-127, 128, (rows, -(-cols // 32), 32))
    q[:, :, 0] = 127
    steps = 2.0 ** rng.integers(-9, -5, q.shape[:2])
    return (q * steps[..., None]).astype(np.float32).reshape(rows, -1)[:, :cols].copy()


def rounded(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """What the kernels make of activations (T, K): per row and group of 32, q = x / scale to the nearest even."""
    rows, cols = x.shape
    groups = np.pad(x, ((0, 0), (0, -cols % 32))).reshape(rows, -1, 32)
    largest = np.abs(groups).max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(largest > 1e-30, np.rint(groups * (np.float32(127) / largest)), 0)
    return (q.astype(np.float64) * (largest / np.float32(127))).reshape(rows, -1)[:, :cols]
