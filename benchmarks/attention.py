"""Attention of the cpu backend over its paged K/V pool, beside PyTorch's `scaled_dot_product_attention`.

    python benchmarks/attention.py          # prints a Markdown table; benchmarks/attention.md holds one

Each case has the shapes of one layer of Mistral 7B (H 32, G 8, d 128) or Llama 3.2 1B (H 32, G 8, d 64). Calls walk
through so many layers that K and V come from memory, as they do in a model. Ours stores the K/V of the new rows and
reads the pool through a block table; PyTorch gets K and V ready in dense arrays, in whichever of float16, bfloat16 and
float32 is fastest, and with the heads of a group as rows where that is. All alternatives take turns within a round;
the best round counts, since other work on the machine can only slow one down.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ostro.ops.batch import ForwardBatch
from ostro.ops.cpu import CpuOps

BLOCK = 16  # tokens of a block of the pool
COLD = 96 << 20  # bytes of K/V that the layers have together at least: more than the last-level cache


@dataclass(frozen=True)
class Case:
    """`rows` new tokens in each of `seqs` sequences that are `context` tokens long afterwards."""

    rows: int
    seqs: int
    context: int
    head_dim: int
    num_heads: int = 32
    num_kv_heads: int = 8

    def num_layers(self) -> int:
        """Layers that calls walk through."""
        one = self.seqs * self.context * self.num_kv_heads * self.head_dim * 4
        return 1 + COLD // one if self.rows == 1 else 1

    def kv_bytes(self) -> int:
        """K and V that a layer's call must read, in 16-bit floats."""
        return self.seqs * self.context * self.num_kv_heads * self.head_dim * 4

    def flops(self) -> int:
        """Multiplications and additions of both products, of the visible keys only."""
        visible = self.rows * (self.context - self.rows) + self.rows * (self.rows + 1) // 2
        return 4 * self.seqs * visible * self.num_heads * self.head_dim

    def batch(self) -> ForwardBatch:
        """Blocks lie in the pool in the order in which the sequences grew side by side."""
        first, blocks = self.context - self.rows, -(-self.context // BLOCK)
        tables = np.arange(self.seqs * blocks, dtype=np.int32).reshape(blocks, self.seqs).T.copy()
        positions = np.arange(first, self.context)
        slots = np.concatenate(
            [table[positions // BLOCK].astype(np.int64) * BLOCK + positions % BLOCK for table in tables]
        )
        count = self.rows * self.seqs
        return ForwardBatch(
            token_ids=np.zeros(count, np.int32),
            positions=np.tile(positions.astype(np.int32), self.seqs),
            row_starts=np.arange(0, count + 1, self.rows, dtype=np.int32),
            slots=slots,
            block_tables=tables,
            table_starts=np.zeros(self.seqs, np.int32),
            logit_rows=np.zeros(0, np.int32),
        )


CASES = [
    *(Case(1, seqs, context, 128) for context in (512, 4096, 32768) for seqs in (1, 8)),
    *(Case(1, 1, context, 64) for context in (512, 4096, 32768)),
    Case(512, 1, 512, 128),
    Case(512, 1, 8192 + 512, 128),
    Case(512, 1, 512, 64),
    Case(512, 1, 8192 + 512, 64),
]


def ours(case: Case, dtype: str, threads: int) -> Callable[[], object]:
    """One call of the cpu backend."""
    ops, rng, d = CpuOps(threads), np.random.default_rng(0), case.head_dim
    layers, batch = case.num_layers(), case.batch()
    pool = ops.kv_pool(layers, int(batch.block_tables.max()) + 1, BLOCK, case.num_kv_heads, d, dtype)
    # Any finite numbers will do; as float16, bytes 0x2c .. 0x38 are numbers of about 0.1.
    for side in (pool.keys, pool.values):
        side[:] = rng.integers(0x2C, 0x38, side.shape[-2:], np.uint8)
    q, k, v = (
        rng.standard_normal((case.rows * case.seqs, n * d), np.float32)
        for n in (case.num_heads, case.num_kv_heads, case.num_kv_heads)
    )
    turn = iter(range(1 << 60))
    return lambda: ops.attention(q, k, v, pool, next(turn) % layers, batch, None)


def theirs(case: Case, dtype: torch.dtype, threads: int, grouped: bool) -> Callable[[], object]:
    """One call of PyTorch's attention over K and V of (seqs, G, context, d)."""
    torch.set_num_threads(threads)
    d, group = case.head_dim, case.num_heads // case.num_kv_heads
    shape = (case.seqs, case.num_kv_heads, case.context, d)
    cache = [(torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)) for _ in range(case.num_layers())]
    q = torch.randn(case.seqs, case.num_heads, case.rows, d).to(dtype)
    turn = iter(range(1 << 60))
    if grouped:  # the heads of a group stand in for rows
        q = q.reshape(case.seqs, case.num_kv_heads, group, d)
        return lambda: F.scaled_dot_product_attention(q, *cache[next(turn) % len(cache)])
    mask = None
    if 1 < case.rows < case.context:
        mask = torch.ones(case.rows, case.context, dtype=torch.bool).tril(case.context - case.rows)
    causal = case.rows == case.context

    def call() -> torch.Tensor:
        k, v = cache[next(turn) % len(cache)]
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=True)

    return call


def contenders(case: Case, threads: int, dtypes: list[str]) -> dict[str, Callable[[], object]]:
    """Everything that is timed for one case, by name."""
    found = {f"ostro {dtype}": ours(case, dtype, threads) for dtype in dtypes}
    for kind in (torch.float16, torch.bfloat16, torch.float32):
        for grouped in (False, True) if case.rows == 1 else (False,):
            name = f"torch {str(kind).removeprefix('torch.')}{' grouped' if grouped else ''}"
            found[name] = theirs(case, kind, threads, grouped)
    return found


def best_times(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of one call of each, all of them in turn; the best of the rounds."""
    times: dict[str, float] = {}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            count, start = 0, time.perf_counter()
            while count == 0 or time.perf_counter() - start < 0.03:
                call()
                count += 1
            seconds = (time.perf_counter() - start) / count
            times[name] = min(seconds, times.get(name, seconds))
    return times


def describe(case: Case, times: dict[str, float], dtypes: list[str]) -> str:
    """A row of the table."""
    peer = min((name for name in times if name.startswith("torch")), key=times.__getitem__)
    mine = [times[f"ostro {dtype}"] for dtype in dtypes]
    rate: Callable[[float], Any] = (
        (lambda s: f"{case.kv_bytes() / s / 1e9:.1f} GB/s")
        if case.rows == 1
        else (lambda s: f"{case.flops() / s / 1e9:.0f} GFLOPS")
    )
    what = f"{case.rows} x {case.seqs} at {case.context}, d {case.head_dim}"
    cells = [f"{1e3 * seconds:.3f}" for seconds in (*mine, times[peer])]
    return f"| {what} | {' | '.join(cells)} ({peer[6:]}) | {rate(mine[0])} | {times[peer] / mine[0]:.2f} x |"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of each case (default 9)")
    parser.add_argument("--threads", type=int, default=2, help="threads of both (default 2)")
    parser.add_argument("--kv-dtypes", default="float16,int8", help="K/V types of ours (default float16,int8)")
    parser.add_argument("--only", default="", help="cases whose description contains this")
    given = parser.parse_args()
    dtypes = given.kv_dtypes.split(",")
    print(
        f"{platform.machine()}, {given.threads} threads, PyTorch {torch.__version__}, best of {given.rounds} rounds\n"
    )
    columns = " | ".join(f"ostro {dtype}, ms" for dtype in dtypes)
    print(f"| rows x sequences at context | {columns} | torch, ms | {dtypes[0]}: rate | torch / ostro {dtypes[0]} |")
    print("|---" * (4 + len(dtypes)) + "|")
    for case in CASES:
        if given.only in f"{case.rows} x {case.seqs} at {case.context}, d {case.head_dim}":
            print(describe(case, best_times(contenders(case, given.threads, dtypes), given.rounds), dtypes), flush=True)


if __name__ == "__main__":
    main()
