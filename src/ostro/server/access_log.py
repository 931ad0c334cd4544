"""One line of log a request: what was asked for and what became of it, without keys, prompts or answers."""

from __future__ import annotations

import json
import logging
import secrets
import time
from datetime import UTC, datetime
from typing import Any

from ostro.server.notes import noted
from ostro.server.refusal import App, Message, Receive, Scope, Send

logger = logging.getLogger("ostro.access")
_LONGEST = 200


class AccessLog:
    """Gives each request an id, which every response carries as `x-request-id`, and logs a line when it has ended.

    `format` is "text" (name=value), "json", or "off". The query string is never logged, nor is any header.
    """

    def __init__(self, app: App, format: str) -> None:
        self._app = app
        self._format = format

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and watch what is sent back."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        watched = _Watched(send)
        scope.setdefault("state", {})["request_id"] = watched.request_id
        try:
            return await self._app(scope, receive, watched.send)
        finally:
            if self._format != "off":
                facts = watched.facts(scope)
                logger.info("%s", json.dumps(facts) if self._format == "json" else _as_text(facts))


class _Watched:
    """What goes out for one request."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._began = time.monotonic()
        self._first: float | None = None
        self._status: int | None = None
        self._num_bytes = 0
        self._is_complete = False
        self.request_id = f"req_{secrets.token_hex(12)}"

    async def send(self, message: Message) -> None:
        """Pass one message on, with the request's id on the first."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            added = [(b"x-request-id", self.request_id.encode()), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await self._send(message)
        if message["type"] == "http.response.body":
            self._num_bytes += len(message.get("body", b""))
            self._is_complete = not message.get("more_body", False)
            if self._first is None and self._num_bytes:
                self._first = time.monotonic()

    def facts(self, scope: Scope) -> dict[str, Any]:
        """The line, as names and values."""
        client = scope.get("client")
        made: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "id": self.request_id,
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": scope["path"],
            "status": self._status,
            "ms": self._milliseconds(time.monotonic()),
            "first_byte_ms": None if self._first is None else self._milliseconds(self._first),
            "bytes": self._num_bytes,
            "incomplete": None if self._is_complete else True,
        }
        made |= noted(scope)
        return {
            name: value[:_LONGEST] if isinstance(value, str) else value
            for name, value in made.items()
            if value is not None
        }

    def _milliseconds(self, moment: float) -> float:
        return round((moment - self._began) * 1000, 1)


def _as_text(facts: dict[str, Any]) -> str:
    return " ".join(f"{name}={_quoted(value)}" for name, value in facts.items())


def _quoted(value: object) -> str:
    """A value that no client can make into two, or into what steers a terminal."""
    text = value if isinstance(value, str) else json.dumps(value)
    is_plain = text.isascii() and text.isprintable() and text and not set(text) & set(' "=\\')
    return text if is_plain else json.dumps(text).replace("\x7f", "\\u007f")
