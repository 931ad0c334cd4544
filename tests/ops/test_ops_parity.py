"""Every op of every backend, and of every kernel set of the cpu backend, against the reference: types, odd shapes."""

from __future__ import annotations

import numpy as np
import pytest
from op_data import KINDS, TESTED, assert_close, backend_called, floats, give, odd_columns, stored
from packed_data import whole
from paged_batches import paged_batch, scattered_tables

from ostro.config.kv import KV_DTYPES
from ostro.ops import get_ops
from ostro.ops.base import Ops
from ostro.ops.dtypes import DTYPES

ROWS = (1, 2, 7, 33, 135)
REFERENCE = get_ops("reference")


@pytest.fixture(params=TESTED)
def ops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ops:
    return backend_called(request.param, monkeypatch)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240923)


@pytest.mark.parametrize("kind", KINDS)
def test_linear(ops: Ops, kind: str, rng: np.random.Generator) -> None:
    for cols in odd_columns(kind):
        for outputs in (1, 5, 61):
            weight = stored(rng, kind, outputs, cols)
            for num_rows in ROWS:
                # The cpu backend rounds activations for packed weights: these are whole already.
                x = floats(rng, num_rows, cols) if kind in DTYPES else whole(rng, num_rows, cols)
                ours = ops.to_numpy(ops.linear(give(ops, x), ops.weight(weight)))
                exact = x.astype(np.float64) @ REFERENCE.linear(np.eye(cols, dtype=np.float32), weight).astype(float)
                scale = np.sqrt(cols) * max(1.0, float(np.abs(exact).max()))
                assert np.abs(ours - exact).max() <= 1e-6 * scale
                assert_close(ours, REFERENCE.linear(x, weight), 1e-6 * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_embedding_is_exact(ops: Ops, kind: str, rng: np.random.Generator) -> None:
    for cols in odd_columns(kind):
        table = stored(rng, kind, 19, cols)
        ids = rng.integers(0, 19, size=37).astype(np.int32)
        ours = ops.to_numpy(ops.embedding(ops.weight(table), ids))
        assert np.array_equal(ours.view(np.uint32), REFERENCE.embedding(table, ids).view(np.uint32))


@pytest.mark.parametrize("kind", DTYPES)
def test_rms_norm(ops: Ops, kind: str, rng: np.random.Generator) -> None:
    for cols in odd_columns(kind):
        weight = stored(rng, kind, 1, cols)[0]
        for num_rows in ROWS:
            x = floats(rng, num_rows, cols) * 3
            ours = ops.to_numpy(ops.rms_norm(give(ops, x), ops.weight(weight), 1e-5))
            assert_close(ours, REFERENCE.rms_norm(x, weight, 1e-5))


@pytest.mark.parametrize(("num_heads", "head_dim"), [(1, 2), (3, 10), (4, 64)])
def test_rotary(ops: Ops, num_heads: int, head_dim: int, rng: np.random.Generator) -> None:
    inv_freq = (1 / 10000 ** (np.arange(0, head_dim, 2) / head_dim)).astype(np.float32)
    for num_rows in ROWS:
        positions = rng.integers(0, 131072, size=num_rows).astype(np.int32)
        x = floats(rng, num_rows, num_heads * head_dim)
        table = ops.rope_table(positions, inv_freq)
        ours = ops.to_numpy(ops.rotary(give(ops, x), table, num_heads))
        assert_close(ours, REFERENCE.rotary(x, REFERENCE.rope_table(positions, inv_freq), num_heads))


def test_swiglu(ops: Ops, rng: np.random.Generator) -> None:
    for shape in ((1, 2), (2, 15), (7, 131), (33, 1000)):
        gate, up = floats(rng, *shape) * 10, floats(rng, *shape)
        gate[0, 0], gate[-1, -1] = -200, 9  # e^200 would overflow
        ours = ops.to_numpy(ops.swiglu(give(ops, gate), give(ops, up)))
        assert_close(ours, REFERENCE.swiglu(gate, up))


HEADS = [(4, 2, 8), (6, 6, 10), (12, 1, 16), (8, 2, 64), (5, 1, 128), (3, 1, 80)]


@pytest.mark.parametrize("window", [None, 1, 5, 70])
@pytest.mark.parametrize("dtype", KV_DTYPES)
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim"), HEADS)
def test_attention(
    ops: Ops,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    dtype: str,
    window: int | None,
    rng: np.random.Generator,
) -> None:
    """Three steps: prefill, a mixture of chunks and decodes, decodes alone; two layers, the first left alone."""
    lengths, block_size = (1, 40, 7, 200), 7
    tables, num_blocks = scattered_tables([n + 30 for n in lengths], block_size, rng)
    both = (ops, REFERENCE)
    pools = [each.kv_pool(2, num_blocks, block_size, num_kv_heads, head_dim, dtype) for each in both]
    steps = [
        [(0, n) for n in lengths],
        [(n, n + extra) for n, extra in zip(lengths, (1, 17, 1, 29), strict=True)],
        [(n, n + 1) for n in (2, 57, 8, 229)],
    ]
    for spans in steps:
        batch = paged_batch(spans, tables, block_size, window)
        q, k, v = (floats(rng, len(batch.positions), n * head_dim) for n in (num_heads, num_kv_heads, num_kv_heads))
        outs = [
            each.to_numpy(each.attention(*(give(each, x) for x in (2 * q, k, v)), pool, 1, batch, window))
            for each, pool in zip(both, pools, strict=True)
        ]
        assert_close(*outs)


@pytest.mark.parametrize("window", [None, 530])
@pytest.mark.parametrize("dtype", KV_DTYPES)
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim", "block_size"), [(4, 1, 64, 16), (6, 2, 24, 24)])
def test_attention_over_long_texts(
    ops: Ops,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    block_size: int,
    dtype: str,
    window: int | None,
    rng: np.random.Generator,
) -> None:
    """A prompt of several spans of keys beside a short one, then few rows; peaked scores."""
    tables, num_blocks = scattered_tables([800, 40], block_size, rng)
    both = (ops, REFERENCE)
    pools = [each.kv_pool(1, num_blocks, block_size, num_kv_heads, head_dim, dtype) for each in both]
    for spans in ([(0, 640), (0, 3)], [(640, 641), (3, 4)], [(641, 700), (4, 7)]):
        batch = paged_batch(spans, tables, block_size, window)
        q, k, v = (floats(rng, len(batch.positions), n * head_dim) for n in (num_heads, num_kv_heads, num_kv_heads))
        outs = [
            each.to_numpy(each.attention(*(give(each, x) for x in (5 * q, k, v)), pool, 0, batch, window))
            for each, pool in zip(both, pools, strict=True)
        ]
        assert_close(*outs, 5e-6)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "Q8_0"])
def test_moe(ops: Ops, kind: str, rng: np.random.Generator) -> None:
    hidden, inner, num_experts = 32, 96, 5
    router = floats(rng, num_experts, hidden)
    router[3] = router[1]  # ties, to be broken towards expert 1
    experts = [
        tuple(stored(rng, kind, *shape) for shape in ((inner, hidden), (inner, hidden), (hidden, inner)))
        for _ in router
    ]
    mine = [tuple(ops.weight(w) for w in expert) for expert in experts]
    for num_rows in (1, 2, 33):
        for chosen in (1, 2, num_experts):
            x = floats(rng, num_rows, hidden) / 4
            ours = ops.to_numpy(ops.moe(give(ops, x), ops.weight(router), mine, chosen))
            assert_close(ours, REFERENCE.moe(x, router, experts, chosen), 2e-5)
