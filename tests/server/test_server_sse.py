"""The end of a stream that breaks: its last frame can still be read before the connection closes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from ostro.server import sse
from ostro.server.sse import BrokenStream, EventStream


async def frames() -> AsyncGenerator[bytes, None]:
    yield b"data: {}\n\n"
    raise BrokenStream


def broken(linger: float, monkeypatch: pytest.MonkeyPatch, *, leaves: bool) -> tuple[bool, list[Any], int]:
    """Whether the connection was still open behind the last frame, what was sent, and how often it was closed."""
    monkeypatch.setattr(sse, "_LINGER_SECONDS", linger)
    sent: list[Any] = []
    closed: list[None] = []

    async def work() -> bool:
        gone = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        response = EventStream(frames(), on_close=lambda: closed.append(None))
        answering = asyncio.ensure_future(response({}, receive, send))
        while len(sent) < 2:
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        is_open = not answering.done()
        if leaves:
            gone.set()
        await asyncio.wait_for(answering, 60)
        return is_open

    return asyncio.run(work()), sent, len(closed)


def test_a_broken_stream_stays_open_until_its_reader_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    is_open, sent, num_closed = broken(3600, monkeypatch, leaves=True)
    assert is_open
    assert [message.get("more_body") for message in sent] == [None, True]
    assert num_closed == 1


def test_it_is_closed_in_the_end_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    is_open, sent, num_closed = broken(0.01, monkeypatch, leaves=False)
    assert is_open
    assert all(message.get("more_body", True) for message in sent)
    assert num_closed == 1
