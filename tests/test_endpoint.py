"""The connection that every client of a server elsewhere uses: what is refused, asked again, read, and kept secret."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostro.endpoint import Connection, RefusedError, Server, message_of, retry_after, value_of
from ostro.errors import RequestError, ServiceError

KEY = "the-secret-key"
NOWHERE = "http://127.0.0.1:9/v1"
BUSY, GOOD = {"error": {"message": "full"}}, {"answer": 1}
Reply = tuple[int, dict[str, str], bytes]


class Remote(ThreadingHTTPServer):
    """Gives out `replies` in turn, and then the last for ever; "hang up" is a connection that ends without a word."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply | str] = [reply(200, GOOD)]
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Remote

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        replies = self.server.replies
        said = replies.pop(0) if len(replies) > 1 else replies[0]
        self.server.gate.wait(30)
        if isinstance(said, str):
            self.close_connection = True
            return
        status, headers, data = said
        self.send_response(status)
        for name, value in {"content-length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = int(headers.get("content-length", len(data))) > len(data)

    def log_message(self, *_: object) -> None:
        pass


def reply(status: int, value: Any, **headers: str) -> Reply:
    data = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
    return status, {name.replace("_", "-"): text for name, text in headers.items()}, data


def stream(*data: Any, **headers: str) -> Reply:
    lines = [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in data]
    body = "".join(f"data: {line}\n\n" for line in lines).encode()
    return reply(200, body, content_type="text/event-stream", **headers)


def chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish}]}


@pytest.fixture
def remote() -> Iterator[Remote]:
    made = Remote()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.gate.set()
    made.shutdown()
    thread.join()
    made.server_close()


def connected(remote: Remote, key: str | None = KEY, **options: Any) -> Connection:
    return Connection(Server(remote.url, key), **{"first_pause": 0.001, "timeout": 30.0, **options})


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://host/v1", "", "http://", "http:///v1", "http://[::1/v1", "http://a..b/v1",
     f"http://{'a' * 64}.example/v1", "http://host:port/v1", "http://\x00/"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(RequestError, match="is no address such as") as refused:
        Server(url, param="where")
    assert refused.value.param == "where"


@pytest.mark.parametrize("key", ["the-key\nb", "열쇠", "the-key ", " the-key", "the\tkey"])
def test_keys_that_cannot_be_sent_are_not_told(key: str) -> None:
    with pytest.raises(RequestError, match="cannot be sent") as refused:
        Server(NOWHERE, key)
    assert (refused.value.param, key in str(refused.value)) == ("api_key", False)


@pytest.mark.parametrize("end", ["", "/", "/chat/completions", "/completions/", "/embeddings"])
def test_a_route_behind_the_address_is_cut(end: str) -> None:
    server = Server(f"https://host/v1{end}?api-version=1")
    assert server.base_url == server.address == "https://host/v1"
    assert server.url_of("/embeddings") == "https://host/v1/embeddings?api-version=1"
    assert server.url_of("/tokenize", is_beside=True) == "https://host/tokenize?api-version=1"
    assert Server(f"http://[::1]:8000{end}").url_of("/x") == "http://[::1]:8000/x"


def test_users_and_queries_are_not_told() -> None:
    server = Server("http://user:hidden-word@127.0.0.1:9/v1?key=hidden-word")
    assert server.url_of("/x") == "http://user:hidden-word@127.0.0.1:9/v1/x?key=hidden-word"
    with Connection(server) as connection, pytest.raises(ServiceError) as told:
        connection.post("/x", {})
    with pytest.raises(RequestError) as refused:
        Server("http://user:hidden-/word@host/v1?key=hidden-word")
    assert "hidden-" not in f"{server.name} {told.value} {refused.value}"


def test_what_is_sent(remote: Remote) -> None:
    server = Server(f"{remote.url}?api-version=1", KEY, key_header="api-key")
    with Connection(server) as connection:
        assert connection.post("/embeddings", {"input": "é"}) == GOOD
    path, headers, body = remote.asked[0]
    assert (path, body) == ("/v1/embeddings?api-version=1", {"input": "é"})
    assert (headers["authorization"], headers["api-key"]) == (f"Bearer {KEY}", KEY)
    with connected(remote, None) as connection:
        connection.post("/tokenize", {}, is_beside=True)
    path, headers, _ = remote.asked[1]
    assert (path, "authorization" in headers) == ("/tokenize", False)


def test_no_redirect_is_followed(remote: Remote) -> None:
    remote.replies = [reply(307, b"", location=f"{remote.url}/other"), reply(200, GOOD)]
    with connected(remote) as connection, pytest.raises(RefusedError, match="status 307") as refused:
        connection.post("/x", {})
    assert (refused.value.status, refused.value.body, len(remote.asked)) == (307, None, 1)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(remote: Remote, status: int, caplog: pytest.LogCaptureFixture) -> None:
    remote.replies = [reply(status, BUSY), "hang up", reply(status, b"<html>"), reply(200, GOOD)]
    with connected(remote, retries=3) as connection:
        assert connection.post("/x", {}) == GOOD
    (warning,) = caplog.messages  # or a user would wait for minutes without knowing why
    assert f"(status {status}): full. It is asked again, up to 3 times." in warning


def test_a_server_that_stays_busy(remote: Remote) -> None:
    remote.replies = [reply(503, BUSY)]
    said = rf"^The endpoint {remote.url} refuses the request \(status 503\): full\. "
    with connected(remote, retries=2) as connection:
        with pytest.raises(ServiceError, match=f"{said}It was asked 3 times; try again later.$") as busy:
            connection.post("/x", {})
        assert not isinstance(busy.value, RefusedError)
    with connected(remote) as connection, pytest.raises(ServiceError, match=f"{said}Try again later.$"):
        connection.post("/x", {})
    assert len(remote.asked) == 4


def test_the_pause_doubles_and_is_as_long_as_the_server_says(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[dict[str, str]] = [{}, {"retry_after": "0.1"}, {"retry_after": "9"}, {"retry_after": "900"}]
    remote.replies = [*(reply(429, BUSY, **headers) for headers in said), reply(200, GOOD)]
    pauses: list[float] = []
    with connected(remote, retries=5, first_pause=1.0) as connection:
        monkeypatch.setattr(connection._closed, "wait", pauses.append)
        assert connection.post("/x", {}) == GOOD
    assert pauses[0] == pytest.approx(1, rel=0.2)
    assert pauses[1] == pytest.approx(2, rel=0.2)
    assert pauses[2:] == [9, 60]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 501])
def test_a_refusal_is_told_at_once(remote: Remote, status: int) -> None:
    remote.replies = [reply(status, {"error": {"message": f"Wrong key {KEY}", "code": "x"}})]
    with connected(remote, retries=3) as connection, pytest.raises(RefusedError) as refused:
        connection.post("/x", {})
    assert str(refused.value).endswith(f"refuses the request (status {status}): Wrong key (hidden).")
    assert (refused.value.status, refused.value.body["error"]["code"]) == (status, "x")
    assert len(remote.asked) == 1


def test_what_was_never_there_is_not_waited_for() -> None:
    server = Server(NOWHERE, name="The embedder")
    with (
        Connection(server, retries=5, first_pause=3600) as connection,
        pytest.raises(ServiceError, match=rf"^The embedder {NOWHERE} cannot be reached: .*\. Check the address\.$"),
    ):
        connection.post("/x", {})


def test_what_was_there_is_waited_for(remote: Remote) -> None:
    with connected(remote, retries=2) as connection:
        assert connection.post("/x", {}) == GOOD
        remote.replies = ["hang up"]
        with pytest.raises(ServiceError, match=r"cannot be reached: .*[^.]\. It was asked 3 times"):
            connection.post("/x", {})


def test_silence_is_not_waited_for_for_ever(remote: Remote) -> None:
    remote.gate.clear()
    with connected(remote, timeout=0.05) as connection, pytest.raises(ServiceError, match=r"silent for 0\.05 seconds"):
        connection.post("/x", {})


def test_answers_that_are_no_json(remote: Remote) -> None:
    remote.replies = [reply(200, b"<html>"), reply(200, b"[" * 100_000), reply(200, b"\xff")]
    with connected(remote) as connection:
        assert [connection.post("/x", {}) for _ in range(3)] == [None] * 3


def test_a_stream(remote: Remote) -> None:
    """U+2028 and its like end lines for Python, and are plain characters for JSON."""
    remote.replies = [
        reply(503, BUSY),
        stream(chunk("a\u2028\x85b"), {"choices": [], "usage": {}}, "[DONE]", "[["),
        reply(200, b': ping\r\nevent: x\r\ndata:\r\n\r\ndata:{"choices":[{"finish_reason":"stop"}]}\r\n\r\n'),
    ]
    with connected(remote, retries=1) as connection:
        first, usage = connection.events("/chat/completions", {"stream": True})
        assert first["choices"][0]["delta"]["content"] == "a\u2028\x85b"
        assert usage == {"choices": [], "usage": {}}
        (last,) = connection.events("/chat/completions", {})  # without [DONE], and whole all the same
        assert last["choices"] == [{"finish_reason": "stop"}]
    assert remote.asked[0][2] == {"stream": True}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([chunk("b")], "ended its answer before it was whole"),
        ([], "ended its answer before it was whole"),
        ([chunk("b"), {"error": {"message": f"no memory for {KEY}"}}], r"failed amid its answer: no memory for \(hidd"),
        ([{"error": "broken"}], "failed amid its answer: broken."),
        *(([odd], "no completion") for odd in ("[[", "3", {"choices": 3}, {"choices": ["x"]},
                                                {"choices": [{"delta": "x"}]})),
    ],
)  # fmt: skip
def test_streams_that_go_wrong(remote: Remote, data: list[Any], words: str) -> None:
    remote.replies = [stream(chunk("a"), *data)]
    got: list[Any] = []
    with connected(remote, retries=3) as connection, pytest.raises(ServiceError, match=words):
        got.extend(connection.events("/x", {}))
    assert got[0] == chunk("a")
    assert len(remote.asked) == 1


def test_a_stream_that_is_cut_is_not_asked_again(remote: Remote) -> None:
    remote.replies = [stream(chunk("a"), content_length="900")]
    with connected(remote, retries=3) as connection:
        chunks = connection.events("/x", {})
        assert next(chunks) == chunk("a")
        with pytest.raises(ServiceError, match=r"broke its answer off: .*[^.]\.$"):
            next(chunks)
    assert len(remote.asked) == 1


def test_a_server_that_does_not_stream(remote: Remote) -> None:
    whole = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    remote.replies = [reply(200, whole, content_type="application/json")]
    with connected(remote) as connection:
        (answer,) = connection.events("/x", {}, may_be_whole=True)
        assert answer["choices"][0]["delta"] == {"content": "Hi"}
        with pytest.raises(ServiceError, match="before it was whole"):
            list(connection.events("/x", {}))
        for odd in ([], {}, {"choices": [3]}, {"choices": [{}]}, {"choices": [{"message": "x"}]}, b"<html>"):
            remote.replies = [reply(200, odd)]
            with pytest.raises(ServiceError, match="no completion"):
                list(connection.events("/x", {}, may_be_whole=True))
        remote.replies = [reply(200, {"error": {"message": "broken"}})]
        with pytest.raises(ServiceError, match="amid its answer: broken"):
            list(connection.events("/x", {}, may_be_whole=True))


def test_a_stream_that_is_left_frees_its_connection(remote: Remote) -> None:
    remote.replies = [stream(chunk("a"), chunk("b"), "[DONE]")]
    connection = connected(remote)
    chunks = connection.events("/x", {})
    next(chunks)
    connection.close()
    assert not connection._client.is_closed
    chunks.close()  # type: ignore[attr-defined]
    assert connection._client.is_closed


def test_closed_amid_a_request_it_answers_and_asks_no_more(remote: Remote) -> None:
    remote.gate.clear()
    connection, answers = connected(remote), []
    thread = threading.Thread(target=lambda: answers.append(connection.post("/x", {})))
    thread.start()
    while not remote.asked:
        time.sleep(0.001)
    connection.close()
    assert not connection._client.is_closed
    remote.gate.set()
    thread.join()
    assert (answers, connection._client.is_closed) == ([GOOD], True)
    with pytest.raises(ServiceError, match="is asked no more"):
        connection.post("/x", {})


def test_closed_amid_a_pause_it_gives_up(remote: Remote, caplog: pytest.LogCaptureFixture) -> None:
    remote.replies = [reply(503, BUSY)]
    connection = connected(remote, retries=3, first_pause=3600)
    errors: list[ServiceError] = []

    def ask() -> None:
        with pytest.raises(ServiceError) as given_up:
            connection.post("/x", {})
        errors.append(given_up.value)

    thread = threading.Thread(target=ask)
    with caplog.at_level(logging.WARNING):
        thread.start()
        while not caplog.messages:
            time.sleep(0.001)
        connection.close()
        thread.join()
    assert "full. Try again later." in str(errors[0])
    assert connection._client.is_closed


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "OpenAI's and ours."}}, "OpenAI's and ours."),
        ({"error": {"code": "x", "detail": "a search's"}}, "a search's."),
        ({"object": "error", "message": "Mistral's", "code": 3}, "Mistral's."),
        ({"message": {"detail": [{"msg": "odd"}]}}, "{'detail': [{'msg': 'odd'}]}."),
        ({"detail": [{"msg": "FastAPI's"}]}, "[{'msg': 'FastAPI's'}]."),
        ({"error": "Ollama's"}, "Ollama's."),
        ("a text", "a text."),
        *((nothing, "it gives no reason.") for nothing in (None, {}, [], "", {"error": {}}, {"error": {"message": 0}})),
    ],
)
def test_messages_of_errors(body: Any, said: str) -> None:
    assert message_of(body).replace('"', "'") == said


BODIES = st.recursive(
    st.none() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["error", "message", "detail"]), inner),
    max_leaves=8,
)


@given(BODIES)
def test_every_body_has_a_message(body: Any) -> None:
    assert message_of(body).endswith(".")


@given(st.text() | st.binary())
def test_everything_has_a_value_and_a_pause(content: str | bytes) -> None:
    value_of(content)
    assert retry_after(content if isinstance(content, str) else None) >= 0
