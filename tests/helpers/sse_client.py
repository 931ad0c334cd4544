"""Raw HTTP for tests of framing: what came over the wire, transfer chunk by transfer chunk."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Wire(NamedTuple):
    """An answer as bytes: its head, its transfer chunks, and whether the final zero chunk came."""

    status: int
    head: str
    chunks: list[bytes]
    is_whole: bool

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def events(self) -> list[Any]:
        """The JSON of the events, read with nothing but what the framing promises."""
        assert self.body.endswith(b"\n\n")
        frames = self.body[:-2].split(b"\n\n")
        assert all(frame.startswith(b"data: ") and b"\n" not in frame for frame in frames)
        return [json.loads(frame[6:]) for frame in frames if frame != b"data: [DONE]"]


def post_raw(address: str, path: str, body: dict[str, Any], timeout: float = 60) -> Wire:
    """The answer to a POST, read until the connection is closed."""
    with opened(address, path, body, timeout) as connection:
        got = b""
        while piece := connection.recv(1 << 16):
            got += piece
    return parse(got)


def opened(address: str, path: str, body: dict[str, Any], timeout: float = 60) -> socket.socket:
    """A connection on which a POST was sent."""
    parts = urlsplit(address)
    assert parts.hostname is not None
    connection = socket.create_connection((parts.hostname, parts.port or 80), timeout=timeout)
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    )
    connection.sendall(head.encode() + data)
    return connection


def parse(got: bytes) -> Wire:
    """Head and transfer chunks of an answer."""
    head, _, rest = got.partition(b"\r\n\r\n")
    text = head.decode("latin-1")
    status = int(text.split()[1])
    if "transfer-encoding: chunked" not in text.lower():
        return Wire(status, text, [rest], True)
    chunks: list[bytes] = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return Wire(status, text, chunks, True)
        chunks.append(rest[:length])
        rest = rest[length + 2 :]
    return Wire(status, text, chunks, False)
