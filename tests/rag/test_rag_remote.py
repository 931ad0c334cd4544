"""Embeddings of other servers: what is sent in each dialect, and what becomes of a busy or wrong one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from ostro.errors import RequestError, ServiceError
from ostro.rag import RemoteEmbedder


class _Server(ThreadingHTTPServer):
    """Vectors (length of the text, 1), in reverse order; `refusals` are statuses for the first requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.refusals: list[int] = []
        self.answer: Any = None


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        status = self.server.refusals.pop(0) if self.server.refusals else 200
        data = [{"index": i, "embedding": [float(len(text)), 1.0]} for i, text in enumerate(body["input"])]
        answer: Any = self.server.answer or {"data": data[::-1]}
        if status != 200:
            answer = {"error": {"message": "not now"}}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    made = _Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def embedder(server: _Server, path: str = "/v1", **options: Any) -> RemoteEmbedder:
    return RemoteEmbedder(f"http://127.0.0.1:{server.server_port}{path}", "e", first_pause=0.01, **options)


def test_vectors_in_order_and_in_several_requests(server: _Server) -> None:
    remote = embedder(server, api_key="secret")
    texts = ["x" * (1 + index % 7) for index in range(70)]
    made = remote.vectors(texts, "document")
    expected = np.array([[len(text), 1] for text in texts], np.float32)
    np.testing.assert_allclose(made, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6)
    assert [len(body["input"]) for _, _, body in server.seen] == [64, 6]
    path, headers, body = server.seen[0]
    assert (path, headers["authorization"]) == ("/v1/embeddings", "Bearer secret")
    assert set(body) == {"model", "input"}
    remote.close()


def test_azure(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN_KEY", "secret")
    remote = embedder(server, "", api="azure", api_key_env="OWN_KEY")
    remote.vectors(["a"], "query")
    path, headers, body = server.seen[0]
    assert path == "/embeddings?api-version=2024-05-01-preview"
    assert (headers["api-key"], body["input_type"]) == ("secret", "query")
    assert "secret" not in str(remote.choice)
    assert remote.choice.url == f"http://127.0.0.1:{server.server_port}"  # as given: a collection is opened by it
    remote.close()


def test_busy_is_asked_again_and_refusal_is_told(server: _Server) -> None:
    remote = embedder(server, retries=2)
    server.refusals = [429, 503]
    assert remote.vectors(["abc"], "document").shape == (1, 2)
    server.refusals = [503, 503, 503]
    with pytest.raises(ServiceError, match=r"status 503\): not now\. It was asked 3 times"):
        remote.vectors(["abc"], "document")
    server.refusals = [401]
    with pytest.raises(ServiceError, match=r"status 401\): not now"):
        remote.vectors(["abc"], "document")
    for wrong in ({"data": []}, {"x": 1}, {"data": [{"index": 0, "embedding": ["a"]}]}):
        server.answer = wrong
        with pytest.raises(ServiceError, match="answered"):
            remote.vectors(["abc"], "document")
    remote.close()


def test_what_cannot_be_asked() -> None:
    with pytest.raises(RequestError, match="is no address"):
        RemoteEmbedder("api.mistral.ai", "e")
    with pytest.raises(RequestError, match="NO_SUCH_KEY is not set"):
        RemoteEmbedder("https://x", "e", api_key_env="NO_SUCH_KEY")
    assert RemoteEmbedder("https://x", "e").count_tokens("Hello, 안녕 2024") == 2 + 1 + 4 + 2
