"""A request to an ASGI application without a server between, and a small application that tells what it was given."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from ostro.server.protection import protection
from ostro.server.settings import ServerSettings


@dataclass
class Reply:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def echo_app(settings: ServerSettings) -> FastAPI:
    """Answers every path with what it received: `{"method", "path", "bytes"}`."""
    app = FastAPI(middleware=protection(settings), docs_url=None, redoc_url=None)

    @app.api_route("/{path:path}", methods=["GET", "POST", "DELETE"])
    async def echo(path: str, request: Request) -> JSONResponse:
        body = await request.body()
        return JSONResponse({"method": request.method, "path": path, "bytes": len(body)})

    return app


async def call(
    app: Any,
    method: str = "POST",
    path: str = "/v1/chat/completions",
    *,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    pieces: Iterable[bytes] = (b"{}",),
    leaves: bool = False,
) -> Reply:
    """Send one request, its body in pieces; with `leaves` the client is gone after them."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.append(("host", "127.0.0.1:8000"))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"api-version=1&secret=hidden",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs if value is not None],
        "client": ("127.0.0.1", 5555),
        "server": ("127.0.0.1", 8000),
    }
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    if not leaves:
        waiting.append({"type": "http.request", "body": b"", "more_body": False})
    reply = Reply()

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            reply.body += message.get("body", b"")

    await app(scope, receive, send)
    return reply
