"""The pool's three states, and the tree of prefixes."""

from __future__ import annotations

import pytest

from ostro.cache import BlockPool, KVCache, PrefixIndex


def test_a_block_goes_from_free_to_used_to_free() -> None:
    pool = BlockPool(3, 4)
    block = pool.allocate()
    assert (pool.num_free, pool.num_used, pool.num_cached) == (2, 1, 0)
    pool.acquire(block)
    pool.release(block)
    assert pool.references(block) == 1
    pool.release(block)
    assert (pool.num_free, pool.num_used, pool.num_cached) == (3, 0, 0)


def test_a_kept_block_is_cached_and_evicted_last_in_the_order_of_release() -> None:
    evicted: list[int] = []
    pool = BlockPool(3, 4, on_evict=evicted.append)
    first, second, third = (pool.allocate() for _ in range(3))
    for block in (first, second):
        pool.keep(block)
    for block in (second, first, third):
        pool.release(block)
    assert (pool.num_free, pool.num_cached) == (1, 2)
    assert pool.allocate() == third  # free before cached
    pool.acquire(second)  # used again: no longer a candidate
    assert pool.allocate() == first
    assert evicted == [first]


def test_bugs_of_ours_are_asserted() -> None:
    pool = BlockPool(1, 4)
    with pytest.raises(AssertionError):
        pool.acquire(0)
    with pytest.raises(AssertionError):
        pool.release(0)
    pool.allocate()
    with pytest.raises(AssertionError):
        pool.allocate()


def test_a_match_needs_every_token_before_it() -> None:
    index = PrefixIndex(2)
    a = index.insert(index.root(""), [1, 2], 10)
    assert a is not None
    index.insert(a, [3, 4], 11)
    assert index.match("", [1, 2, 3, 4, 5]).blocks == (10, 11)
    assert index.match("", [1, 2, 3, 9, 5]).blocks == (10,)
    assert index.match("", [9, 2, 3, 4, 5]).blocks == ()
    assert index.match("other", [1, 2, 3, 4, 5]).blocks == ()


def test_the_last_token_is_always_left_to_compute() -> None:
    index = PrefixIndex(2)
    index.insert(index.root(""), [1, 2], 10)
    assert index.match("", [1, 2]).num_blocks == 0
    assert index.match("", [1, 2, 3]).num_blocks == 1


def test_a_hash_collision_is_no_hit() -> None:
    index = PrefixIndex(1)
    index.insert(index.root(""), [2**61 - 1], 10)  # hash(2**61 - 1) == hash(0) in CPython
    assert index.match("", [0, 5]).blocks == ()


@pytest.mark.parametrize(("lost", "depth"), [(None, 6), (5, 5), (4, 4), (3, 6), (0, 6)])
def test_a_windowed_prefix_needs_only_its_last_window(lost: int | None, depth: int) -> None:
    """Window 4, blocks of 2: position 12 sees 9 .. 12, so blocks 4 and 5 must be there."""
    index = PrefixIndex(2)
    tokens = list(range(12))
    node = index.root("")
    for i in range(6):
        following = index.insert(node, tokens[2 * i : 2 * i + 2], 100 + i)
        assert following is not None
        node = following
    if lost is not None:
        index.drop(100 + lost)
    match = index.match("", [*tokens, 99], window=4)
    assert match.num_blocks == depth
    assert match.blocks == tuple(100 + i for i in range(match.first_block, depth))
    assert match.first_block == max(0, 2 * depth - 3) // 2


def test_nodes_without_blocks_below_are_pruned() -> None:
    index = PrefixIndex(1)
    a = index.insert(index.root(""), [1], 10)
    assert a is not None
    b = index.insert(a, [2], 11)
    assert b is not None
    index.drop(10)
    assert len(index) == 3  # the path to b is still needed
    index.pin(b)
    index.drop(11)
    assert len(index) == 3
    index.unpin(b)
    assert len(index) == 0


def test_a_lost_block_is_replaced_when_its_tokens_are_computed_again() -> None:
    cache = KVCache(num_blocks=3, block_size=1)
    first = cache.open([1, 2], "")
    first.reserve(2)
    first.commit(2, [1, 2])
    twin = KVCache.open(cache, [1, 2], "")
    assert twin.num_tokens == 1  # shares block of token 1
    twin.reserve(1)
    twin.commit(1, [1, 2])
    assert twin.blocks[0] == first.blocks[0]
    assert twin.blocks[1] != first.blocks[1]  # its own: the tree keeps the first one's
    first.free()
    twin.free()
    assert cache.pool.num_cached == 2
    assert cache.pool.num_free == 1
    cache.clear()
    assert cache.pool.num_free == 3
    assert len(cache.index) == 0


def test_beginnings_outlive_their_continuations() -> None:
    cache = KVCache(num_blocks=4, block_size=1)
    sequence = cache.open([1, 2, 3, 4], "")
    sequence.reserve(4)
    sequence.commit(4, [1, 2, 3, 4])
    sequence.free()
    cache.pool.evict()
    assert cache.open([1, 2, 3, 4, 5], "").num_tokens == 3


def test_without_a_salt_nothing_is_remembered() -> None:
    cache = KVCache(num_blocks=4, block_size=1)
    sequence = cache.open([1, 2], None)
    sequence.reserve(2)
    sequence.commit(2, [1, 2])
    sequence.free()
    assert (cache.pool.num_free, len(cache.index)) == (4, 0)
    assert cache.open([1, 2, 3], "").num_tokens == 0


def test_reserve_can_be_repeated() -> None:
    cache = KVCache(num_blocks=4, block_size=2)
    sequence = cache.open([1, 2, 3], None)
    sequence.reserve(3)
    blocks = list(sequence.blocks)
    sequence.reserve(3)  # the step failed and is taken again
    assert sequence.blocks == blocks
    assert sequence.room == 8
