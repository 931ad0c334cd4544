"""The scheduler alone, in integers: budgets, order, preemption, and that everything ends."""

from __future__ import annotations

from itertools import cycle

from hypothesis import given, settings
from hypothesis import strategies as st

from ostro.cache import KVCache
from ostro.engine.scheduler import Chunk, Scheduler, TokenSequence


def sequence(order: int, length: int, salt: str | None = None, leader: TokenSequence | None = None) -> TokenSequence:
    return TokenSequence(
        order=order, token_ids=[i % 3 for i in range(length)], num_prompt_tokens=length, salt=salt, leader=leader
    )


def told(chunks: list[Chunk]) -> list[tuple[int, int, int]]:
    return [(chunk.sequence.order, chunk.start, chunk.count) for chunk in chunks]


def advance(scheduler: Scheduler) -> list[tuple[int, int, int]]:
    """A step in which every sequence that is ready gets a token."""
    chunks = scheduler.schedule()
    for chunk in chunks:
        if chunk.is_last:
            chunk.sequence.token_ids.append(chunk.sequence.order % 3)
    scheduler.commit(chunks)
    return told(chunks)


def test_decodes_come_first_then_prefills_in_chunks() -> None:
    scheduler = Scheduler(KVCache(64, 4), max_num_seqs=8, max_num_batched_tokens=10)
    scheduler.add(sequence(0, 4))
    scheduler.add(sequence(1, 16))
    assert advance(scheduler) == [(0, 0, 4), (1, 0, 6)]
    assert advance(scheduler) == [(0, 4, 1), (1, 6, 9)]
    scheduler.add(sequence(2, 5))
    assert advance(scheduler) == [(0, 5, 1), (1, 15, 1), (2, 0, 5)]
    assert advance(scheduler) == [(0, 6, 1), (1, 16, 1), (2, 5, 1)]


def test_of_prompts_the_oldest_has_half_and_the_shortest_the_rest() -> None:
    scheduler = Scheduler(KVCache(200, 4), max_num_seqs=8, max_num_batched_tokens=20)
    for order, length in enumerate([100, 60, 12]):
        scheduler.add(sequence(order, length))
    assert advance(scheduler) == [(0, 0, 10), (2, 0, 10)]
    scheduler.add(sequence(3, 5))
    assert advance(scheduler) == [(0, 10, 10), (1, 0, 3), (2, 10, 2), (3, 0, 5)]
    assert advance(scheduler) == [(2, 12, 1), (3, 5, 1), (0, 20, 9), (1, 3, 9)]


def test_prompts_may_have_less_than_the_budget() -> None:
    scheduler = Scheduler(KVCache(64, 4), max_num_seqs=8, max_num_batched_tokens=20)
    one, two = sequence(0, 3), sequence(1, 30)
    scheduler.add(one)
    assert told(scheduler.schedule(2)) == [(0, 0, 2)]
    scheduler.add(two)
    assert advance(scheduler) == [(0, 0, 3), (1, 0, 17)]
    one.draft = [1, 1, 1]
    chunks = scheduler.schedule(6)
    assert told(chunks) == [(0, 3, 4), (1, 17, 6)]  # what decodes and drafts is not counted
    assert told(scheduler.schedule(0)) == [(0, 3, 4), (1, 17, 1)]  # and nobody stands still


def test_a_beginning_that_is_being_computed_is_waited_for() -> None:
    scheduler = Scheduler(KVCache(64, 4), max_num_seqs=8, max_num_batched_tokens=12)
    shared = [5] * 17
    texts = [[*shared, *[6] * 20], [*shared, 7, 7], [*shared, *[6] * 20, 8], [4] * 3]
    for order, ids in enumerate(texts):
        salt = "x" if order < 3 else "y"
        scheduler.add(TokenSequence(order=order, token_ids=ids, num_prompt_tokens=len(ids), salt=salt))
    assert advance(scheduler) == [(0, 0, 9), (3, 0, 3)]
    assert advance(scheduler) == [(3, 3, 1), (0, 9, 11)]
    # Of the first 16 tokens nothing is computed twice; the third text awaits 36 of the first.
    assert advance(scheduler) == [(3, 4, 1), (0, 20, 8), (1, 16, 3)]
    assert [s.order for s in scheduler.waiting] == [2]
    while scheduler.waiting:
        last = advance(scheduler)
    assert last[-1] == (2, 36, 2)


def test_nobody_awaits_what_does_not_run() -> None:
    scheduler = Scheduler(KVCache(64, 4), max_num_seqs=8, max_num_batched_tokens=8)
    one, two = (TokenSequence(order=i, token_ids=[5] * 20, num_prompt_tokens=20, salt="x") for i in range(2))
    scheduler.add(one)
    scheduler.add(two)
    assert advance(scheduler) == [(0, 0, 8)]
    scheduler.remove(one)
    assert advance(scheduler) == [(1, 8, 8)]


def test_at_most_max_num_seqs_run() -> None:
    scheduler = Scheduler(KVCache(64, 4), max_num_seqs=2, max_num_batched_tokens=100)
    for order in range(3):
        scheduler.add(sequence(order, 2))
    assert [order for order, _, _ in advance(scheduler)] == [0, 1]
    scheduler.remove(scheduler.running[0])
    assert [order for order, _, _ in advance(scheduler)] == [1, 2]


def test_the_youngest_is_preempted_and_comes_back() -> None:
    scheduler = Scheduler(KVCache(4, 4), max_num_seqs=8, max_num_batched_tokens=100)
    old, young = sequence(0, 3), sequence(1, 3)
    scheduler.add(old)
    scheduler.add(young)
    assert advance(scheduler) == [(0, 0, 3), (1, 0, 3)]
    for _ in range(5):
        advance(scheduler)
    assert len(old.token_ids) == len(young.token_ids) == 9
    assert told(scheduler.schedule()) == [(0, 8, 1)]  # a third block for one: no room for the other
    assert scheduler.waiting == [young]
    assert young.cache is None
    assert scheduler.num_preemptions == 1
    scheduler.remove(old)
    assert advance(scheduler) == [(1, 0, 9)]


def test_nobody_is_let_in_to_be_preempted_at_once() -> None:
    """The first needs 5 of 6 blocks in the end; the second would take what it decodes into."""
    scheduler = Scheduler(KVCache(6, 4), max_num_seqs=8, max_num_batched_tokens=8)
    scheduler.add(sequence(0, 20))
    assert advance(scheduler) == [(0, 0, 8)]
    scheduler.add(sequence(1, 4))
    while scheduler.running[0].num_uncomputed_tokens > 1:
        assert advance(scheduler)[0][0] == 0
    assert scheduler.num_preemptions == 0
    assert [s.order for s in scheduler.waiting] == [1]


def test_followers_wait_for_the_leaders_prompt_and_share_it() -> None:
    scheduler = Scheduler(KVCache(64, 4), max_num_seqs=8, max_num_batched_tokens=6)
    leader = sequence(0, 10, salt="x")
    scheduler.add(leader)
    scheduler.add(sequence(1, 10, salt="x", leader=leader))
    scheduler.add(sequence(2, 2))
    assert advance(scheduler) == [(0, 0, 4), (2, 0, 2)]  # the follower holds nobody else up
    assert advance(scheduler) == [(2, 2, 1), (0, 4, 5)]
    assert advance(scheduler) == [(0, 9, 1), (2, 3, 1)]
    assert advance(scheduler) == [(0, 10, 1), (2, 4, 1), (1, 8, 2)]


def test_a_chunk_that_was_planned_goes_with_its_preempted_sequence() -> None:
    """A follower prefills though younger sequences decode already; when it needs a block, the youngest's chunk goes."""
    scheduler = Scheduler(KVCache(26, 1), max_num_seqs=3, max_num_batched_tokens=3)
    leader = sequence(0, 8)
    for s in (leader, sequence(1, 8, leader=leader), sequence(2, 1)):
        scheduler.add(s)
    steps = []
    while not scheduler.num_preemptions:
        steps.append(advance(scheduler))
        assert sum(count for _, _, count in steps[-1]) <= 3
    assert [order for order, _, _ in steps[-2]] == [0, 2, 1]
    assert [order for order, _, _ in steps[-1]] == [0, 1]


def test_a_leader_that_is_gone_is_not_waited_for() -> None:
    scheduler = Scheduler(KVCache(64, 4), max_num_seqs=8, max_num_batched_tokens=6)
    leader = sequence(0, 10)
    follower = sequence(1, 5, leader=leader)
    scheduler.add(leader)
    scheduler.add(follower)
    scheduler.remove(leader)
    assert advance(scheduler) == [(1, 0, 5)]


def decoding(scheduler: Scheduler, *drafts: list[int]) -> list[TokenSequence]:
    """Sequences of two tokens that decode, with these drafts."""
    made = [sequence(order, 2) for order in range(len(drafts))]
    for s in made:
        scheduler.add(s)
    while any(s.num_uncomputed_tokens != 1 for s in made):
        advance(scheduler)
    for s, draft in zip(made, drafts, strict=True):
        s.draft = draft
    return made


def test_drafts_are_computed_behind_the_last_token() -> None:
    scheduler = Scheduler(KVCache(64, 4), max_num_seqs=8, max_num_batched_tokens=10)
    one, two = decoding(scheduler, [7, 8, 9], [])
    first, second = scheduler.schedule()
    assert (first.start, first.count, first.num_draft, first.token_ids) == (2, 4, 3, [0, 7, 8, 9])
    assert (second.start, second.count, second.num_draft) == (2, 1, 0)
    one.token_ids += [7, 5]  # the first guess was right
    two.token_ids += [1]
    scheduler.commit([first, second])
    assert (one.num_computed_tokens, two.num_computed_tokens) == (4, 3)
    assert advance(scheduler) == [(0, 4, 1), (1, 3, 1)]


def test_drafts_share_what_budget_the_tokens_leave_and_prompts_leave_them_theirs() -> None:
    scheduler = Scheduler(KVCache(64, 4), max_num_seqs=8, max_num_batched_tokens=8)
    decoding(scheduler, [7, 7, 7, 7], [8, 8, 8])
    assert told(scheduler.schedule()) == [(0, 2, 5), (1, 2, 3)]
    scheduler = Scheduler(KVCache(64, 4), max_num_seqs=8, max_num_batched_tokens=8)
    decoding(scheduler, [7, 7], [8])
    scheduler.add(sequence(2, 20))
    assert told(scheduler.schedule()) == [(0, 2, 3), (1, 2, 2), (2, 0, 3)]


def test_a_draft_takes_no_block_that_another_sequence_needs() -> None:
    """Two sequences at the end of their blocks, and three blocks left: one for each, and one that is nobody's."""
    scheduler = Scheduler(KVCache(5, 3), max_num_seqs=8, max_num_batched_tokens=64)
    one, two = decoding(scheduler, [7] * 8, [8] * 8)
    chunks = scheduler.schedule()
    assert [chunk.num_draft for chunk in chunks] == [6, 3]
    assert scheduler.cache.pool.num_available == 0
    one.token_ids.append(0)
    two.token_ids.append(0)
    scheduler.commit(chunks)
    assert scheduler.cache.pool.num_available == 3
    assert scheduler.num_preemptions == 0


def test_a_preempted_sequence_loses_its_draft() -> None:
    scheduler = Scheduler(KVCache(4, 2), max_num_seqs=8, max_num_batched_tokens=64)
    old, young = decoding(scheduler, [], [])
    while not scheduler.num_preemptions:
        old.draft, young.draft = [5], [5]
        advance(scheduler)
    assert young.cache is None
    assert young.draft == []


def test_an_empty_scheduler_schedules_nothing() -> None:
    assert Scheduler(KVCache(1, 1), 1, 1).schedule() == []


request_strategy = st.tuples(
    st.integers(0, 20),  # step of arrival
    st.integers(1, 24),  # prompt
    st.integers(1, 12),  # answer
    st.sampled_from([None, "a", "b"]),  # salt
    st.booleans(),  # follows the one before
    st.none() | st.integers(0, 30),  # step at which it is given up
)


@settings(max_examples=300)
@given(
    requests=st.lists(request_strategy, min_size=1, max_size=10),
    block_size=st.integers(1, 4),
    spare_blocks=st.integers(0, 8),
    window=st.none() | st.integers(1, 9),
    max_num_seqs=st.integers(1, 4),
    budget=st.integers(1, 20),
    drafts=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=8),
)
def test_everything_ends(
    requests: list[tuple[int, int, int, str | None, bool, int | None]],
    block_size: int,
    spare_blocks: int,
    window: int | None,
    max_num_seqs: int,
    budget: int,
    drafts: list[tuple[int, int]],
) -> None:
    """`drafts`: how many tokens are drafted, and how many of them are right, one pair after the other."""
    guesses = cycle(drafts)
    longest = max(prompt + answer for _, prompt, answer, _, _, _ in requests)
    needed = KVCache(1, block_size, window).max_blocks(longest)
    cache = KVCache(needed + spare_blocks, block_size, window)
    scheduler = Scheduler(cache, max_num_seqs, budget)
    made: list[TokenSequence] = []
    for order, (_, prompt, _, salt, follows, _) in enumerate(requests):
        leader = made[-1] if follows and made else None
        length, salt = (leader.num_prompt_tokens, leader.salt) if leader else (prompt, salt)
        made.append(sequence(order, length, salt, leader))
    arrivals: list[int] = []  # a follower comes with its leader
    for s, (arrival, *_) in zip(made, requests, strict=True):
        arrivals.append(arrivals[-1] if s.leader else arrival)
    totals = [s.num_prompt_tokens + answer for s, (_, _, answer, _, _, _) in zip(made, requests, strict=True)]
    totals = [min(total, longest) for total in totals]
    ended: set[int] = set()
    work = sum(totals)
    step = 0
    while len(ended) < len(made):
        for s, arrival, (*_, given_up) in zip(made, arrivals, requests, strict=True):
            if arrival == step:
                scheduler.add(s)
            if given_up == step and scheduler.holds(s):
                scheduler.remove(s)
                ended.add(s.order)
        right = {}
        for s in scheduler.running:
            drafted, right[s] = next(guesses)
            room = totals[s.order] - len(s.token_ids) - 1
            s.draft = [s.order % 3] * min(drafted, room) if s.num_uncomputed_tokens == 1 else []
        chunks = scheduler.schedule()
        assert sum(chunk.count for chunk in chunks) <= budget
        assert len(scheduler.running) <= max_num_seqs
        assert len({chunk.sequence.order for chunk in chunks}) == len(chunks)
        oldest = min((s.order for s in scheduler.running), default=None)
        if oldest is not None and budget >= max_num_seqs:
            assert oldest in {chunk.sequence.order for chunk in chunks}, "the oldest stands still"
        for chunk in chunks:
            s = chunk.sequence
            assert s.cache is not None
            assert chunk.start == s.num_computed_tokens
            assert len(s.cache.blocks) + s.cache.first_block >= -(-(chunk.start + chunk.count) // block_size)
            assert 0 <= chunk.num_draft <= len(s.draft)
            assert chunk.token_ids == (s.token_ids + s.draft)[chunk.start : chunk.start + chunk.count]
            if chunk.is_last:
                s.token_ids += [s.order % 3] * (1 + min(right.get(s, 0), chunk.num_draft))
        scheduler.commit(chunks)
        for chunk in chunks:
            s = chunk.sequence
            assert s.draft == []
            assert s.num_uncomputed_tokens == (1 if chunk.is_last else len(s.token_ids) - chunk.start - chunk.count)
            if len(chunk.sequence.token_ids) >= totals[chunk.sequence.order]:
                scheduler.remove(chunk.sequence)
                ended.add(chunk.sequence.order)
        pool = cache.pool
        assert pool.num_used == len({b for s in scheduler.running if s.cache for b in s.cache.blocks})
        step += 1
        assert step < 100 + 40 * work, "starved"
    assert cache.pool.num_used == 0
