"""How much at once, and how much in one request, before the application sees any of it."""

from __future__ import annotations

import asyncio

from ostro.errors import RequestError
from ostro.server.auth import is_open
from ostro.server.json_guard import JsonGuard
from ostro.server.refusal import App, Message, Receive, Scope, Send, headers_of, refuse
from ostro.server.settings import ServerSettings

_PIECE = 1 << 13  # of brackets alone takes 10 ms to look at
_BODIES_AT_ONCE = 8
RETRY_AFTER = 1
"""Seconds that a client is told to wait: short, since some clients obey any number."""


class Concurrency:
    """Works on at most `max_concurrent` requests at once; the rest gets 429 and may come again.

    What is open to everybody is not counted, so that `/health` answers however busy the server is.
    """

    def __init__(self, app: App, max_concurrent: int) -> None:
        self._app = app
        self._most = max_concurrent
        self._num_running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or is_open(scope):
            return await self._app(scope, receive, send)
        if self._num_running >= self._most:
            return await _refuse_for_now(scope, send, f"The server works on {self._most} requests already.")
        self._num_running += 1
        try:
            return await self._app(scope, receive, send)
        finally:
            self._num_running -= 1


class Bodies:
    """Reads the body before the application does: its size is bounded while it arrives, and so is what it nests.

    The bodies of all requests together are bounded too, at eight of the largest that is allowed.
    """

    def __init__(self, app: App, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings
        self._num_held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its whole body, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        body = _Body(receive, self._settings)
        try:
            async with asyncio.timeout(self._settings.body_seconds or None):
                await self._read(body, scope)
        except _TooLarge:
            most = self._settings.max_body_bytes
            return await _refuse(
                scope, send, 413, f"The body is larger than the {most} bytes allowed.", "request_too_large"
            )
        except _TooMany:
            return await _refuse_for_now(scope, send, "The bodies of all requests together take too much memory.")
        except TimeoutError:
            seconds = self._settings.body_seconds
            return await _refuse(
                scope, send, 408, f"The body did not arrive within {seconds:g} seconds.", "request_timeout"
            )
        except RequestError as error:
            return await _refuse(scope, send, 400, str(error), "invalid_body")
        except _Gone:
            return None
        finally:
            self._num_held -= len(body.data)
        return await self._pass_on(body, scope, receive, send)

    async def _read(self, body: _Body, scope: Scope) -> None:
        stated = headers_of(scope, "content-length")
        if stated and stated[0].isdecimal() and int(stated[0][:20]) > self._settings.max_body_bytes:
            raise _TooLarge
        while not body.is_complete:
            before = len(body.data)
            try:
                await body.read_more()
            finally:
                self._num_held += len(body.data) - before
            if self._num_held > _BODIES_AT_ONCE * self._settings.max_body_bytes:
                raise _TooMany

    async def _pass_on(self, body: _Body, scope: Scope, receive: Receive, send: Send) -> None:
        is_new = True

        async def replay() -> Message:
            nonlocal is_new
            if is_new:
                is_new = False
                return {"type": "http.request", "body": bytes(body.data), "more_body": False}
            return await receive()

        size = len(body.data)
        self._num_held += size
        try:
            await self._app(scope, replay, send)
        finally:
            self._num_held -= size


class _Body:
    """A body on its way in."""

    def __init__(self, receive: Receive, settings: ServerSettings) -> None:
        self._receive = receive
        self._most = settings.max_body_bytes
        self._guard = JsonGuard(max_depth=settings.max_json_depth, max_values=settings.max_json_values)
        self.data = bytearray()
        self.is_complete = False

    async def read_more(self) -> None:
        """Take the next message."""
        message = await self._receive()
        if message["type"] != "http.request":
            raise _Gone
        piece = message.get("body", b"")
        if len(self.data) + len(piece) > self._most:
            raise _TooLarge
        for start in range(0, len(piece), _PIECE):
            if start:
                await asyncio.sleep(0)  # others go on while a large piece is looked at
            self._guard.feed(piece[start : start + _PIECE])
        self.data += piece
        if not message.get("more_body", False):
            self._guard.finish()
            self.is_complete = True


class _TooLarge(Exception):  # noqa: N818 - not an error of ours to anybody outside
    pass


class _TooMany(Exception):  # noqa: N818
    pass


class _Gone(Exception):  # noqa: N818
    pass


async def _refuse(scope: Scope, send: Send, status: int, message: str, code: str) -> None:
    await refuse(scope, send, status, message, type="invalid_request_error", code=code)


async def _refuse_for_now(scope: Scope, send: Send, message: str) -> None:
    await refuse(
        scope,
        send,
        429,
        f"{message} Try again in a moment.",
        type="rate_limit_error",
        code="overloaded",
        headers={"retry-after": str(RETRY_AFTER)},
    )
