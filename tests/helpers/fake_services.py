"""Brave Search, Wolfram|Alpha and an OpenAI endpoint on loopback, answering in the shapes that the real ones have."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

BRAVE: dict[str, Any] = {
    "type": "search",
    "query": {"original": "Stockholm weather", "more_results_available": True, "country": "us"},
    "mixed": {"type": "mixed", "main": [{"type": "web", "index": 0, "all": False}]},
    "web": {
        "type": "search",
        "results": [
            {
                "title": "Stockholm, <strong>weather</strong> &amp; forecast",
                "url": "https://weather.example.org/stockholm",
                "is_source_local": False,
                "description": "Today&#x27;s <strong>weather</strong> in Stockholm: rain.",
                "page_age": "2026-11-20T08:00:00",
                "profile": {"name": "Weather", "long_name": "weather.example.org"},
                "language": "en",
                "meta_url": {"scheme": "https", "hostname": "weather.example.org"},
                "extra_snippets": ["Wind from the west."],
            },
            {"title": "Another", "url": "https://b.example.org", "description": "B"},
            {"title": "A third", "url": "https://c.example.org"},
        ],
        "family_friendly": True,
    },
}
BRAVE_REFUSAL = {
    "type": "ErrorResponse",
    "error": {
        "id": "11111111-2222-3333-4444-555555555555",
        "status": 422,
        "code": "SUBSCRIPTION_TOKEN_INVALID",
        "detail": "The provided subscription token is invalid.",
        "meta": {"component": "authentication"},
    },
    "time": 1763740000,
}
WOLFRAM: dict[str, Any] = {
    "queryresult": {
        "success": True, "error": False, "numpods": 3, "datatypes": "Solve", "timing": 0.9, "version": "2.6",
        "inputstring": "solve x^2 = 4",
        "pods": [
            {
                "title": "Input interpretation", "scanner": "Identity", "id": "Input", "position": 100, "error": False,
                "numsubpods": 1, "subpods": [{"title": "", "plaintext": "solve x^2 = 4"}],
            },
            {
                "title": "Results", "scanner": "Solve", "id": "Result", "position": 200, "primary": True,
                "subpods": [{"title": "", "plaintext": "x = -2"}, {"title": "", "plaintext": "x = 2"}],
            },
            {"title": "Plot", "id": "Plot", "subpods": [{"title": "", "plaintext": ""}]},
        ],
    }
}  # fmt: skip
WOLFRAM_UNKNOWN = {
    "queryresult": {
        "success": False, "error": False, "numpods": 0,
        "didyoumeans": {"score": "0.5", "level": "medium", "val": "weather"},
    }
}  # fmt: skip
WOLFRAM_REFUSAL = {"queryresult": {"success": False, "error": {"code": "1", "msg": "Invalid appid"}}}


@dataclass
class Fake:
    """A server that answers every request with `reply(fake, request)`: status, content type and body."""

    reply: Callable[[Fake, Asked], tuple[int, str, bytes]]
    asked: list[Asked] = field(default_factory=list)
    url: str = ""


@dataclass
class Asked:
    """A request as it came."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@contextmanager
def serving(reply: Callable[[Fake, Asked], tuple[int, str, bytes]]) -> Iterator[Fake]:
    """The server at `fake.url`, until the block ends."""
    fake = Fake(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.asked.append(Asked(parts.path, query, headers, body))
            status, kind, data = fake.reply(fake, fake.asked[-1])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            if status in (301, 302):
                self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def always(status: int, value: Any) -> Callable[[Fake, Asked], tuple[int, str, bytes]]:
    """The same JSON for every request."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return lambda _fake, _asked: (status, "application/json", data)


def stream(*chunks: dict[str, Any] | str) -> tuple[int, str, bytes]:
    """Chunks as server-sent events."""
    lines = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    return 200, "text/event-stream", "".join(f"data: {line}\n\n" for line in lines).encode()
