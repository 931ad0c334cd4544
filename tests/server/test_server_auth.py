"""A key opens the server, from whichever header a client sends it in."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgi_calls import Reply, call, echo_app

from ostro.server import auth
from ostro.server.settings import ServerSettings

KEYS = ["first-key-of-the-server", "second-key-of-the-server"]


def ask(settings: ServerSettings, *args: Any, **kwargs: Any) -> Reply:
    return asyncio.run(call(echo_app(settings), *args, **kwargs))


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "Bearer  {} ", "api-key", "x-api-key"])
def test_a_key_opens(key: str, form: str) -> None:
    headers = {"Authorization": form.format(key)} if "{}" in form else {form: key}
    assert ask(ServerSettings(api_keys=KEYS), headers=headers).status == 200


def test_one_right_key_of_several_is_enough() -> None:
    headers = [("Authorization", "Bearer wrong"), ("api-key", KEYS[1])]
    assert ask(ServerSettings(api_keys=KEYS), headers=headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer None"},
        {"Authorization": KEYS[0]},
        {"Authorization": f"Basic {KEYS[0]}"},
        {"Authorization": f"Bearer {KEYS[0]}x"},
        {"Authorization": f"Bearer {KEYS[0][:-1]}"},
        {"api-key": KEYS[0].upper()},
        {"x-api-key": "schl\u00fcssel"},
        {"cookie": f"api-key={KEYS[0]}"},
    ],
)
def test_everything_else_is_401(headers: dict[str, str]) -> None:
    reply = ask(ServerSettings(api_keys=KEYS), headers=headers)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json["code"] == reply.json["error"]["code"] == "invalid_api_key"
    assert reply.json["message"] == reply.json["error"]["message"]
    assert not any(key in reply.body.decode() for key in KEYS)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer None"}, {"Authorization": "Bearer "}])
def test_without_a_key_everybody_passes(headers: dict[str, str]) -> None:
    assert ask(ServerSettings(), headers=headers).status == 200


@pytest.mark.parametrize("path", ["/", "/health", "/favicon.ico", "/page/app.js"])
def test_open_paths(path: str) -> None:
    settings = ServerSettings(api_keys=KEYS)
    assert ask(settings, "GET", path).status == 200
    assert ask(settings, "POST", path).status == 401


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/v1/models", "/page", "//health", "/health/"])
def test_closed_paths(path: str) -> None:
    assert ask(ServerSettings(api_keys=KEYS), "GET", path).status == 401


def test_every_key_is_compared_whatever_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = auth.hmac.compare_digest

    def counting(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(auth.hmac, "compare_digest", counting)
    settings = ServerSettings(api_keys=KEYS)
    for key in (*KEYS, "wrong"):
        compared.clear()
        ask(settings, headers={"api-key": key, "Authorization": "Bearer x"})
        assert len(compared) == 4
        assert {len(value) for pair in compared for value in pair} == {32}
