"""The cpu backend: kernel sets, weights where their file is mapped, errors instead of crashes, threads."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_data import ISAS, assert_close, floats, same_bits, stored
from paged_batches import paged_batch

from ostro.checkpoint.tensors import QuantizedTensor
from ostro.errors import BackendError
from ostro.ops.batch import ForwardBatch
from ostro.ops.cpu import CpuOps
from ostro.ops.dtypes import DTYPES, numpy_dtype


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(41)


# Kernel sets.


def test_kernel_sets_agree(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    x, weight = floats(rng, 9, 1000), stored(rng, "float16", 65, 1000)
    results = []
    for name in ISAS:
        monkeypatch.setenv("OSTRO_ISA", name)
        ops = CpuOps(2)
        assert ops.isa == name
        results.append(ops.linear(x, ops.weight(weight)))
    for result in results[1:]:
        assert_close(result, results[0], 1e-5)


def test_halves_are_rounded_to_nearest_even(isa: str, rng: np.random.Generator) -> None:
    """Through the pool and back: v alone decides what attention over one position returns."""
    special = np.array([0.0, -0.0, 1e-8, 2.0**-24, 2.0**-25, 3 * 2.0**-25, 6.1e-5, 65504, 65519, 65520, 1e30, -np.inf])
    values = np.concatenate([special, rng.standard_normal(1000) * 10.0 ** rng.integers(-9, 9, 1000)]).astype(np.float32)
    values = np.concatenate([values, (np.arange(1, 53) / 2**10 + np.float32(2**-11)) + 1]).astype(np.float32)
    ops = CpuOps(1)
    batch = paged_batch([(0, 1)], [np.zeros(1, dtype=np.int32)], 1)
    ones = np.ones((1, len(values)), dtype=np.float32) / 100
    for dtype in DTYPES:
        pool = ops.kv_pool(1, 1, 1, 1, len(values), dtype)
        out = ops.attention(ones, ones, values[None], pool, 0, batch, None)
        with np.errstate(over="ignore"):
            rounded = values.astype(numpy_dtype(dtype)).astype(np.float32)
        assert np.array_equal(out[0], rounded)


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False
    )


def test_isa_is_forced_by_the_environment() -> None:
    code = "from ostro.ops.cpu import CpuOps; print(CpuOps(1).isa)"
    assert run_python(code, OSTRO_ISA="portable").stdout == "portable\n"
    assert run_python(code, OSTRO_ISA="").stdout == f"{ISAS[-1]}\n"


@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx"])
def test_unknown_isa_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRO_ISA", name)
    with pytest.raises(BackendError, match=rf"'{name}'.*OSTRO_ISA.*portable"):
        CpuOps(1)


# Weights.


def test_weights_are_views(rng: np.random.Generator) -> None:
    ops = CpuOps(1)
    x, weight = floats(rng, 2, 24), floats(rng, 3, 24)
    mine = ops.weight(weight)
    weight *= 2
    assert same_bits(ops.linear(x, mine), ops.linear(x, ops.weight(weight.copy())))


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "Q6_K"])
def test_weights_may_lie_anywhere_in_a_mapped_file(
    isa: str, kind: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """At an odd address, at the very end of a read-only map that nobody else holds."""
    weight, x = stored(rng, kind, 7, 256), floats(rng, 3, 256)
    raw = weight.blocks if isinstance(weight, QuantizedTensor) else weight
    padding = 4096 - raw.nbytes % 4096
    (tmp_path / "w").write_bytes(b"x" * padding + raw.tobytes())
    mapped: Any = np.memmap(tmp_path / "w", dtype=np.uint8, mode="r", offset=0)[padding:]
    mapped = mapped.view(raw.dtype).reshape(raw.shape)
    ops = CpuOps(2)
    if isinstance(weight, QuantizedTensor):
        mapped = replace(weight, blocks=mapped)
    mine = ops.weight(mapped)
    del mapped
    gc.collect()
    assert same_bits(ops.linear(x, mine), ops.linear(x, ops.weight(weight)))


def test_transposed_weights_are_copied(rng: np.random.Generator) -> None:
    ops = CpuOps(1)
    x, weight = floats(rng, 2, 24), floats(rng, 24, 5)
    assert_close(ops.linear(x, ops.weight(weight.T)), x @ weight)


def test_no_rows_are_no_error(isa: str) -> None:
    ops = CpuOps(2)
    x, none = np.zeros((0, 8), np.float32), np.zeros(0, np.int32)
    square, norm = ops.weight(np.ones((8, 8), np.float32)), ops.weight(np.ones(8, np.float32))
    pool = ops.kv_pool(1, 1, 4, 1, 8, "float16")
    batch = ForwardBatch(none, none, np.zeros(1, np.int32), none.astype(np.int64), none.reshape(0, 0), none, none)
    assert ops.embedding(square, none).shape == (0, 8)
    assert ops.linear(x, square).shape == (0, 8)
    assert ops.rms_norm(x, norm, 1e-5).shape == (0, 8)
    assert ops.rotary(x, ops.rope_table(none, np.ones(2, np.float32)), 2).shape == (0, 8)
    assert ops.attention(x, x, x, pool, 0, batch, None).shape == (0, 8)
    assert ops.swiglu(x, x).shape == (0, 8)
    assert ops.moe(x, square, [(square,) * 3] * 8, 2).shape == (0, 8)


# Errors instead of crashes.


def test_wrong_weights_are_refused(rng: np.random.Generator) -> None:
    ops = CpuOps(1)
    with pytest.raises(BackendError, match=r"float32, float16, bfloat16, not float64"):
        ops.weight(np.zeros((2, 2)))
    with pytest.raises(BackendError, match=r"shape \(1, 2, 3\)"):
        ops.weight(np.zeros((1, 2, 3), np.float32))
    with pytest.raises(BackendError, match="rows and columns"):
        ops.weight(np.zeros((0, 3), np.float32))
    good = stored(rng, "Q4_K", 2, 256)
    assert isinstance(good, QuantizedTensor)
    with pytest.raises(BackendError, match="IQ4_XS"):
        ops.weight(replace(good, kind="IQ4_XS"))
    with pytest.raises(BackendError, match=r"288 bytes, not 287"):
        ops.weight(replace(good, blocks=good.blocks.reshape(-1)[:-1]))
    with pytest.raises(BackendError, match="blocks of 256"):
        ops.weight(replace(good, shape=(2, 250)))


def test_wrong_arrays_are_refused(rng: np.random.Generator) -> None:
    ops = CpuOps(1)
    weight, norm = ops.weight(floats(rng, 3, 8)), ops.weight(floats(rng, 8))
    x = floats(rng, 2, 8)
    table = ops.rope_table(np.arange(2, dtype=np.int32), floats(rng, 2))
    for wrong in (x.astype(np.float64), x[0], floats(rng, 8, 2).T, floats(rng, 2, 7)):
        for call in (
            lambda x: ops.linear(x, weight),
            lambda x: ops.rms_norm(x, norm, 1e-5),
            lambda x: ops.swiglu(x, floats(rng, 2, 8)),
            lambda x: ops.rotary(x, table, 2),
            lambda x: ops.moe(x, weight, [(weight,) * 3] * 3, 1),
        ):
            with pytest.raises(BackendError):
                call(wrong)
    square = ops.weight(floats(rng, 8, 8))
    with pytest.raises(BackendError, match="num_experts_per_tok"):
        ops.moe(x, square, [(square,) * 3] * 8, 9)
    with pytest.raises(BackendError, match="rms_norm"):
        ops.rms_norm(x, weight, 1e-5)


@pytest.mark.parametrize("token_id", [-1, 5])
def test_token_ids_outside_the_table_are_refused(token_id: int) -> None:
    ops = CpuOps(1)
    with pytest.raises(BackendError, match=rf"Token id {token_id} .row 1. .* 5 rows"):
        ops.embedding(ops.weight(np.zeros((5, 4), np.float32)), np.array([0, token_id], np.int32))


BATCH = paged_batch([(4, 6)], [np.array([0, 1], np.int32)], 4)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"slots": np.array([4, 8])}, r"slots\[1\] is 8; the pool has 8 slots"),
        ({"slots": np.array([-1, 4])}, r"slots\[0\] is -1"),
        ({"positions": np.array([4, 8], np.int32)}, "ends before position 8"),
        ({"positions": np.array([-1, 0], np.int32)}, r"positions\[0\]"),
        ({"block_tables": np.array([[0, 2]], np.int32)}, r"block_tables\[1\] is 2; the pool has 2 blocks"),
        ({"block_tables": np.array([[-1, 1]], np.int32)}, r"block_tables\[0\] is -1"),
        ({"table_starts": np.array([1], np.int32)}, r"table_starts\[0\] is 1"),
        ({"table_starts": np.array([-1], np.int32)}, r"table_starts\[0\] is -1"),
        ({"row_starts": np.array([0, 3], np.int32)}, "row_starts"),
        ({"row_starts": np.array([1, 2], np.int32)}, "row_starts"),
        ({"row_starts": np.array([0, 1], np.int32)}, "row_starts"),
        ({"row_starts": np.array([0, 1, 2], np.int32)}, "row_starts"),
        ({"slots": np.array([4, 5], np.int32)}, "slots must be a dense int64"),
        ({"positions": np.array([4], np.int32)}, "a position and a slot"),
    ],
)
def test_wrong_batches_are_refused(changes: dict[str, Any], match: str) -> None:
    ops = CpuOps(1)
    pool = ops.kv_pool(1, 2, 4, 1, 8, "float32")
    x = np.ones((2, 8), np.float32)
    batch: ForwardBatch = replace(BATCH, **changes)
    with pytest.raises(BackendError, match=match):
        ops.attention(x, x, x, pool, 0, batch, None)
    assert not pool.keys.any()  # refused before anything was written


def test_wrong_attention_calls_are_refused() -> None:
    ops = CpuOps(1)
    pool = ops.kv_pool(1, 2, 4, 2, 8, "float32")
    kv = np.ones((2, 16), np.float32)
    for q, k, layer, window in (
        (np.ones((2, 24), np.float32), kv, 0, None),
        (np.ones((2, 20), np.float32), kv, 0, None),
        (np.ones((1, 16), np.float32), kv, 0, None),
        (kv, np.ones((2, 8), np.float32), 0, None),
        (kv, kv, 1, None),
        (kv, kv, -1, None),
        (kv, kv, 0, 0),
    ):
        with pytest.raises(BackendError):
            ops.attention(q, k, kv, pool, layer, BATCH, window)
    with pytest.raises(BackendError, match=r"'int4'.*float32, float16, bfloat16, int8"):
        ops.kv_pool(1, 2, 4, 2, 8, "int4")
    with pytest.raises(BackendError, match="at least 1"):
        ops.kv_pool(1, 0, 4, 2, 8, "float32")


@pytest.mark.parametrize("count", [0, -1, 2000])
def test_impossible_thread_counts_are_refused(count: int) -> None:
    with pytest.raises(BackendError, match=f"not {count}"):
        CpuOps(count)


# Threads.


def test_several_python_threads_may_call_at_once(rng: np.random.Generator) -> None:
    x, weight = floats(rng, 5, 512), stored(rng, "float16", 700, 512)
    expected = CpuOps(1).linear(x, CpuOps(1).weight(weight))
    wrong: list[int] = []

    def work(threads: int) -> None:
        ops = CpuOps(threads)
        mine = ops.weight(weight)
        wrong.extend(threads for _ in range(50) if not same_bits(ops.linear(x, mine), expected))

    callers = [threading.Thread(target=work, args=(1 + i % 3,)) for i in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_a_forked_child_makes_threads_of_its_own() -> None:
    code = """
import os, numpy as np
from ostro.ops.cpu import CpuOps
ops = CpuOps(3)
x, w = np.ones((4, 512), np.float32), ops.weight(np.ones((700, 512), np.float32))
assert (ops.linear(x, w) == 512).all()
child = os.fork()
assert all((ops.linear(x, w) == 512).all() for _ in range(20))
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print("both")
else:
    os._exit(0)
"""
    result = run_python(code, PYTHONWARNINGS="ignore")
    assert result.stdout == "both\n", result.stderr
