"""Work whose size a client chooses, kept from the event loop: others, `/health` among them, are answered meanwhile.

A thread alone does not do it. A call into C keeps the interpreter for itself until it returns, and `json.dumps` of a
large answer takes a second; so what is large is also done in pieces.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from starlette.responses import Response

from ostro.server.refusal import Receive, Scope, Send

P = ParamSpec("P")
T = TypeVar("T")

SMALL = 1 << 14
"""Bytes, or as much work as so many bytes are: about a millisecond, less than a thread is worth."""
LARGE = 1 << 20
"""More takes seconds, and few models read so much: it has two threads of its own, so that the others stay free."""

_large_threads = ThreadPoolExecutor(2, thread_name_prefix="ostro-large")

_DEPTH = 8
_NUMBERS_AT_ONCE = 1024
_PIECES_AT_ONCE = 1024
_BYTES_AT_ONCE = 1 << 18
_ENCODERS = {
    is_ascii: json.JSONEncoder(ensure_ascii=is_ascii, allow_nan=False, separators=(",", ":"))
    for is_ascii in (False, True)
}


async def apart(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, computed in a thread where `size` is more than `SMALL`."""
    if size <= SMALL:
        return function(*args, **kwargs)
    return await in_thread(size, function, *args, **kwargs)


async def in_thread(size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, computed in a thread: one of those for large work where `size` is more than `LARGE`."""
    threads = _large_threads if size > LARGE else None
    return await asyncio.get_running_loop().run_in_executor(threads, partial(function, *args, **kwargs))


async def large_answer(
    build: Callable[[], Mapping[str, Any]],
    headers: Mapping[str, str] | None = None,
    *,
    size: int = 0,
    is_shared: bool = False,
) -> Response:
    """A JSON answer of any size; its body is built and written in a thread, and lost unless it `is_shared`.

    `size` is that of the request, where building is work on it.
    """
    content = await in_thread(size, lambda: _joined(json_pieces(build(), consumes=not is_shared)))
    return _InPieces(content, media_type="application/json", headers=dict(headers or {}))


def _joined(pieces: Iterator[str]) -> bytes:
    """All pieces, some at a time."""
    whole = bytearray()
    while some := "".join(islice(pieces, _PIECES_AT_ONCE)):
        whole += some.encode()
    return bytes(whole)


class _InPieces(Response):
    """A response that is handed over as the client takes it: to pass on much at once takes long, too."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for start in range(0, len(self.body), _BYTES_AT_ONCE):
            piece = bytes(self.body[start : start + _BYTES_AT_ONCE])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def json_pieces(
    value: Any, *, ensure_ascii: bool = False, consumes: bool = False, depth: int = _DEPTH
) -> Iterator[str]:
    """JSON without spaces, in pieces of which each is soon made; other threads get their turn between them.

    With `consumes` what was written is taken out of its list: to free a large tree at once takes 0.1 s, too.

    >>> "".join(json_pieces({"a": [1, 2], "b": [{"c": None}]}))
    '{"a":[1,2],"b":[{"c":null}]}'
    """
    if depth and isinstance(value, Mapping) and any(isinstance(each, Mapping | list) for each in value.values()):
        mark = "{"
        for name, each in value.items():
            yield f"{mark}{_dumped(name, ensure_ascii)}:"
            yield from json_pieces(each, ensure_ascii=ensure_ascii, consumes=consumes, depth=depth - 1)
            mark = ","
        yield "}"
    elif depth and isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        mark = "["
        for place, each in enumerate(value):
            yield mark
            yield from json_pieces(each, ensure_ascii=ensure_ascii, consumes=consumes, depth=depth - 1)
            mark = ","
            if consumes:
                value[place] = None
        yield "]"
    elif isinstance(value, list) and len(value) > _NUMBERS_AT_ONCE:
        for start in range(0, len(value), _NUMBERS_AT_ONCE):
            part = _dumped(value[start : start + _NUMBERS_AT_ONCE], ensure_ascii)
            yield ("," if start else "[") + part[1:-1]
        yield "]"
    else:
        yield _dumped(value, ensure_ascii)


def _dumped(value: Any, ensure_ascii: bool) -> str:
    return _ENCODERS[ensure_ascii].encode(value)
