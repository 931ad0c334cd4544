"""`BlockPool`: who holds which physical block.

Every block is in one of three states:

    free      nobody holds it and nothing of use is in it
    used      held by one or more sequences (its reference count)
    cached    held by no sequence, but a prefix index knows its content; the least recently released one is
              evicted when a block is needed and none is free
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


def _forget_nothing(block: int) -> None:
    """The `on_evict` of a pool without a prefix index."""


class BlockPool:
    """Reference counts over `num_blocks` blocks of `block_size` tokens.

    `on_evict(block)` is called when the content of a cached block is about to be lost.

    >>> pool = BlockPool(num_blocks=2, block_size=16)
    >>> block = pool.allocate()
    >>> pool.num_free, pool.num_used
    (1, 1)
    >>> pool.release(block)
    >>> pool.num_free
    2
    """

    def __init__(self, num_blocks: int, block_size: int, on_evict: Callable[[int], None] = _forget_nothing) -> None:
        assert num_blocks > 0
        assert block_size > 0
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._on_evict = on_evict
        self._references = [0] * num_blocks
        # Last in, first out: a block whose memory was touched lately is taken before one that never was.
        self._free = list(range(num_blocks - 1, -1, -1))
        self._kept: set[int] = set()
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def num_free(self) -> int:
        """Blocks that hold nothing."""
        return len(self._free)

    @property
    def num_cached(self) -> int:
        """Blocks that hold a reusable prefix and no sequence uses."""
        return len(self._cached)

    @property
    def num_used(self) -> int:
        """Blocks that sequences hold."""
        return self.num_blocks - len(self._free) - len(self._cached)

    @property
    def num_available(self) -> int:
        """Blocks that `allocate` can give: the free ones and, by eviction, the cached ones."""
        return len(self._free) + len(self._cached)

    def references(self, block: int) -> int:
        """Number of holders of a block."""
        return self._references[block]

    def allocate(self) -> int:
        """A block with one reference; the least recently released cached block is evicted where none is free."""
        assert self.num_available, "the caller looks at num_available first"
        if not self._free:
            self.evict()
        block = self._free.pop()
        self._references[block] = 1
        return block

    def acquire(self, block: int) -> None:
        """One more holder of a used or cached block."""
        assert self._references[block] or block in self._cached, "a free block has no content to share"
        self._cached.pop(block, None)
        self._references[block] += 1

    def release(self, block: int) -> None:
        """One holder less; the last one leaves the block free, or cached if it is kept."""
        assert self._references[block] > 0, "released more often than acquired"
        self._references[block] -= 1
        if self._references[block]:
            return
        if block in self._kept:
            self._cached[block] = None
        else:
            self._free.append(block)

    def keep(self, block: int) -> None:
        """A prefix index knows the content of this used block: cache it when its last holder leaves."""
        assert self._references[block] > 0
        self._kept.add(block)

    def evict(self) -> None:
        """Free the least recently released cached block, if there is one."""
        if self._cached:
            block, _ = self._cached.popitem(last=False)
            self._kept.remove(block)
            self._on_evict(block)
            self._free.append(block)
