"""Rows of several adapters in one step: the same as each with its own weights, on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ostro.ops import get_ops
from ostro.ops.lora import AdaptedWeight, Delta, LoraOps

D, F, V, HEADS, KV_HEADS, EXPERTS = 32, 40, 50, 4, 2, 4
OWNERS = np.array([0, -1, 1, 1, -1, 0, 2, -1], dtype=np.int32)
EPS = 1e-5
BACKENDS = ("cpu", "reference", "torch")


class Layer:
    """A weight of the base, and what the adapters make of it: 0 and 1 add to it, 2 leaves it alone."""

    def __init__(self, ops: Any, rng: np.random.Generator, rows: int, columns: int) -> None:
        scale = columns**-0.5
        base = rng.normal(0, scale, (rows, columns)).astype(np.float32)
        deltas = {}
        self.whole = {-1: ops.weight(base), 2: ops.weight(base)}
        for number, rank in ((0, 3), (1, 8)):
            a = rng.normal(0, scale, (rank, columns)).astype(np.float32)
            b = rng.normal(0, 0.5, (rows, rank)).astype(np.float32)
            deltas[number] = Delta(ops.weight(a), ops.weight(b))
            self.whole[number] = ops.weight(base + b @ a)
        self.adapted = AdaptedWeight(ops.weight(base), deltas)


@pytest.fixture(params=BACKENDS)
def ops(request: pytest.FixtureRequest) -> Any:
    return get_ops(request.param, **({"device": "cpu"} if request.param == "torch" else {}))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def array(ops: Any, values: np.ndarray) -> Any:
    if ops.name != "torch":
        return values
    import torch

    return torch.from_numpy(values.copy())


def numpy(ops: Any, value: Any) -> np.ndarray:
    return np.array(ops.to_numpy(value))


def rows_of(number: int) -> np.ndarray:
    return np.flatnonzero(number == OWNERS)


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(found - expected).max() < 2e-5 * max(1, np.abs(expected).max())


@pytest.fixture
def x(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 1, (len(OWNERS), D)).astype(np.float32)


@pytest.fixture
def norm(ops: Any, rng: np.random.Generator) -> Any:
    return ops.weight(rng.uniform(0.5, 1.5, D).astype(np.float32))


def test_linear_and_logits(ops: Any, rng: np.random.Generator, x: np.ndarray) -> None:
    layer, residual = Layer(ops, rng, F, D), rng.normal(0, 1, (len(OWNERS), F)).astype(np.float32)
    step = LoraOps(ops, OWNERS)
    linear = numpy(ops, step.linear(array(ops, x), layer.adapted))
    logits = numpy(ops, step.logits(array(ops, x), layer.adapted))
    added = numpy(ops, step.linear_add(array(ops, x), layer.adapted, array(ops, residual)))
    for number, whole in layer.whole.items():
        rows = rows_of(number)
        expected = numpy(ops, ops.linear(array(ops, x[rows]), whole))
        assert_close(linear[rows], expected)
        assert_close(logits[rows], expected)
        assert_close(added[rows], residual[rows] + expected)


def test_qkv(ops: Any, rng: np.random.Generator, x: np.ndarray, norm: Any) -> None:
    head_dim = D // HEADS
    layers = [Layer(ops, rng, n * head_dim, D) for n in (HEADS, KV_HEADS, KV_HEADS)]
    positions = np.array([5, 9, 2, 3, 70, 1, 0, 44], dtype=np.int32)
    frequencies = (0.5 ** np.arange(head_dim // 2)).astype(np.float32)
    rope = ops.rope_table(positions, frequencies)
    weights = tuple(layer.adapted for layer in layers)
    found = LoraOps(ops, OWNERS).qkv(array(ops, x), norm, EPS, weights, rope, HEADS, KV_HEADS)
    for number in (-1, 0, 1, 2):
        rows = rows_of(number)
        own = ops.rope_table(positions[rows], frequencies)
        wholes = tuple(layer.whole[number] for layer in layers)
        expected = ops.qkv(array(ops, x[rows]), norm, EPS, wholes, own, HEADS, KV_HEADS)
        for mine, theirs in zip(found, expected, strict=True):
            assert_close(numpy(ops, mine)[rows], numpy(ops, theirs))


@pytest.mark.parametrize("changed", [(0,), (1,), (2,), (0, 1, 2)])
def test_feed_forward(ops: Any, rng: np.random.Generator, x: np.ndarray, norm: Any, changed: tuple[int, ...]) -> None:
    layers = [Layer(ops, rng, F, D), Layer(ops, rng, F, D), Layer(ops, rng, D, F)]
    mlp = tuple(layer.adapted if i in changed else layer.whole[-1] for i, layer in enumerate(layers))
    found = numpy(ops, LoraOps(ops, OWNERS).feed_forward(array(ops, x), norm, EPS, mlp))
    for number in (-1, 0, 1, 2):
        rows = rows_of(number)
        own = tuple(layer.whole[number if i in changed else -1] for i, layer in enumerate(layers))
        assert_close(found[rows], numpy(ops, ops.feed_forward(array(ops, x[rows]), norm, EPS, own)))


@pytest.mark.parametrize("with_router", [False, True])
def test_moe(ops: Any, rng: np.random.Generator, x: np.ndarray, with_router: bool) -> None:
    router = Layer(ops, rng, EXPERTS, D)
    experts = [(Layer(ops, rng, F, D), Layer(ops, rng, F, D), Layer(ops, rng, D, F)) for _ in range(EXPERTS)]
    weights = [tuple(layer.adapted for layer in expert) for expert in experts]
    chosen = router.adapted if with_router else router.whole[-1]
    found = numpy(ops, LoraOps(ops, OWNERS).moe(array(ops, x), chosen, weights, 2))
    for number in (-1, 0, 1, 2):
        rows = rows_of(number)
        own = [tuple(layer.whole[number] for layer in expert) for expert in experts]
        expected = ops.moe(array(ops, x[rows]), router.whole[number if with_router else -1], own, 2)
        assert_close(found[rows], numpy(ops, expected))


def test_replaced_tables(ops: Any, rng: np.random.Generator, x: np.ndarray) -> None:
    base, other = (rng.normal(0, 1, (V, D)).astype(np.float32) for _ in range(2))
    table = AdaptedWeight(ops.weight(base), {}, {1: ops.weight(other)})
    ids = np.arange(len(OWNERS), dtype=np.int32)
    rows = OWNERS == 1
    step = LoraOps(ops, OWNERS)
    assert (numpy(ops, step.embedding(table, ids)) == np.where(rows[:, None], other[ids], base[ids])).all()
    assert_close(numpy(ops, step.logits(array(ops, x), table)), np.where(rows[:, None], x @ other.T, x @ base.T))


def test_bits_do_not_depend_on_company(rng: np.random.Generator, x: np.ndarray) -> None:
    ops = get_ops("cpu", num_threads=2)
    norm = ops.weight(np.ones(D, np.float32))
    mlp = tuple(Layer(ops, rng, *shape).adapted for shape in ((F, D), (F, D), (D, F)))
    together = LoraOps(ops, OWNERS).feed_forward(x, norm, EPS, mlp)
    for row in range(len(OWNERS)):
        alone = LoraOps(ops, OWNERS[row : row + 1]).feed_forward(x[row : row + 1], norm, EPS, mlp)
        assert (together[row] == alone[0]).all()
