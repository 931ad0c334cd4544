"""The block decoders: against layouts written down a second way, and against digests of another implementation."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import pytest
from gguf_quantize import ASYMMETRIC, BITS, GROUPS, IQ4_NL, pack, quantize
from gguf_writer import FORMATS, random_blocks

from ostro.checkpoint.gguf_blocks import BLOCKS, KINDS, REFUSED

QUANTIZED = [kind for kind in BLOCKS if BLOCKS[kind].block_size > 1]


def test_the_table_agrees_with_the_writer() -> None:
    assert {k: (b.ggml_id, b.block_size, b.block_bytes) for k, b in BLOCKS.items()} == {
        k: numbers[:3] for k, numbers in FORMATS.items()
    }
    assert not set(KINDS) & set(REFUSED)


@pytest.mark.parametrize("kind", QUANTIZED)
def test_fields_land_where_the_format_puts_them(kind: str) -> None:
    rng = np.random.default_rng(3)
    n, elements = 40, FORMATS[kind][1]
    q = rng.integers(0, 1 << BITS[kind], (n, elements))
    d, m = (rng.standard_normal((2, n)) / 8).astype(np.float16)
    groups, limit = GROUPS.get(kind, 1), {"Q2_K": 16, "Q6_K": 256}.get(kind, 64)
    scales = rng.integers(0, limit, (n, groups)) if kind in GROUPS else None
    mins = rng.integers(0, limit, (n, groups)) if kind in GROUPS and kind in ASYMMETRIC else None
    blocks = pack(kind, q, d, m if kind in ASYMMETRIC else None, scales, mins)
    expected = _value(kind, q, d, m, scales, mins)
    np.testing.assert_array_equal(BLOCKS[kind].decode(blocks), expected)


def _value(kind: str, q: npt.NDArray, d: npt.NDArray, m: npt.NDArray, scales: object, mins: object) -> npt.NDArray:
    """The formula of the table in `gguf_blocks`, in float32."""
    d32, m32 = d.astype(np.float32)[:, None], m.astype(np.float32)[:, None]
    if kind == "Q8_0":
        return d32 * q.astype(np.uint8).view(np.int8)[:, :].astype(np.float32)
    if kind == "IQ4_NL":
        return d32 * IQ4_NL[q].astype(np.float32)
    zero = {"Q4_0": 8, "Q5_0": 16, "Q3_K": 4, "Q6_K": 32}.get(kind, 0)
    if kind not in GROUPS:
        product = d32 * (q - zero).astype(np.float32)
        return product + m32 if kind in ASYMMETRIC else product
    assert isinstance(scales, np.ndarray)
    if kind == "Q6_K":
        scales = scales.astype(np.uint8).view(np.int8)
    if kind == "Q3_K":
        scales = scales - 32
    width = 256 // GROUPS[kind]
    product = np.repeat(d32 * scales.astype(np.float32), width, axis=1) * (q - zero).astype(np.float32)
    if isinstance(mins, np.ndarray):
        return product - np.repeat(m32 * mins.astype(np.float32), width, axis=1)
    return product


DIGESTS: dict[str, str] = {
    "F32": "0ed1618dfcc1aa96",
    "F16": "43886b220bb42cb2",
    "BF16": "2a1869f0ecfd823b",
    "Q4_0": "e1ab5ac073237523",
    "Q4_1": "9e506e85c5f6ee00",
    "Q5_0": "7e7cb2e97501825f",
    "Q5_1": "52ec1424bebd099d",
    "Q8_0": "ce35e3c7ebcc33fd",
    "Q2_K": "c2d46eba6cbb3c92",
    "Q3_K": "5e1fcda3966cc5a9",
    "Q4_K": "b9f119488a73b721",
    "Q5_K": "08d4d0e1ae0019a6",
    "Q6_K": "cf10bb16e96818dc",
    "IQ4_NL": "140b85aedc0b776b",
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_same_bits_as_another_implementation(kind: str) -> None:
    """Digests of what `dequantize` of the gguf package (0.19.0) makes of the same 64 blocks."""
    values = BLOCKS[kind].decode(_arbitrary(kind))
    assert values.dtype == np.float32
    assert hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()[:16] == DIGESTS[kind]


def _arbitrary(kind: str) -> npt.NDArray[np.uint8]:
    """4 rows of 16 blocks of arbitrary bytes, with finite float16 numbers of every size below 2."""
    _, _, size, halves = FORMATS[kind]
    blocks = np.frombuffer(hashlib.shake_256(kind.encode()).digest(64 * size), np.uint8).reshape(64, size).copy()
    for at in halves or [size - 2]:
        blocks[:, at + 1] &= 0xBF
    return blocks.reshape(4, -1)


@pytest.mark.parametrize("kind", QUANTIZED)
def test_float16_extremes(kind: str) -> None:
    """Zero, the smallest subnormal, the largest finite and infinity keep their value and raise no warning."""
    extremes = np.array([0, 2**-24, 65504, np.inf], np.float16)
    blocks = random_blocks(kind, (4, FORMATS[kind][1]))
    for at in FORMATS[kind][3]:
        blocks[:, at : at + 2] = extremes[:, None].view(np.uint8)
    values = BLOCKS[kind].decode(blocks)
    assert not values[0].any()
    assert np.isfinite(values[:3]).all()
    assert 0 < np.abs(values[1]).max() <= 2**-24 * 128 * 64
    assert not np.isfinite(values[3]).all()


@pytest.mark.parametrize("kind", QUANTIZED)
def test_quantizing_loses_little(kind: str) -> None:
    x = np.random.default_rng(5).uniform(-1, 1, (6, 512)).astype(np.float32)
    back = BLOCKS[kind].decode(quantize(kind, x))
    assert back.shape == x.shape
    step = 2 / (1 << BITS[kind])  # of values from -1 to 1
    assert np.abs(back - x).max() <= 1.5 * step  # a step where the largest is clipped, and the rounding of the scales
    assert not BLOCKS[kind].decode(quantize(kind, np.zeros((1, 256), np.float32))).any()


@pytest.mark.parametrize("kind", BLOCKS)
def test_chunks_and_rows_do_not_matter(kind: str) -> None:
    """A large matrix is decoded in pieces; each row must come out as it does alone, strided rows included."""
    blocks = random_blocks(kind, (300, 1024))
    whole = BLOCKS[kind].decode(blocks)
    assert whole.shape == (300, 1024)
    np.testing.assert_array_equal(BLOCKS[kind].decode(blocks[7:8])[0], whole[7])
    np.testing.assert_array_equal(BLOCKS[kind].decode(blocks[::50]), whole[::50])
    assert BLOCKS[kind].decode(blocks[:0]).shape == (0, 1024)
