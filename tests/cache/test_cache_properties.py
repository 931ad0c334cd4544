"""Caches under any history of opening, growing, forgetting and closing."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ostro.cache import KVCache, SequenceCache


class CacheMachine(RuleBasedStateMachine):
    """Every slot remembers which text it was written for: what a match gives back must be that text."""

    @initialize(
        num_blocks=st.integers(1, 12),
        block_size=st.integers(1, 3),
        window=st.none() | st.integers(1, 7),
        max_nodes=st.integers(1, 40),
    )
    def start(self, num_blocks: int, block_size: int, window: int | None, max_nodes: int) -> None:
        self.cache = KVCache(num_blocks, block_size, window, max_nodes=max_nodes)
        self.window = window
        self.size = block_size
        self.written: dict[tuple[int, int], tuple[str | None, tuple[int, ...]]] = {}
        self.open: list[tuple[SequenceCache, list[int], str | None]] = []

    def check_content(self, sequence: SequenceCache, tokens: list[int], salt: str | None) -> None:
        """All that the next row sees was written for exactly this text (under this salt)."""
        position = sequence.num_tokens
        first = 0 if self.window is None else max(0, position - self.window + 1)
        for p in range(first, position):
            block = sequence.blocks[p // self.size - sequence.first_block]
            assert p // self.size >= sequence.first_block
            assert self.written[block, p % self.size] == (salt, tuple(tokens[: p + 1]))

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=16), salt=st.sampled_from(["a", "b", None]))
    def open_one(self, tokens: list[int], salt: str | None) -> None:
        sequence = self.cache.open(tokens, salt)
        assert sequence.num_tokens < len(tokens)
        assert sequence.num_tokens % self.size == 0
        self.open.append((sequence, tokens, salt))
        self.check_content(sequence, tokens, salt)

    @precondition(lambda self: self.open)
    @rule(
        which=st.integers(0, 99),
        count=st.integers(1, 6),
        more=st.lists(st.integers(0, 1), max_size=3),
        rejected=st.integers(0, 4),
    )
    def grow(self, which: int, count: int, more: list[int], rejected: int) -> None:
        sequence, tokens, salt = self.open[which % len(self.open)]
        tokens.extend(more)
        count = min(count, len(tokens) - sequence.num_tokens, sequence.room)
        if count < 1:
            return
        rows = min(count + rejected, sequence.room)
        missing = sequence.blocks_missing(sequence.num_tokens + rows, rows)
        held = len(sequence.blocks)
        sequence.reserve(rows)
        assert len(sequence.blocks) - held <= missing
        assert len(sequence.blocks) <= self.cache.max_blocks(sequence.num_tokens + rows, rows)
        for p in range(sequence.num_tokens, sequence.num_tokens + rows):
            block = sequence.blocks[p // self.size - sequence.first_block]
            assert self.cache.pool.references(block) == 1, "a shared block is written"
            drafted = p >= sequence.num_tokens + count
            self.written[block, p % self.size] = (salt, (*tokens[: p + 1], *([-1] if drafted else [])))
        sequence.commit(count, tokens)
        assert sequence.num_reserved < self.size, "a block that only a draft needed is kept"
        self.check_content(sequence, tokens, salt)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99))
    def close(self, which: int) -> None:
        sequence, _, _ = self.open.pop(which % len(self.open))
        sequence.free()

    @rule()
    def forget(self) -> None:
        self.cache.clear()
        assert self.cache.pool.num_cached == 0

    @invariant()
    def counts_are_right(self) -> None:
        if not hasattr(self, "cache"):
            return
        pool = self.cache.pool
        held = [block for sequence, _, _ in self.open for block in sequence.blocks]
        assert all(pool.references(block) == held.count(block) for block in range(pool.num_blocks))
        assert all(len(set(sequence.blocks)) == len(sequence.blocks) for sequence, _, _ in self.open)
        assert pool.num_used == len(set(held))
        assert pool.num_free + pool.num_used + pool.num_cached == pool.num_blocks
        assert len(self.cache.index) <= self.cache.index.max_nodes + 2  # the roots of two salts
        if not self.open:
            assert pool.num_used == 0
            if not pool.num_cached:
                assert len(self.cache.index) == 0


TestCache = CacheMachine.TestCase
TestCache.settings = settings(max_examples=150, stateful_step_count=30)


def test_a_windowed_sequence_stays_flat_for_100k_tokens() -> None:
    window, size, total = 64, 16, 100_000
    cache = KVCache(num_blocks=12, block_size=size, window=window, max_nodes=50)
    tokens = [i % 251 for i in range(total)]
    sequence = cache.open(tokens[:1], "")
    most = 0
    for _ in range(0, total, 10):
        sequence.reserve(10)
        most = max(most, len(sequence.blocks))
        sequence.commit(10, tokens)
    assert sequence.num_tokens == total
    assert most <= cache.max_blocks(total, 10) == 4 + 2
    assert len(cache.index) <= 51
    sequence.free()
    assert cache.pool.num_used == 0


def test_a_windowed_prefix_is_found_again_at_its_last_boundary() -> None:
    """The same prompt twice: only the last block is computed again, though the first blocks are long gone."""
    cache = KVCache(num_blocks=8, block_size=4, window=8)
    tokens = list(range(100, 203))
    first = cache.open(tokens, "")
    while first.num_tokens < len(tokens):
        count = min(4, len(tokens) - first.num_tokens)
        first.reserve(count)
        first.commit(count, tokens)
    first.free()
    assert cache.open(tokens, "").num_tokens == 100
