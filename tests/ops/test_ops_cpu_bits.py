"""The cpu backend's promise: a row's bits are the same in any company, chunk and layout, on any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_data import KINDS, floats, odd_columns, same_bits, stored

from ostro.ops.cpu import CpuOps


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(41)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_linear_do_not_depend_on_company(isa: str, kind: str, rng: np.random.Generator) -> None:
    for cols in odd_columns(kind)[1:]:
        weight = stored(rng, kind, 61, cols)
        x = floats(rng, 135, cols)
        alone = [CpuOps(threads) for threads in (1, 2, 3)]
        whole = alone[0].linear(x, alone[0].weight(weight))
        for ops in alone:
            w = ops.weight(weight)
            assert same_bits(ops.linear(x, w), whole)
            for start, end in ((0, 1), (3, 5), (4, 7), (9, 13), (20, 37), (34, 67), (130, 135)):
                assert same_bits(ops.linear(x[start:end], w), whole[start:end])


def test_large_linear_uses_threads_and_keeps_its_bits(isa: str, rng: np.random.Generator) -> None:
    weight, x = stored(rng, "bfloat16", 700, 512), floats(rng, 5, 512)
    results = [CpuOps(threads).linear(x, CpuOps(1).weight(weight)) for threads in (1, 2, 3, 1, 2)]
    assert all(same_bits(result, results[0]) for result in results)


def test_rows_of_other_ops_do_not_depend_on_company(isa: str, rng: np.random.Generator) -> None:
    one, two = CpuOps(1), CpuOps(2)
    x, up = floats(rng, 300, 131), floats(rng, 300, 131)
    norm = one.weight(floats(rng, 131))
    router = one.weight(floats(rng, 8, 131))
    experts = [tuple(one.weight(floats(rng, *s)) for s in ((40, 131), (40, 131), (131, 40))) for _ in range(8)]
    positions, frequencies = np.arange(300, dtype=np.int32), floats(rng, 33)
    table = one.rope_table(positions, frequencies)
    assert same_bits(table, two.rope_table(positions, frequencies))
    calls: list[Any] = [
        lambda ops, rows: ops.rms_norm(x[rows], norm, 1e-5),
        lambda ops, rows: ops.swiglu(x[rows], up[rows]),
        lambda ops, rows: ops.moe(x[rows], router, experts, 2),
        lambda ops, rows: ops.rotary(x[rows, :66].copy(), table[:, rows].copy(), 1),
    ]
    for call in calls:
        whole = call(two, slice(0, 300))
        assert same_bits(call(one, slice(0, 300)), whole)
        for rows in (slice(0, 1), slice(7, 9), slice(100, 217), slice(299, 300)):
            assert same_bits(call(one, rows), whole[rows])
            assert same_bits(call(two, rows), whole[rows])
