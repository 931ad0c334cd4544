"""An answer that refuses a request, in the one body that every client reads."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeAlias

from ostro.server.notes import note

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application, in the words of its specification."""


def error_body(message: str, *, type: str, code: str, param: str | None = None) -> dict[str, Any]:
    """The body of an error: the same facts at the top, where Mistral's clients look, and below `error` for the others.

    >>> error_body("No.", type="invalid_request_error", code="invalid_value", param="n")["error"]["param"]
    'n'
    """
    facts = {"message": message, "type": type, "param": param, "code": code}
    return {"object": "error", **facts, "error": facts}


async def refuse(
    scope: Scope,
    send: Send,
    status: int,
    message: str,
    *,
    type: str,
    code: str,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send a whole response. What the client still sends of its body, the HTTP server reads and drops."""
    note(scope, error=code)
    body = json.dumps(error_body(message, type=type, code=code)).encode()
    pairs = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    pairs += [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def headers_of(scope: Scope, *names: str) -> list[str]:
    """The values of all headers with one of the names (lower case), in the order of the request."""
    wanted = {name.encode() for name in names}
    return [value.decode("latin-1") for name, value in scope["headers"] if name in wanted]
