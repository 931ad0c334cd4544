"""Large work leaves the event loop to others, and large answers are the same JSON."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostro.server.apart import SMALL, apart, json_pieces, large_answer
from ostro.server.garbage import collect_everything, short_waits

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(VALUES, st.booleans())
def test_pieces_are_the_json_of_the_whole(value: Any, ensure_ascii: bool) -> None:
    expected = json.dumps(value, ensure_ascii=ensure_ascii, separators=(",", ":"))
    kept = copy.deepcopy(value)
    assert "".join(json_pieces(value, ensure_ascii=ensure_ascii)) == expected
    assert value == kept
    assert "".join(json_pieces(value, ensure_ascii=ensure_ascii, consumes=True)) == expected


@pytest.mark.parametrize("length", [1024, 1025, 5000])
def test_long_lists_of_numbers_are_cut(length: int) -> None:
    pieces = list(json_pieces({"vectors": [list(range(length))]}))
    assert json.loads("".join(pieces)) == {"vectors": [list(range(length))]}
    assert max(map(len, pieces)) < 1024 * 6


def test_what_is_no_json_number_is_an_error() -> None:
    with pytest.raises(ValueError):
        list(json_pieces({"a": [[float("nan")]]}))


def test_only_large_work_goes_to_a_thread() -> None:
    async def run() -> list[int]:
        return [await apart(size, threading.get_ident) for size in (SMALL, SMALL + 1)]

    here, there = asyncio.run(run())
    assert here == threading.get_ident() != there


def test_others_are_served_while_a_large_answer_is_made_and_sent() -> None:
    def build() -> dict[str, Any]:
        return {"data": [{"index": n, "embedding": [0.5] * 64} for n in range(4000)]}

    async def run() -> tuple[int, list[dict[str, Any]]]:
        turns, sent = 0, []

        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async def send(message: Any) -> None:
            sent.append(message)

        running = asyncio.ensure_future(others())
        answer = await large_answer(build, {"x-name": "value"})
        running.cancel()
        await answer({}, None, send)  # type: ignore[arg-type]
        return turns, sent

    turns, sent = asyncio.run(run())
    assert turns > 1
    head, *pieces = sent
    assert dict(head["headers"])[b"x-name"] == b"value"
    body = b"".join(piece["body"] for piece in pieces)
    assert json.loads(body) == build()
    assert int(dict(head["headers"])[b"content-length"]) == len(body)
    assert [piece["more_body"] for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert max(len(piece["body"]) for piece in pieces) <= 1 << 18


def test_waits_are_short_in_the_block_and_as_before_behind_it() -> None:
    before = sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count()

    async def run() -> None:
        async with short_waits():
            assert sys.getswitchinterval() < before[0]
            assert gc.get_threshold()[2] > before[1][2]
            assert gc.get_freeze_count() > 0
            collect_everything()
            assert gc.get_freeze_count() > 0

    asyncio.run(run())
    assert (sys.getswitchinterval(), gc.get_threshold(), gc.get_freeze_count()) == before
    collect_everything()
    assert gc.get_freeze_count() == before[2]
