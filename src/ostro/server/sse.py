"""Server-sent events, framed so that every client reads them.

A frame is `data: {json}` and an empty line, with LF; the chat routes have nothing else: no comments, no `event:` lines.
Each frame is one transfer chunk, and its JSON is ASCII: no character can be cut in two, and none of the characters at
which some clients break lines (U+0085, U+2028) stands in it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from ostro.server.apart import json_pieces
from ostro.server.refusal import Receive, Scope, Send

DONE = b"data: [DONE]\n\n"
_LINGER_SECONDS = 0.5
"""How long a broken connection stays open behind its last frame: a browser that sees the break before it has read that
frame throws it away."""
T = TypeVar("T")

_json = json.JSONEncoder(separators=(",", ":")).encode


def frame(data: Mapping[str, Any], event: str | None = None) -> bytes:
    r"""One event.

    >>> frame({"text": "één"})
    b'data: {"text":"\\u00e9\\u00e9n"}\n\n'
    """
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {_json(data)}\n\n".encode("ascii")


def large_frame(data: Mapping[str, Any], event: str | None = None) -> bytes:
    """The same, made so that other threads get their turn meanwhile."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {''.join(json_pieces(data, ensure_ascii=True))}\n\n".encode("ascii")


class BrokenStream(Exception):  # noqa: N818 - a signal to EventStream, not an error that is told to anybody
    """Raised by the frames of an answer that failed after it had begun: its last frame has said why."""


class ClientGone(Exception):  # noqa: N818 - nobody is left to be told
    """The client has closed the connection before its answer was ready."""


class EventStream(Response):
    """A response of frames. Closing the connection, from either side, ends the computation.

    `frames` is iterated once, and `on_close` called at the end, whatever it was. The next frame is asked for when the
    last one has been handed over, so a slow reader slows it down. After a `BrokenStream` the connection is closed
    without the final zero chunk, which tells the client that the answer is not whole; half a second later, or at once
    where the client, which knows by then, closes it.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        on_close: Callable[[], None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._frames = frames
        self._on_close = on_close
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no", **(headers or {})})

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """No length is known, and the type carries no charset: UTF-8 is the only one that events have."""
        pairs = {"content-type": self.media_type, **(headers or {})}
        self.raw_headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the frames end, the client goes or the server stops."""
        del scope
        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            await _cancelled(sending, gone)
            self._on_close()
            await self._frames.aclose()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async for each in self._frames:
                await send({"type": "http.response.body", "body": each, "more_body": True})
        except BrokenStream:
            await asyncio.sleep(_LINGER_SECONDS)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client closes the connection; ClientGone then."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        await _cancelled(working, gone)


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    """End tasks and wait until they have: what they hold is then free."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
