"""Other sites' pages cannot use the server; those that were named can."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgi_calls import Reply, call, echo_app

from ostro.server.settings import ServerSettings

KEY = "a-key-that-is-long-enough"


def ask(settings: ServerSettings, *args: Any, **kwargs: Any) -> Reply:
    return asyncio.run(call(echo_app(settings), *args, **kwargs))


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000", "box.localhost", "127.9.9.9"]
)
def test_this_machine_is_answered(host: str) -> None:
    assert ask(ServerSettings(), headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8000", "10.0.0.1", "", "localhost.evil.example"]
)
def test_a_rebound_name_is_not(host: str) -> None:
    for method, path in (("POST", "/v1/chat/completions"), ("GET", "/health"), ("GET", "/v1/models")):
        reply = ask(ServerSettings(), method, path, headers={"host": host})
        assert reply.status == 403
        assert "--allowed-host" in reply.json["message"]


def test_a_name_can_be_allowed() -> None:
    settings = ServerSettings(allowed_hosts=["Models.example.org"])
    assert ask(settings, headers={"host": "models.EXAMPLE.org:443"}).status == 200
    assert ask(settings, headers={"host": "evil.example"}).status == 403


def test_another_host_is_answered_by_every_name_but_wants_the_key() -> None:
    settings = ServerSettings(host="0.0.0.0", api_keys=[KEY])
    assert ask(settings, headers={"host": "evil.example"}).status == 401
    assert ask(settings, headers={"host": "box.example", "api-key": KEY}).status == 200
    named = ServerSettings(host="0.0.0.0", api_keys=[KEY], allowed_hosts=["box.example"])
    assert ask(named, headers={"host": "evil.example", "api-key": KEY}).status == 403


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8000", "", "http://[::1", "http://[x]"],
)
def test_a_page_of_another_origin_computes_nothing(origin: str) -> None:
    reply = ask(ServerSettings(), headers={"origin": origin, "content-type": "text/plain"})
    assert reply.status == 403
    assert "--cors-origin" in reply.json["message"]
    assert "access-control-allow-origin" not in reply.headers
    read = ask(ServerSettings(), "GET", "/v1/models", headers={"origin": origin})
    assert read.status == 200
    assert "access-control-allow-origin" not in read.headers


def test_its_own_page_does() -> None:
    assert ask(ServerSettings(), headers={"origin": "http://127.0.0.1:8000"}).status == 200


def test_a_named_origin_does() -> None:
    settings = ServerSettings(cors_origins=["https://chat.example"], api_keys=[KEY])
    wanted = {"origin": "https://chat.example", "access-control-request-method": "POST"}
    preflight = ask(settings, "OPTIONS", headers=wanted | {"access-control-request-headers": "api-key,x-stainless-os"})
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == "https://chat.example"
    assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in preflight.headers
    reply = ask(settings, headers={"origin": "https://chat.example", "api-key": KEY})
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "https://chat.example"
    without = ask(settings, headers={"origin": "https://chat.example"})
    assert without.status == 401
    other = ask(
        settings, "OPTIONS", headers={"origin": "https://evil.example", "access-control-request-method": "POST"}
    )
    assert other.status != 200
    assert "access-control-allow-origin" not in other.headers
