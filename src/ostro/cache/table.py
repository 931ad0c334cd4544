"""`KVCache` and the `SequenceCache` of one sequence: its block table, growing at the end, rolling at the start."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from ostro.cache.blocks import BlockPool
from ostro.cache.prefix import Match, Node, PrefixIndex


class KVCache:
    """The blocks of one pool, shared by all sequences.

    `window` is the model's `max_window`: with W, blocks that no later row can see are given back while a sequence
    grows, so that its memory stays flat. With None every block is held to the end.
    """

    def __init__(
        self, num_blocks: int, block_size: int, window: int | None = None, *, max_nodes: int | None = None
    ) -> None:
        self.index = PrefixIndex(block_size, max(65536, 4 * num_blocks) if max_nodes is None else max_nodes)
        self.pool = BlockPool(num_blocks, block_size, on_evict=self.index.drop)
        self.window = window
        self.on_indexed: Callable[[Node], None] = lambda _: None
        """Called with every node that gets a block."""

    def open(self, token_ids: Sequence[int], salt: Hashable | None = None) -> SequenceCache:
        """The cache of a sequence that begins with `token_ids`, with what can be reused of it already in place.

        Blocks are shared only between sequences of the same `salt`; None shares nothing.
        """
        if salt is None:
            return SequenceCache(self, None)
        return SequenceCache(self, self.index.match(salt, token_ids, self.window))

    def max_blocks(self, num_tokens: int, chunk: int = 1) -> int:
        """Most blocks that a sequence of `num_tokens` holds at any time when computed `chunk` tokens at a step."""
        size = self.pool.block_size
        total = -(-num_tokens // size)
        if self.window is None:
            return total
        # The rows of a chunk begin anywhere in a block, and `SequenceCache.roll` keeps one block more than they see.
        return min(total, -(-(self.window - 1) // size) + 2 + (chunk - 1) // size)

    def clear(self) -> None:
        """Forget every prefix that no running sequence holds."""
        while self.pool.num_cached:
            self.pool.evict()


class SequenceCache:
    """The block table of one sequence.

    A step is `reserve(n)`, the computation, then `commit(m, token_ids)` of the first m <= n of them. A step that fails
    after `reserve` leaves nothing to undo. Tokens that are not committed are forgotten: their slots will be written
    again, and blocks of theirs alone go back. `free()` ends it.

    Attributes: `num_tokens` whose K/V is stored; `blocks`, the physical blocks from logical block `first_block` on.
    """

    __slots__ = ("_cache", "_node", "_num_indexed", "blocks", "first_block", "num_tokens")

    def __init__(self, cache: KVCache, match: Match | None) -> None:
        self._cache = cache
        self._node = None if match is None else match.node
        self._num_indexed = 0 if match is None else match.num_blocks
        self.first_block = 0 if match is None else match.first_block
        self.blocks: list[int] = [] if match is None else list(match.blocks)
        self.num_tokens = self._num_indexed * cache.pool.block_size
        for block in self.blocks:
            cache.pool.acquire(block)
        if self._node is not None:
            cache.index.pin(self._node)

    @property
    def num_reserved(self) -> int:
        """How many more tokens have slots already."""
        return (self.first_block + len(self.blocks)) * self._cache.pool.block_size - self.num_tokens

    @property
    def room(self) -> int:
        """How many more tokens could be reserved now."""
        pool = self._cache.pool
        return self.num_reserved + pool.num_available * pool.block_size

    @property
    def node(self) -> Node | None:
        """The last full block of the sequence in the prefix tree; None where it shares nothing."""
        return self._node

    def blocks_missing(self, num_tokens: int, chunk: int) -> int:
        """Most blocks that must still be allocated until the first `num_tokens` are stored, `chunk` at a step."""
        total = -(-num_tokens // self._cache.pool.block_size) - self.first_block
        return max(0, min(total, self._cache.max_blocks(num_tokens, chunk)) - len(self.blocks))

    def reserve(self, count: int) -> None:
        """Make sure that the next `count` tokens have slots."""
        pool = self._cache.pool
        wanted = -(-(self.num_tokens + count) // pool.block_size) - self.first_block
        while len(self.blocks) < wanted:
            self.blocks.append(pool.allocate())

    def commit(self, count: int, token_ids: Sequence[int]) -> None:
        """The K/V of the next `count` tokens is stored: index the blocks that became full and roll the window.

        `token_ids` are all tokens of the sequence.
        """
        self.num_tokens += count
        while self.num_reserved >= self._cache.pool.block_size:
            self._cache.pool.release(self.blocks.pop())
        self._index_full_blocks(token_ids)
        self._roll()

    def free(self) -> None:
        """Give every block back, the last one first, so that beginnings outlive their continuations in the cache."""
        while self.blocks:
            self._cache.pool.release(self.blocks.pop())
        self._stop_indexing()

    def _index_full_blocks(self, token_ids: Sequence[int]) -> None:
        pool, index = self._cache.pool, self._cache.index
        size = pool.block_size
        while self._node is not None and (self._num_indexed + 1) * size <= self.num_tokens:
            start = self._num_indexed * size
            block = self.blocks[self._num_indexed - self.first_block]
            if index.is_full:
                pool.evict()
            node = index.insert(self._node, token_ids[start : start + size], block)
            if node is None:
                return self._stop_indexing()  # what follows cannot be found again, nor need it be remembered
            if node.block == block:
                pool.keep(block)
                self._cache.on_indexed(node)
            index.pin(node)
            index.unpin(self._node)
            self._node = node
            self._num_indexed += 1
        return None

    def _stop_indexing(self) -> None:
        if self._node is not None:
            self._cache.index.unpin(self._node)
            self._node = None

    def _roll(self) -> None:
        """Give back the blocks before the window, seen from the last block boundary that a repeated prompt resumes at.

        That boundary is at most one block behind the next row, so at most one block more than needed is kept.
        """
        size = self._cache.pool.block_size
        resume = (self.num_tokens - 1) // size * size
        first = self._cache.index.first_needed(resume, self._cache.window)
        while self.first_block < first:
            self._cache.pool.release(self.blocks.pop(0))
            self.first_block += 1
