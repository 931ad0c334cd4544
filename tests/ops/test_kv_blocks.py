"""Blocks of K/V leave a pool as bytes and come back into any block of another pool, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_data import TESTED, backend_called, floats, give, same_bits
from paged_batches import Table, paged_batch

from ostro.config.kv import KV_DTYPES
from ostro.ops import get_ops
from ostro.ops.base import KVPool, Ops

LAYERS, GROUPS, HEADS, D = 2, 2, 4, 40
NUM_BLOCKS = 37  # runs of blocks on the cpu backend that are whole, and one that is not


def attend(ops: Ops, pool: KVPool, data: Any, start: int, table: Table) -> Any:
    """Positions from `start` on over what the pool holds before them; the outputs of all layers."""
    batch = paged_batch([(start, data[0].shape[1])], [table], pool.block_size)
    q, k, v = (give(ops, each[:, start:]) for each in data)
    return [ops.to_numpy(ops.attention(q[i], k[i], v[i], pool, i, batch, None)) for i in range(LAYERS)]


@pytest.mark.parametrize("block_size", [4, 16, 50, 130])
@pytest.mark.parametrize("dtype", KV_DTYPES)
@pytest.mark.parametrize("name", ["reference", *TESTED])
def test_attention_over_blocks_that_were_elsewhere(
    name: str, dtype: str, block_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops = get_ops(name) if name == "reference" else backend_called(name, monkeypatch)
    rng = np.random.default_rng(0)
    data = [floats(rng, LAYERS, 3 * block_size, heads * D) for heads in (HEADS, GROUPS, GROUPS)]
    first, second = (ops.kv_pool(LAYERS, NUM_BLOCKS, block_size, GROUPS, D, dtype) for _ in range(2))
    here, there = np.array([36, 0, 33], np.int32), np.array([1, 35, 36], np.int32)
    expected = [each[2 * block_size :] for each in attend(ops, first, data, 0, here)]
    for old, new in zip(here[:2], there[:2], strict=True):
        content = first.read_block(int(old))
        assert len(content) == first.nbytes // NUM_BLOCKS
        second.write_block(int(new), memoryview(content))
        assert second.read_block(int(new)) == content
    found = attend(ops, second, data, 2 * block_size, there)
    again = attend(ops, first, data, 2 * block_size, here)
    assert all(same_bits(a, b) for a, b in zip(found, again, strict=True))
    if ops.row_independent:
        assert all(same_bits(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["reference", *TESTED])
def test_writing_a_block_leaves_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ops = get_ops(name) if name == "reference" else backend_called(name, monkeypatch)
    pool = ops.kv_pool(LAYERS, NUM_BLOCKS, 16, GROUPS, D, "float16")
    contents = [bytes([block + 1]) * (pool.nbytes // NUM_BLOCKS) for block in range(NUM_BLOCKS)]
    for block, content in enumerate(contents):
        pool.write_block(block, content)
    assert [pool.read_block(block) for block in range(NUM_BLOCKS)] == contents


def test_backends_say_what_their_bits_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["reference", *TESTED]
    found = [(get_ops(n) if n == "reference" else backend_called(n, monkeypatch)).identity for n in names]
    assert len(set(found)) == len(names)
