"""Pictures are fetched from public addresses only, whatever a name resolves to and wherever a server redirects."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from ostro.errors import RequestError
from ostro.server import safe_fetch
from ostro.server.safe_fetch import Fetched, FetchLimits, fetch, is_public

PRIVATE = [
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1",
    "ff02::1", "2001:db8::1", "2002:7f00:1::", "2001:0:1::1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1",
]  # fmt: skip
PICTURE = b"\x89PNG" + bytes(1000)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


class Site(BaseHTTPRequestHandler):
    asked: ClassVar[list[tuple[str, str]]] = []

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.asked.append((self.headers["host"], self.path))
        getattr(self, f"do_{self.path[1:].partition('?')[0].replace('-', '_')}")()

    def reply(self, data: bytes = PICTURE, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"content_type": "image/png"} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            pass

    def do_picture(self) -> None:
        self.reply(content_type="Image/PNG; charset=binary")

    def do_page(self) -> None:
        self.reply(content_type="text/html")

    def do_missing(self) -> None:
        self.reply(status=404)

    def do_packed(self) -> None:
        self.reply(gzip.compress(bytes(1 << 20)), content_encoding="gzip")

    def do_endless(self) -> None:
        self.reply(bytes(1 << 20))

    def do_slow(self) -> None:
        self.reply(b"", content_length="100")
        threading.Event().wait(0.5)

    def do_once(self) -> None:
        self.reply(status=302, location="/picture")

    def do_circle(self) -> None:
        self.reply(status=301, location="/circle")

    def do_inward(self) -> None:
        self.reply(status=307, location=f"http://inside.example:{self.server.server_address[1]}/picture")

    def do_to_file(self) -> None:
        self.reply(status=302, location="file:///etc/passwd")

    def do_nowhere(self) -> None:
        self.reply(status=302)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


class Names:
    """A resolver under our control: `public.example` is the test's server, whose address counts as public here."""

    def __init__(self, **others: Sequence[str]) -> None:
        self.table = {"public.example": ["127.0.0.1"], "inside.example": ["10.0.0.1"], **others}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.table[host]


def get(path: str, port: int, names: Names | None = None, host: str = "public.example", **limits: Any) -> Fetched:
    limits = {"ports": [port]} | limits
    return asyncio.run(
        fetch(
            f"http://{host}:{port}{path}",
            FetchLimits(**limits),
            resolve=names or Names(),
            is_allowed=lambda address: is_public(address) or str(address) == "127.0.0.1",
        )
    )


def test_a_picture(port: int) -> None:
    Site.asked.clear()
    got = get("/picture", port)
    assert got == Fetched(PICTURE, "image/png", f"http://public.example:{port}/picture")
    assert Site.asked == [(f"public.example:{port}", "/picture")]
    assert get("/once", port).url.endswith("/picture")


def test_a_name_is_resolved_once(port: int) -> None:
    class Rebinding(Names):
        async def __call__(self, host: str, port: int) -> Sequence[str]:
            await super().__call__(host, port)
            return ["127.0.0.1"] if len(self.asked) == 1 else ["10.0.0.1"]

    names = Rebinding()
    assert get("/picture", port, names).data == PICTURE
    assert names.asked == ["public.example"]
    with pytest.raises(RequestError, match="public address"):
        get("/once", port, Rebinding())  # the redirect is resolved anew, and now points inward


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/inward", "public address"),
        ("/circle", "redirects more than 3 times"),
        ("/nowhere", "redirects more than|the answer was|connection failed"),
        ("/to-file", "only http and https"),
        ("/page", "type 'text/html'"),
        ("/missing", "the answer was 404"),
        ("/packed", "compressed"),
        ("/endless", "larger than"),
    ],
)
def test_what_is_refused(port: int, path: str, problem: str) -> None:
    with pytest.raises(RequestError, match=problem) as caught:
        get(path, port, max_bytes=100_000)
    assert caught.value.param == "image_url"
    assert "data: URL" in str(caught.value)


def test_time_is_bounded(port: int) -> None:
    with pytest.raises(RequestError, match=r"within 0\.1 seconds"):
        get("/slow", port, seconds=0.1)


def test_one_private_address_of_several_is_enough_to_refuse(port: int) -> None:
    with pytest.raises(RequestError, match="public address"):
        get("/picture", port, Names(**{"mixed.example": ["127.0.0.1", "10.0.0.1"]}), host="mixed.example")
    with pytest.raises(RequestError, match="public address"):
        get("/picture", port, Names(**{"empty.example": []}), host="empty.example")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x", "http://localhost/x", "http://2130706433/x", "http://0x7f.1/x", "http://127.1/x",
        "http://0/x", "http://[::1]/x", "http://[::ffff:127.0.0.1]/x", "http://169.254.169.254/latest/meta-data",
        "https://127.0.0.1/x",
    ],
)  # fmt: skip
def test_this_machine_by_any_spelling(url: str) -> None:
    with pytest.raises(RequestError, match=r"public address|connection failed"):
        asyncio.run(fetch(url))


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://example.org/x", "http:///x", "//example.org/x", "", "http://[::1", "http://a:b/x",
     "http://user:pass@example.org/x", "http://example.org:22/x", "http://example.org:8000/x", "javascript:1"],
)  # fmt: skip
def test_addresses_of_another_kind(url: str) -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        raise AssertionError

    with pytest.raises(RequestError):
        asyncio.run(fetch(url, resolve=never))


def test_a_server_that_is_not_there() -> None:
    async def nowhere(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1", "127.0.0.2"]

    with pytest.raises(RequestError, match="connection failed"):
        asyncio.run(fetch("http://x.example:1/", FetchLimits(ports=[1]), resolve=nowhere, is_allowed=lambda _: True))


def test_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert get("/picture", port).data == PICTURE
    assert safe_fetch._client().follow_redirects is False
