"""The guard sees nesting and number of values as a parser does, however the text is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ostro.errors import RequestError
from ostro.server.json_guard import JsonGuard

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
CUTS = st.lists(st.integers(1, 7), min_size=1, max_size=10)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    made, at, index = [], 0, 0
    while at < len(data):
        size = sizes[index % len(sizes)]
        made.append(data[at : at + size])
        at, index = at + size, index + 1
    return made


def run(data: bytes, sizes: list[int], **limits: int) -> None:
    guard = JsonGuard(**({"max_depth": 64, "max_values": 1000} | limits))
    for piece in pieces(data, sizes):
        guard.feed(piece)
    guard.finish()


@given(VALUES, CUTS, st.booleans())
@example({'"\\': ['\\"[', "\U0001f600]"]}, [1], True)
def test_it_passes_what_is_allowed_and_no_more(value: Any, sizes: list[int], escaped: bool) -> None:
    data = json.dumps(value, ensure_ascii=escaped).encode()
    run(data, sizes, max_depth=depth(value))
    if depth(value):
        with pytest.raises(RequestError, match="nests deeper"):
            run(data, sizes, max_depth=depth(value) - 1)


@given(st.binary(max_size=200), CUTS)
def test_it_survives_anything_and_says_the_same_of_any_cut(data: bytes, sizes: list[int]) -> None:
    def verdict(sizes: list[int]) -> str | None:
        try:
            run(data, sizes, max_depth=3, max_values=5)
        except RequestError as error:
            return str(error)
        return None

    assert (verdict(sizes) is None) == (verdict([1]) is None) == (verdict([1000]) is None)


@pytest.mark.parametrize("sizes", [[1], [3], [1000]])
@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (rb'"\ud83d"', "surrogate"),
        (rb'"\ude00\ud83d"', "surrogate"),
        (rb'["\\\ud83dx"]', "surrogate"),
        (rb'"\uD83D\u0041"', "surrogate"),
        (rb'{"\udfff": 1}', "surrogate"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'"\xc3', "not UTF-8"),
        (b'{"a": "\x00"}', "NUL"),
        ("[[]]".encode("utf-16"), "not UTF-8|NUL"),
        ("[[]]".encode("utf-32-be"), "NUL"),
        (b"[" * 65, "nests deeper"),
        (b"[" + b"0," * 1000 + b"0]", "more than the 1000 values"),
        (b"[]," * 1000, "more than the 1000 values"),
        (b'"",' * 1001, "more than the 1000 values"),
    ],
)
def test_what_is_refused(data: bytes, problem: str, sizes: list[int]) -> None:
    with pytest.raises(RequestError, match=problem):
        run(data, sizes)


@pytest.mark.parametrize("sizes", [[1], [5], [1000]])
@pytest.mark.parametrize(
    "data",
    [
        rb'"\ud83d\ude00 \\ud83d \\\\ \" \u00e9 \uD7FF \uE000"',
        b'"' + b"[" * 100 + b'"',
        b'"' + b"," * 2000 + b'"',
        b"]]]]",
        rb'"\u12',
        b'"\\',
        b"",
        b"nonsense",
    ],
)
def test_what_is_left_to_the_parser(data: bytes, sizes: list[int]) -> None:
    run(data, sizes)
