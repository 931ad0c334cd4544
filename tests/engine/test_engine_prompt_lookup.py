"""The index of repetitions against its definition, and what drafts it makes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ostro.engine.prompt_lookup import CONFIDENCE, Match, PromptLookup, RepetitionIndex, continuation
from ostro.engine.scheduler import TokenSequence


def expected(text: list[int], least: int, most: int, max_candidates: int) -> Match | None:
    """By the definition: of the latest places that follow the last `least` tokens, the one after the longest match."""
    places = [p for p in range(least, len(text)) if text[p - least : p] == text[-least:]]
    best: Match | None = None
    for place in sorted(places, reverse=True)[:max_candidates]:
        length = max(n for n in range(least, min(most, place) + 1) if text[place - n : place] == text[-n:])
        if best is None or length > best.length:
            best = Match(length, place)
    return best


@given(
    text=st.lists(st.integers(0, 2), max_size=60),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    least=st.integers(1, 3),
    more=st.integers(0, 5),
    max_candidates=st.integers(1, 6),
)
def test_the_index_finds_what_the_definition_says(
    text: list[int], cuts: list[int], least: int, more: int, max_candidates: int
) -> None:
    """However the text grows: by one token or by several."""
    index = RepetitionIndex(min_match=least, max_match=least + more, max_candidates=max_candidates)
    length = turn = 0
    while length < len(text):
        length += cuts[turn % len(cuts)]
        turn += 1
        grown = text[:length]
        assert index.find(grown) == expected(grown, least, least + more, max_candidates)


@given(text=st.lists(st.integers(0, 3), min_size=1, max_size=30), data=st.data(), count=st.integers(0, 20))
def test_a_continuation_goes_on_as_the_text_did(text: list[int], data: st.DataObject, count: int) -> None:
    place = data.draw(st.integers(0, len(text) - 1))
    grown = list(text)
    for i in range(count):
        grown.append(grown[place + i])
    assert continuation(text, place, count) == grown[len(text) :]


def sequence(token_ids: list[int]) -> TokenSequence:
    return TokenSequence(order=0, token_ids=token_ids, num_prompt_tokens=len(token_ids))


def test_the_longest_match_wins_and_the_latest_of_equals() -> None:
    one = [1, 2, 3, 50, 9, 2, 3, 60, 1, 2, 3]
    assert RepetitionIndex().find(one) == Match(3, 3)
    two = [9, 2, 3, 50, 8, 2, 3, 60, 1, 2, 3]
    assert RepetitionIndex().find(two) == Match(2, 7)


def test_a_new_token_costs_the_same_in_a_long_text() -> None:
    """The index only grows; no place is entered twice, and a search looks at a bounded number of places."""

    class Counted(list[int]):
        looked_at = 0

        def __getitem__(self, key: object) -> object:  # type: ignore[override]
            Counted.looked_at += 1
            return super().__getitem__(key)  # type: ignore[index]

    text = Counted([5] * 20_000)
    index = RepetitionIndex()
    index.find(text)
    Counted.looked_at = 0
    text.append(5)
    index.find(text)
    assert Counted.looked_at < 40


def test_drafts_are_what_followed() -> None:
    lookup = PromptLookup()
    one, two = sequence([1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 21, 1, 2, 3, 4, 5, 6, 7, 8, 9]), sequence([1, 2, 3])
    assert lookup.confidence(two) is None
    assert lookup.confidence(one) == CONFIDENCE[0][1]
    assert lookup.propose({one: 3}) == {one: [20, 21, 1]}
    one.token_ids += [20, 30, 4, 5]
    assert lookup.confidence(one) == CONFIDENCE[-1][1]
    assert lookup.propose({one: 2}) == {one: [6, 7]}
    lookup.forget(one)
    lookup.forget(two)
    lookup.clear()
    assert lookup._indexes == {}
    assert lookup._matches == {}


def test_confidence_grows_with_the_match() -> None:
    lookup = PromptLookup()
    found = [lookup.confidence(sequence([*range(10, 10 + n), 5, *range(10, 10 + n)])) for n in range(1, 12)]
    assert found[0] is None
    known = [value for value in found if value is not None]
    assert known == sorted(known)
    assert set(known) == {share for _, share in CONFIDENCE}
