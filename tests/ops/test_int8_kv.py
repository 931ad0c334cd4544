"""int8 keys and values: the definition, its error, and that every backend holds the same numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from op_data import TESTED, backend_called, floats, give
from paged_batches import paged_batch

from ostro.config.kv import INT8_GROUP, KV_DTYPES, kv_row_bytes
from ostro.ops import get_ops
from ostro.ops.base import Ops
from ostro.ops.int8_kv import dequantize, quantize

Float32 = npt.NDArray[np.float32]

NUMBERS = st.floats(-8e6, 8e6, width=32)


@given(arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 70)), elements=NUMBERS))
def test_the_error_is_half_a_step_of_the_group(x: Float32) -> None:
    codes, scales = quantize(x)
    assert codes.shape == x.shape
    assert scales.shape == (len(x), -(-x.shape[1] // INT8_GROUP))
    assert np.abs(codes.astype(int)).max() <= 127
    steps = np.repeat(scales.astype(np.float64), INT8_GROUP, axis=1)[:, : x.shape[1]]
    largest = np.repeat(np.maximum.reduceat(np.abs(x), range(0, x.shape[1], INT8_GROUP), axis=1), INT8_GROUP, axis=1)
    # A float16 scale is off by 2^-11 at most, 2^-25 for tiny ones: the largest codes cannot make up for that.
    bound = 0.5 * steps + largest[:, : x.shape[1]] * 2.0**-11 + 127 * 2.0**-25
    assert (np.abs(dequantize(codes, scales) - x.astype(np.float64)) <= bound).all()


def test_what_can_be_held_exactly_is() -> None:
    x = np.array([[127, -127, 3, 0, -1], [0, 0, 0, 0, 0]], np.float32) / 64
    assert np.array_equal(dequantize(*quantize(x)), x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e9])
def test_what_cannot_be_held_is_nan_for_its_group(bad: float) -> None:
    x = np.ones(40, np.float32)
    x[3] = bad
    back = dequantize(*quantize(x))
    assert np.isnan(back[:INT8_GROUP]).all()
    assert np.allclose(back[INT8_GROUP:], 1, atol=0.004)


def held(ops: Ops, rows: Float32) -> Float32:
    """Rows (T, d) after a stay in a pool: attention over one position alone returns its v."""
    out = []
    for row in rows:
        pool = ops.kv_pool(1, 1, 1, 1, len(row), "int8")
        batch = paged_batch([(0, 1)], [np.zeros(1, np.int32)], 1)
        out.append(ops.to_numpy(ops.attention(*(give(ops, row[None]) for _ in range(3)), pool, 0, batch, None)))
    return np.concatenate(out)


@pytest.mark.parametrize("name", ["reference", *TESTED])
def test_every_backend_holds_the_same_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ops = get_ops(name) if name == "reference" else backend_called(name, monkeypatch)
    rng = np.random.default_rng(5)
    for head_dim in (1, 20, 32, 50, 128):
        rows = floats(rng, 6, head_dim) * 10.0 ** rng.integers(-8, 2, (6, 1))
        rows[0] = 0
        rows[1] = rng.integers(-254, 255, head_dim) / 2  # ties
        rows[1, 0] = 127
        assert np.array_equal(held(ops, rows.astype(np.float32)), dequantize(*quantize(rows.astype(np.float32))))


@pytest.mark.parametrize("name", ["reference", *TESTED])
@pytest.mark.parametrize("dtype", KV_DTYPES)
def test_a_pool_takes_what_is_said(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ops = get_ops(name) if name == "reference" else backend_called(name, monkeypatch)
    pool = ops.kv_pool(2, 5, 7, 3, 40, dtype)
    assert (pool.num_blocks, pool.block_size) == (5, 7)
    assert pool.nbytes == 2 * 2 * 5 * 7 * 3 * kv_row_bytes(dtype, 40)


def test_channels_that_stand_out_leave_the_other_groups_their_precision() -> None:
    """Rotated keys have a few large channels: a scale for each row would lose the rest of it."""
    rng = np.random.default_rng(3)
    keys, queries = floats(rng, 200, 128), floats(rng, 50, 128)
    keys[:, [20, 84]] *= 30
    exact = queries @ keys.T
    by_groups = queries @ dequantize(*quantize(keys)).T
    step = np.abs(keys).max(axis=1, keepdims=True) / 127
    by_rows = queries @ (np.rint(keys / step) * step).T
    assert np.std(by_groups - exact) < 0.75 * np.std(by_rows - exact)
