"""The server at a real socket: early refusals reach the client, slow connections are closed, the end is in order."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import trustme
from asgi_calls import echo_app
from serving import serving

from ostro.errors import RequestError
from ostro.server import connections
from ostro.server.run import address_of, open_socket
from ostro.server.safe_fetch import FetchLimits, fetch
from ostro.server.settings import ServerSettings

KEY = "a-key-that-is-long-enough"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    settings = ServerSettings(port=0, max_body_bytes=1 << 20, api_keys=[KEY])
    with serving(echo_app(settings), settings) as address:
        yield address


def raw(address: str, *sent: bytes, timeout: float = 60) -> bytes:
    """What comes back for these bytes until the server closes the connection."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), timeout=timeout) as connection:
        for each in sent:
            connection.sendall(each)
        got = b""
        while piece := connection.recv(1 << 16):
            got += piece
        return got


def test_a_body_too_large_is_refused_in_words(address: str) -> None:
    """The client is still sending when the answer comes; the answer must reach it nevertheless."""
    with httpx.Client(base_url=address, headers={"api-key": KEY}) as client:
        stated = client.post("/v1/chat/completions", content=bytes(8 << 20))
        assert stated.status_code == 413
        chunked = client.post("/v1/chat/completions", content=iter([b" " * (1 << 16)] * 100))
        assert chunked.status_code == 413
        assert client.post("/v1/chat/completions", content=b"{}").status_code == 200
        wrong = client.post("/v1/chat/completions", content=bytes(8 << 20), headers={"api-key": "wrong"})
        assert wrong.status_code == 401
        assert "server" not in wrong.headers


def test_garbage_is_answered_with_400(address: str) -> None:
    assert b" 400 " in raw(address, b"\x16\x03\x01\x02\x00nonsense\r\n\r\n")
    assert b" 400 " in raw(address, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")


def test_a_head_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    assert raw(address) == b""
    assert raw(address, b"GET /health HTTP/1.1\r\nHost: localhost\r\n") == b""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in connection.recv(1 << 16)
        connection.sendall(b"GET /he")
        while connection.recv(1 << 16):
            pass


def test_connections_are_counted() -> None:
    settings = ServerSettings(port=0, max_concurrent=1)
    with serving(echo_app(settings), settings) as address:
        parts = urlsplit(address)
        held = [socket.create_connection((parts.hostname, parts.port), timeout=60) for _ in range(4)]
        with pytest.raises(httpx.TransportError):
            httpx.get(address + "/health", timeout=60)
        for each in held:
            each.close()
        assert _eventually(lambda: httpx.get(address + "/health", timeout=60).status_code == 200)


def _eventually(done: Any) -> bool:
    for _ in range(100):
        try:
            return bool(done())
        except httpx.TransportError:
            threading.Event().wait(0.05)
    return False


def test_running_answers_finish_after_the_signal() -> None:
    settings = ServerSettings(port=0)
    begun, release = threading.Event(), threading.Event()
    graces: list[float] = []
    answers: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
        begun.set()
        await asyncio.to_thread(release.wait, 60)
        await send({"type": "http.response.body", "body": b"ended"})

    async def stop(grace: float) -> None:
        graces.append(grace)
        release.set()

    with serving(app, settings, stop) as address:
        asking = threading.Thread(target=lambda: answers.append(httpx.get(address, timeout=60).content))
        asking.start()
        assert begun.wait(60)
    asking.join(60)
    assert answers == [b"begun ended"]
    assert graces == [settings.grace_seconds]


def test_a_fault_of_the_application_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    settings = ServerSettings(port=0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            raise ZeroDivisionError("the reason")

    from ostro.server.run import _hear_uvicorn

    _hear_uvicorn()
    with caplog.at_level(logging.WARNING, logger="ostro"), serving(app, settings) as address:
        assert httpx.get(address, timeout=60).status_code == 500
    assert "ZeroDivisionError: the reason" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_port_in_use_is_explained() -> None:
    sock = open_socket(ServerSettings(port=0))
    with sock:
        port = sock.getsockname()[1]
        assert address_of(sock, ServerSettings(port=0)) == f"http://127.0.0.1:{port}"
        with pytest.raises(RequestError, match=f"port: {port} is already in use on 127.0.0.1") as caught:
            open_socket(ServerSettings(port=port))
        assert caught.value.param == "port"


@pytest.mark.parametrize(
    ("host", "problem"), [("203.0.113.7", "is no address of this machine"), ("no-such-host.invalid", "is not known")]
)
def test_a_host_that_is_not_ours_is_explained(host: str, problem: str) -> None:
    with pytest.raises(RequestError, match=problem):
        open_socket(ServerSettings(host=host, port=0, api_keys=[KEY]))


def test_tls_and_the_pinned_fetch_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fetch goes to an address but checks the certificate of the name."""
    authority = trustme.CA()
    issued = authority.issue_cert("pictures.example")
    cert, key, root = (tmp_path / name for name in ("cert.pem", "key.pem", "root.pem"))
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(root)
    settings = ServerSettings(port=0, tls_cert=cert, tls_key=key)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            host = dict(scope["headers"])[b"host"]
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"image/png")]})
            await send({"type": "http.response.body", "body": host})

    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    with serving(app, settings) as address:
        assert address.startswith("https://127.0.0.1:")
        port = urlsplit(address).port
        assert port is not None
        context = ssl.create_default_context(cafile=root)
        monkeypatch.setattr(
            "ostro.server.safe_fetch._client", lambda: httpx.AsyncClient(verify=context, trust_env=False)
        )
        limits = FetchLimits(ports=[port])

        def get(host: str) -> bytes:
            return asyncio.run(
                fetch(f"https://{host}:{port}/", limits, resolve=resolve, is_allowed=lambda _: True)
            ).data

        assert get("pictures.example") == f"pictures.example:{port}".encode()
        with pytest.raises(RequestError, match="connection failed"):
            get("other.example")
