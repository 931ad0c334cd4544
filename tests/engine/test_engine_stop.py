"""Stop strings over a stream that is cut anywhere."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ostro.engine.stop import StopStrings


def whole(text: str, stops: list[str], include: bool) -> tuple[str, str | None]:
    """Character by character: the first stop string that is complete, the longest of several."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            stop = max(found, key=len)
            return (text[:end] if include else text[: end - len(stop)]), stop
    return text, None


@given(
    pieces=st.lists(st.text("ab", max_size=4), max_size=12),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
    include=st.booleans(),
)
def test_the_cut_does_not_matter(pieces: list[str], stops: list[str], include: bool) -> None:
    expected, stop = whole("".join(pieces), stops, include)
    stream = StopStrings(stops, include=include)
    given_out = ""
    for piece in pieces:
        given_out += stream.push(piece)
        assert expected.startswith(given_out), "text was given out that a stop string takes back"
        if stream.matched is not None:
            break
    else:
        given_out += stream.flush()
    assert (given_out, stream.matched) == (expected, stop)


@given(text=st.text("ab", max_size=20), stops=st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_no_more_than_needed_is_held_back(text: str, stops: list[str]) -> None:
    stream = StopStrings(stops)
    for character in text:
        stream.push(character)
        if stream.matched is not None:
            return
    held = stream.flush()
    assert not held or any(stop.startswith(held) for stop in stops)
