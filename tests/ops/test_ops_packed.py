"""Packed weights on the cpu backend: every layout on every kernel set against its definition, and bit for bit alone."""

from __future__ import annotations

import numpy as np
import pytest
from op_data import ISAS, TESTED, assert_close, backend_called, floats, give, same_bits
from packed_data import CODEBOOK, PACKED_KINDS, packed, packed_columns, rounded, whole

from ostro.checkpoint.packed import INT4, SIGNED3, UNSIGNED4
from ostro.errors import BackendError
from ostro.ops import get_ops
from ostro.ops.base import Ops
from ostro.ops.cpu import CpuOps, _native

REFERENCE = get_ops("reference")
ROWS = (1, 2, 5, 11, 16, 67, 131)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2026)


@pytest.fixture(params=TESTED)
def ops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ops:
    return backend_called(request.param, monkeypatch)


@pytest.mark.parametrize("kind", PACKED_KINDS)
def test_linear_is_the_rounded_activations_times_the_weight(isa: str, kind: str, rng: np.random.Generator) -> None:
    ops = CpuOps(2)
    for cols in packed_columns(kind):
        for outputs, codebook in ((3, INT4), (16, CODEBOOK), (61, UNSIGNED4), (18, SIGNED3)):
            weight = packed(rng, kind, outputs, cols, codebook)
            mine, exact = ops.weight(weight), weight.dequantize().T.astype(np.float64)
            for num_rows in ROWS:
                x = floats(rng, num_rows, cols)
                assert_close(ops.linear(x, mine), (rounded(x) @ exact).astype(np.float32), 2e-6)


@pytest.mark.parametrize("kind", PACKED_KINDS)
def test_every_backend_agrees_where_rounding_changes_nothing(ops: Ops, kind: str, rng: np.random.Generator) -> None:
    cols = packed_columns(kind)[-1]
    weight = packed(rng, kind, 50, cols, CODEBOOK)
    x = whole(rng, 9, cols)
    ours = ops.to_numpy(ops.linear(give(ops, x), ops.weight(weight)))
    assert_close(ours, REFERENCE.linear(x, weight), 1e-5)
    ids = np.array([0, 49, 17, 16, 0], np.int32)
    assert same_bits(ops.to_numpy(ops.embedding(ops.weight(weight), ids)), weight.dequantize()[ids])


@pytest.mark.parametrize("kind", PACKED_KINDS)
def test_rows_do_not_depend_on_company(isa: str, kind: str, rng: np.random.Generator) -> None:
    codebook = UNSIGNED4 if kind in ("P4M", "P4K") else INT4  # what such weights mostly have
    for cols in packed_columns(kind)[1:]:
        weight, x = packed(rng, kind, 77, cols, codebook), floats(rng, 135, cols)
        one = CpuOps(1)
        all_rows = one.linear(x, one.weight(weight))
        for ops in (one, CpuOps(2), CpuOps(3)):
            w = ops.weight(weight)
            assert same_bits(ops.linear(x, w), all_rows)
            for start, end in ((0, 1), (3, 5), (63, 65), (64, 128), (20, 37), (40, 55), (130, 135)):
                assert same_bits(ops.linear(x[start:end], w), all_rows[start:end])


@pytest.mark.parametrize("kind", ["P4G", "P6S", "P8"])
def test_logits_take_activations_in_two_bytes(isa: str, kind: str, rng: np.random.Generator) -> None:
    """They are a hundred times nearer than those of one byte, and the same bits in any company."""
    one, two, cols = CpuOps(1), CpuOps(3), packed_columns(kind)[-1]
    weight, x = packed(rng, kind, 77, cols), floats(rng, 70, cols)
    x[3] = 0
    found = one.logits(x, one.weight(weight))
    exact = x.astype(np.float64) @ weight.dequantize().T.astype(np.float64)
    error, coarse = (np.linalg.norm(each - exact) for each in (found, one.linear(x, one.weight(weight))))
    assert error < coarse / 100
    assert not found[3].any()
    for start, end in ((0, 1), (3, 5), (20, 37), (0, 70)):
        assert same_bits(two.logits(x[start:end], two.weight(weight)), found[start:end])
    x[5, 7] = np.nan
    assert np.isnan(one.logits(x, one.weight(weight))[5]).all()
    head = floats(rng, 10, cols)
    assert same_bits(one.logits(x[:3], one.weight(head)), one.linear(x[:3], one.weight(head)))


def test_kernel_sets_with_the_same_arithmetic_agree(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Integer sums are exact and float sums have one order: sets that fuse multiply and add alike give equal bits."""
    x, weight = floats(rng, 3, 512), packed(rng, "P4K", 40, 512, CODEBOOK)
    results = []
    for isa in [isa for isa in ISAS if isa != "portable"]:
        monkeypatch.setenv("OSTRO_ISA", isa)
        ops = CpuOps(1)
        results.append(ops.linear(x, ops.weight(weight)))
    assert all(same_bits(result, results[0]) for result in results)


def layer_weights(rng: np.random.Generator, kinds: tuple[str, ...], inner: int) -> list[object]:
    """gate, up (inner, 96) and down (96, inner), each packed or of floats."""
    shapes = ((inner, 96), (inner, 96), (96, inner))
    return [floats(rng, *s) if k == "float" else packed(rng, k, *s) for k, s in zip(kinds, shapes, strict=True)]


@pytest.mark.parametrize("inner", [32, 48, 172])
@pytest.mark.parametrize(
    "kinds", [("P4", "P4", "P4"), ("P4", "P8M", "P8"), ("float", "P4", "P8"), ("float",) * 3], ids=str
)
def test_joint_operations_are_the_plain_ones(
    ops: Ops, kinds: tuple[str, ...], inner: int, rng: np.random.Generator
) -> None:
    mlp = tuple(ops.weight(w) for w in layer_weights(rng, kinds, inner))  # type: ignore[arg-type]
    gate, up, down = mlp
    norm = ops.weight(floats(rng, 96))
    q, k, v = (ops.weight(packed(rng, "P4", n, 96) if kinds[0] == "P4" else floats(rng, n, 96)) for n in (64, 32, 32))
    for num_rows in (1, 3, 70):
        x, residual = floats(rng, num_rows, 96), floats(rng, num_rows, inner)
        rope = ops.rope_table(np.arange(num_rows, dtype=np.int32), floats(rng, 8))
        h = ops.rms_norm(give(ops, x), norm, 1e-5)
        joint = ops.qkv(give(ops, x), norm, 1e-5, (q, k, v), rope, 4, 2)
        plain = (ops.rotary(ops.linear(h, q), rope, 4), ops.rotary(ops.linear(h, k), rope, 2), ops.linear(h, v))
        for ours, theirs in zip(joint, plain, strict=True):
            assert same_bits(ops.to_numpy(ours), ops.to_numpy(theirs))
        added = ops.linear_add(give(ops, x), gate, give(ops, residual))
        assert same_bits(ops.to_numpy(added), ops.to_numpy(give(ops, residual) + ops.linear(give(ops, x), gate)))
        whole_layer = ops.feed_forward(give(ops, x), norm, 1e-5, mlp)
        inside = ops.swiglu(ops.linear(h, gate), ops.linear(h, up))
        assert same_bits(ops.to_numpy(whole_layer), ops.to_numpy(give(ops, x) + ops.linear(inside, down)))


def test_experts_may_be_packed(isa: str, rng: np.random.Generator) -> None:
    ops = CpuOps(2)
    experts = [tuple(ops.weight(w) for w in layer_weights(rng, ("P4", "P4", "P4"), 64)) for _ in range(4)]  # type: ignore[arg-type]
    router = floats(rng, 4, 96)
    x = floats(rng, 20, 96)
    ours = ops.moe(x, ops.weight(router), experts, 2)
    alone = np.concatenate([ops.moe(x[i : i + 1], ops.weight(router), experts, 2) for i in range(20)])
    assert same_bits(ours, alone)


def test_numbers_that_are_none_come_through(isa: str, rng: np.random.Generator) -> None:
    ops = CpuOps(1)
    w = ops.weight(packed(rng, "P4", 20, 96))
    x = floats(rng, 5, 96)
    clean = ops.linear(x, w)
    x[1, 40], x[2, 3], x[3, 95] = np.nan, np.inf, -np.inf
    y = ops.linear(x, w)
    assert np.isnan(y[1:4]).all()
    assert same_bits(y[[0, 4]], clean[[0, 4]])


def test_zeros_and_numbers_next_to_zero(isa: str, rng: np.random.Generator) -> None:
    ops = CpuOps(1)
    w = ops.weight(packed(rng, "P8", 20, 64))
    x = np.zeros((3, 64), np.float32)
    x[1], x[2] = 1e-38, -1e-42
    assert (ops.linear(x, w) == 0).all()


def test_what_does_not_fit_is_refused(rng: np.random.Generator) -> None:
    t = packed(rng, "P4", 40, 96)
    codes, scales, book = t.codes.reshape(-1), t.scales.reshape(-1), list(t.codebook)
    with pytest.raises(BackendError, match=r"P4 weight of 40 x 96 has 2304 bytes of codes"):
        _native.Weight("P4", 40, 96, codes[:-1].copy(), scales, book)
    with pytest.raises(BackendError, match="scales"):
        _native.Weight("P4", 40, 96, codes, scales[:-2].copy(), book)
    with pytest.raises(BackendError, match="16 values"):
        _native.Weight("P4", 40, 96, codes, scales, book[:15])
    with pytest.raises(BackendError, match="-127"):
        _native.Weight("P4", 40, 96, codes, scales, [-128, *book[1:]])
    with pytest.raises(BackendError, match="P5"):
        _native.Weight("P5", 40, 96, codes, scales, book)
    ops = CpuOps(1)
    one_row = ops.weight(packed(rng, "P4", 1, 96))
    with pytest.raises(BackendError, match="floats"):
        ops.rms_norm(floats(rng, 2, 96), one_row, 1e-5)
    with pytest.raises(BackendError, match="heads"):
        ops.qkv(
            floats(rng, 2, 96),
            ops.weight(floats(rng, 96)),
            1e-5,
            (one_row, one_row, one_row),
            floats(rng, 2, 2, 8),
            4,
            2,
        )
