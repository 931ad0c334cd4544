"""Layer norm, GELU and attention in both directions: every backend against the reference, and the bits of cpu."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from op_data import TESTED, assert_close, backend_called, floats, give, same_bits

from ostro.errors import BackendError
from ostro.ops import get_ops
from ostro.ops.base import Ops
from ostro.ops.cpu import CpuOps

REFERENCE = get_ops("reference")
LENGTHS = (1, 40, 7, 131, 16)
STARTS = np.cumsum([0, *LENGTHS]).astype(np.int32)
HEADS = [(1, 3), (3, 20), (4, 8), (12, 32), (2, 64)]


@pytest.fixture(params=TESTED)
def ops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ops:
    return backend_called(request.param, monkeypatch)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_layer_norm(ops: Ops, rng: np.random.Generator) -> None:
    for cols in (1, 15, 33, 384):
        weight, bias = floats(rng, cols), floats(rng, cols)
        for rows in (1, 7, 40):
            x = 3 * floats(rng, rows, cols) + 1
            ours = ops.layer_norm(give(ops, x), ops.vector(weight), ops.vector(bias), 1e-5)
            assert_close(ops.to_numpy(ours), REFERENCE.layer_norm(x, weight, bias, 1e-5), 5e-6)


def test_gelu(ops: Ops, rng: np.random.Generator) -> None:
    x = np.concatenate([np.linspace(-15, 15, 5001), rng.normal(size=100), [-300, 0, 300]]).astype(np.float32)[None]
    exact = np.array([[each / 2 * math.erfc(-each / math.sqrt(2)) for each in x[0].tolist()]])
    ours = ops.to_numpy(ops.gelu(give(ops, x)))
    assert np.abs(ours - exact).max() < 3e-7 * 300
    assert np.abs(ours - exact)[np.abs(x) < 15].max() < 1e-6
    assert np.abs(REFERENCE.gelu(x) - exact)[np.abs(x) < 15].max() < 1e-6


@pytest.mark.parametrize("longest", [None, 131, 200])
@pytest.mark.parametrize(("num_heads", "head_dim"), HEADS)
def test_attention(ops: Ops, num_heads: int, head_dim: int, longest: int | None, rng: np.random.Generator) -> None:
    q, k, v = (floats(rng, int(STARTS[-1]), num_heads * head_dim) for _ in range(3))
    bias = None if longest is None else floats(rng, num_heads, 2 * longest - 1)
    ours = ops.encoder_attention(*(give(ops, x) for x in (3 * q, k, v)), STARTS, num_heads, bias)
    assert_close(ops.to_numpy(ours), REFERENCE.encoder_attention(3 * q, k, v, STARTS, num_heads, bias), 5e-6)


def test_the_definition_of_attention(rng: np.random.Generator) -> None:
    """One text, two heads, written out."""
    q, k, v = (floats(rng, 5, 6).astype(np.float64) for _ in range(3))
    bias = floats(rng, 2, 9)
    expected = np.empty((5, 6))
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        for row in range(5):
            scores = [q[row, part] @ k[j, part] / math.sqrt(3) + bias[head, j - row + 4] for j in range(5)]
            weights = np.exp(scores) / np.exp(scores).sum()
            expected[row, part] = weights @ v[:, part]
    narrow = (x.astype(np.float32) for x in (q, k, v))
    ours = REFERENCE.encoder_attention(*narrow, np.array([0, 5], np.int32), 2, bias)
    assert np.abs(ours - expected).max() < 1e-6


def test_rows_do_not_depend_on_company_or_threads(isa: str, rng: np.random.Generator) -> None:
    one, two = CpuOps(1), CpuOps(2)
    x = floats(rng, 300, 131)
    weight, bias = floats(rng, 131), floats(rng, 131)
    normed, gelu = two.layer_norm(x, weight, bias, 1e-5), two.gelu(x)
    q, k, v = (floats(rng, int(STARTS[-1]), 60) for _ in range(3))
    by_distance = floats(rng, 3, 2 * 150 - 1)
    attended = two.encoder_attention(q, k, v, STARTS, 3, by_distance)
    for ops in (one, two):
        for rows in (slice(0, 1), slice(7, 9), slice(100, 217)):
            assert same_bits(ops.layer_norm(x[rows], weight, bias, 1e-5), normed[rows])
            assert same_bits(ops.gelu(x[rows]), gelu[rows])
        for first, end in itertools.pairwise(STARTS):
            rows, alone = slice(first, end), np.array([0, end - first], np.int32)
            fewer = by_distance[:, 19:-19]  # of texts up to 131
            assert same_bits(ops.encoder_attention(q[rows], k[rows], v[rows], alone, 3, fewer), attended[rows])


def test_wrong_arguments_are_refused(rng: np.random.Generator) -> None:
    ops = CpuOps(1)
    q = floats(rng, 8, 12)
    for starts in ([0, 7], [1, 8], [0, 9, 8], [0, 5, 3, 8], [8]):
        with pytest.raises(BackendError, match="row_starts"):
            ops.encoder_attention(q, q, q, np.array(starts, np.int32), 3, None)
    good = np.array([0, 8], np.int32)
    with pytest.raises(BackendError, match="no text may be longer"):
        ops.encoder_attention(q, q, q, good, 3, floats(rng, 3, 2 * 7 - 1))
    with pytest.raises(BackendError, match="num_heads"):
        ops.encoder_attention(q, q, q, good, 5, None)
    with pytest.raises(BackendError, match="k and v"):
        ops.encoder_attention(q, q[:7], q, good, 3, None)
    with pytest.raises(BackendError, match="bias"):
        ops.encoder_attention(q, q, q, good, 3, floats(rng, 2, 15))
    with pytest.raises(BackendError, match="weight and bias"):
        ops.layer_norm(q, q[0, :5].copy(), q[0].copy(), 1e-5)
