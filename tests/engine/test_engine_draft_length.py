"""How long drafts are: times by rows, acceptance, and the best of both against trying everything."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from drafters import Scripted
from engine_models import make_core, prompts
from hypothesis import given
from hypothesis import strategies as st

from ostro.engine import SamplingParams
from ostro.engine.draft_length import Acceptance, Offer, StepTimes, best_lengths
from ostro.engine.request import Sequence
from ostro.engine.scheduler import Chunk
from ostro.engine.speculation import Speculator


def times(**seconds: float) -> StepTimes:
    """`times(r1=1.0, r8=1.5)`: as after many steps of so many rows."""
    made = StepTimes()
    for name, value in seconds.items():
        made.note(int(name[1:]), value)
    return made


def test_times_between_the_known_ones_lie_on_a_line() -> None:
    np.testing.assert_allclose(times(r1=1.0, r2=2.0, r4=4.0).curve(1, 6), [1, 2, 3, 4, 5, 6])


def test_without_times_a_row_more_is_nearly_free() -> None:
    np.testing.assert_allclose(StepTimes().curve(1, 3), [1, 1.05, 1.1])
    np.testing.assert_allclose(times(r1=10.0).curve(1, 3), [10, 10.5, 11])


def test_a_row_alone_costs_no_more_than_in_company_and_no_less_than_its_share() -> None:
    curve = times(r6=6.0, r12=18.0).curve(1, 12)
    assert np.all(np.diff(curve) > 0)
    assert curve[0] >= 1


def test_one_slow_step_does_not_rule() -> None:
    made = times(r1=1.0, r8=2.0)
    made.note(8, 200.0)
    assert made.curve(8, 8)[0] < 2.5
    for _ in range(20):
        made.note(8, 1.2)
    assert made.curve(8, 8)[0] == pytest.approx(1.2, rel=0.01)


def test_what_was_not_seen_for_long_is_forgotten() -> None:
    made = times(r1=1.0, r8=100.0)
    for _ in range(100):
        made.note(1, 1.0)
    assert made.curve(8, 8)[0] == pytest.approx(1.35)


def test_acceptance_goes_to_what_is_seen_and_fades_back() -> None:
    kind = Acceptance(0.5)
    assert kind.rate == 0.5
    for _ in range(20):
        kind.note(0, 1)
    low = kind.rate
    assert low < 0.2
    for _ in range(200):
        kind.fade()
    assert kind.rate == pytest.approx(0.5, abs=0.02)
    for _ in range(20):
        kind.note(7, 7)
    assert 0.9 < kind.rate < 1


offers = st.lists(
    st.builds(Offer, limit=st.integers(1, 3), rate=st.floats(0.05, 0.95), seconds_per_token=st.just(0.0)),
    min_size=1,
    max_size=3,
)


@given(
    offers=offers,
    num_more=st.integers(0, 3),
    max_rows=st.integers(1, 9),
    seconds=st.lists(st.floats(0.1, 2), min_size=3, max_size=3),
)
def test_no_other_lengths_give_more_tokens_a_second(
    offers: list[Offer], num_more: int, max_rows: int, seconds: tuple[float, float, float]
) -> None:
    known = times(r1=seconds[0], r4=seconds[0] + seconds[1], r16=seconds[0] + seconds[1] + seconds[2])
    num_decoding = len(offers) + num_more

    def speed(lengths: tuple[int, ...]) -> float:
        expected = sum(offer.rate**i for offer, n in zip(offers, lengths, strict=True) for i in range(1, n + 1))
        rows = num_decoding + sum(lengths)
        return float((num_decoding + expected) / known.curve(rows, rows)[0])

    every = itertools.product(*(range(offer.limit + 1) for offer in offers))
    best = max(speed(lengths) for lengths in every if sum(lengths) <= max_rows)
    found = best_lengths(offers, num_decoding, num_decoding, max_rows, known)
    assert sum(found) <= max_rows
    assert all(0 <= n <= offer.limit for n, offer in zip(found, offers, strict=True))
    assert speed(tuple(found)) == pytest.approx(best)


def test_dear_drafts_are_shorter() -> None:
    known = times(r1=1.0, r8=1.1)
    cheap = best_lengths([Offer(7, 0.8)], 1, 1, 7, known)
    dear = best_lengths([Offer(7, 0.8, seconds_per_token=0.3)], 1, 1, 7, known)
    never = best_lengths([Offer(7, 0.8, seconds_per_token=2.0)], 1, 1, 7, known)
    assert cheap[0] > dear[0] > never[0] == 0


def running(count: int) -> list[Sequence]:
    """Sequences of an engine, all of which decode."""
    core = make_core()
    for i, prompt in enumerate(prompts(count)):
        core.add_request(str(i), prompt, SamplingParams(temperature=0, max_tokens=30, ignore_eos=True))
    core.step()
    found = [sequence for sequence in core.scheduler.running if isinstance(sequence, Sequence)]
    assert all(sequence.num_uncomputed_tokens == 1 for sequence in found)
    return found


def speculator(is_adaptive: bool = True, max_rows: int = 100) -> Speculator:
    guess = Scripted(lambda _sequence, limit: [5] * limit)
    return Speculator((guess,), vocab_size=61, max_draft_tokens=7, max_rows=max_rows, is_adaptive=is_adaptive)


def learn(chooser: Speculator, sequences: list[Sequence], seconds_a_row: float, accepted: bool) -> list[int]:
    """Lengths of the drafts over many steps that took 1 second and so much more for each row after the first."""
    lengths = []
    for _ in range(100):
        chooser.propose(sequences)
        lengths.append(sum(len(sequence.draft) for sequence in sequences))
        chunks = [Chunk(s, 0, 1 + len(s.draft), True, len(s.draft)) for s in sequences]
        chooser.note_time(chunks, 1 + seconds_a_row * (sum(chunk.count for chunk in chunks) - 1))
        for s in sequences:
            num_draft = len(s.draft)
            chooser.learn(s, num_draft, num_draft if accepted else min(1, num_draft), num_draft if accepted else 0)
    return lengths


@pytest.mark.parametrize("count", [1, 4])
def test_drafts_grow_while_they_are_right_and_end_when_they_are_wrong(count: int) -> None:
    sequences = running(count)
    chooser = speculator()
    assert learn(chooser, sequences, 0.02, accepted=True)[-20:] == [7 * count] * 20
    wrong = learn(chooser, sequences, 0.5, accepted=False)
    assert sum(wrong[-50:]) <= 5 * count  # but now and then one is tried
    assert learn(chooser, sequences, 0.02, accepted=True)[-1] == 7 * count


def test_without_adaptation_drafts_are_as_long_as_they_can_be() -> None:
    sequences = running(2)
    assert set(learn(speculator(is_adaptive=False), sequences, 5.0, accepted=False)) == {14}
    assert set(learn(speculator(is_adaptive=False, max_rows=12), sequences, 5.0, accepted=False)) == {10}
    assert [len(s.draft) for s in sequences] == [7, 3]


def test_prompts_say_nothing_about_the_time_of_decoding() -> None:
    (sequence,) = running(1)
    chooser = speculator()
    chooser.note_time([Chunk(sequence, 0, 1, True), Chunk(sequence, 0, 40, True)], 1000.0)
    chooser.note_time([Chunk(sequence, 0, 1, False)], 1000.0)
    assert chooser._times.curve(1, 1)[0] == 1
