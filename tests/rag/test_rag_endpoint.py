"""Answers of a server elsewhere: streamed, whole, refused, broken off."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rag_helpers import animals

from ostro.errors import RequestError, ServiceError
from ostro.rag import Questioner, endpoint_writer

MESSAGES = [{"role": "user", "content": "Hello"}]


class Server(ThreadingHTTPServer):
    status, kind, lines = 200, "text/event-stream", ()
    requests: list[dict[str, Any]]
    keys: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append({"path": self.path, **body})
        self.server.keys.append(self.headers.get("authorization"))
        data = "\n\n".join([*self.server.lines, ""]).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", self.server.kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.requests, server.keys = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/v1"


def chunk(**delta: object) -> str:
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]})


def test_it_streams_and_cites(server: Server, tmp_path: Path) -> None:
    usage = 'data: {"choices": [], "usage": {}}'
    server.lines = (chunk(role="assistant", content=""), ": ping", chunk(content="Cats purr "), chunk(content="[1]."),
                    chunk(content=None), usage, "data: [DONE]")  # fmt: skip
    with animals(tmp_path) as collection:
        writer = endpoint_writer(f"{url(server)}/", "big", api_key="secret", fields={"temperature": 0})
        answer = Questioner(collection, writer, k=1).ask("Cats?").complete()
    assert answer.text == "Cats purr [1]."
    assert [passage.text for passage in answer.citations.values()] == ["Cats purr."]
    (request,) = server.requests
    assert (request["path"], request["model"], request["stream"]) == ("/v1/chat/completions", "big", True)
    assert request["temperature"] == 0
    assert "[1] Cats.txt\nCats purr." in request["messages"][0]["content"]
    assert server.keys == ["Bearer secret"]


def test_a_server_that_does_not_stream(server: Server) -> None:
    server.kind, server.lines = "application/json", (json.dumps({"choices": [{"message": {"content": "Hi"}}]}),)
    assert "".join(endpoint_writer(f"{url(server)}/chat/completions", "m")(MESSAGES)) == "Hi"
    assert server.keys == [None]


@pytest.mark.parametrize(
    ("status", "kind", "lines", "words"),
    [
        (401, "application/json", ('{"error": {"message": "Wrong key"}}',), "status 401): Wrong key."),
        (200, "text/event-stream", (chunk(content="a"),), "before it was whole"),
        (
            200,
            "text/event-stream",
            (chunk(content="a"), 'data: {"error": {"message": "Broken."}}'),
            "amid its answer: Broken.",
        ),
        (200, "text/event-stream", ("data: nonsense",), "no completion"),
        (200, "application/json", ("[]",), "no completion"),
    ],
)
def test_what_goes_wrong(server: Server, status: int, kind: str, lines: tuple[str, ...], words: str) -> None:
    server.status, server.kind, server.lines = status, kind, lines
    with pytest.raises(ServiceError) as caught:
        list(endpoint_writer(url(server), "m", api_key="secret")(MESSAGES))
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_address_is_checked_before_anything_is_asked() -> None:
    with pytest.raises(RequestError, match="no address"):
        endpoint_writer("localhost:8000", "m")
