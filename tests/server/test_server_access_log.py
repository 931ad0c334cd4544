"""A line a request, with what became of it and without what must stay secret."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from asgi_calls import call, echo_app

from ostro.server.access_log import AccessLog
from ostro.server.notes import note
from ostro.server.settings import ServerSettings

KEY = "a-key-that-is-long-enough"


def lines_of(caplog: pytest.LogCaptureFixture, app: Any, *args: Any, **kwargs: Any) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="ostro.access"):
        asyncio.run(call(app, *args, **kwargs))
    return [record.getMessage() for record in caplog.records if record.name == "ostro.access"]


def test_json(caplog: pytest.LogCaptureFixture) -> None:
    app = echo_app(ServerSettings(access_log="json"))
    (line,) = lines_of(caplog, app, pieces=[b'{"x": "the prompt"}'])
    facts = json.loads(line)
    assert facts["id"].startswith("req_")
    assert {name: facts[name] for name in ("client", "method", "path", "status")} == {
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
    }
    assert facts["ms"] >= facts["first_byte_ms"] >= 0
    assert facts["bytes"] > 0
    assert "incomplete" not in facts


@pytest.mark.parametrize("format", ["json", "text"])
def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture, format: str) -> None:
    app = echo_app(ServerSettings(access_log=format, api_keys=[KEY]))
    for given in (KEY, "wrong-key-of-somebody"):
        headers = {"Authorization": f"Bearer {given}", "api-key": given, "cookie": given}
        (line,) = lines_of(caplog, app, headers=headers, pieces=[b'{"x": "the prompt"}'])
        assert not any(secret in line for secret in (given, "the prompt", "hidden"))


def test_text_cannot_be_forged(caplog: pytest.LogCaptureFixture) -> None:
    app = echo_app(ServerSettings())
    (line,) = lines_of(caplog, app, path='/a b\n2026 status=200 "\x1b[31m\x7f\u2028')
    assert line.isprintable()
    assert line.count(" status=") == 1 + line.count("2026 status=")
    assert len(line.splitlines()) == 1
    (line,) = lines_of(caplog, app, path="/" + "x" * 5000)
    assert len(line) < 600


def test_the_application_adds_what_it_knows(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        note(scope, model="tiny", prompt_tokens=3, finish_reason=None)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data", "more_body": True})
        note(scope, completion_tokens=2, stream=True)

    (line,) = lines_of(caplog, AccessLog(app, "text"))
    for each in ("model=tiny", "prompt_tokens=3", "completion_tokens=2", "stream=true", "incomplete=true", "bytes=4"):
        assert f" {each}" in line
    assert "finish_reason" not in line
    with pytest.raises(AssertionError, match="no place"):
        note({}, prompt="secret")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("headers", "pieces", "error"),
    [
        ({}, [b"{}"], "invalid_api_key"),
        ({"api-key": KEY, "host": "evil.example"}, [b"{}"], "forbidden_origin"),
        ({"api-key": KEY}, [b"x" * 2000], "request_too_large"),
        ({"api-key": KEY}, [b"\xff"], "invalid_body"),
    ],
)
def test_what_is_refused_at_the_door_is_named(
    caplog: pytest.LogCaptureFixture, headers: dict[str, str], pieces: list[bytes], error: str
) -> None:
    app = echo_app(ServerSettings(api_keys=[KEY], max_body_bytes=1024))
    (line,) = lines_of(caplog, app, headers=headers, pieces=pieces)
    assert f" error={error}" in line


def test_off_and_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    assert lines_of(caplog, echo_app(ServerSettings(access_log="off"))) == []

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise OSError("no")

    with caplog.at_level(logging.INFO, logger="ostro.access"), pytest.raises(OSError):
        asyncio.run(call(AccessLog(broken, "text")))
    assert "incomplete=true" in caplog.text


def test_every_response_has_its_id() -> None:
    replies = [
        asyncio.run(call(echo_app(ServerSettings(api_keys=[KEY])), headers={"api-key": key})) for key in (KEY, "x")
    ]
    assert [reply.status for reply in replies] == [200, 401]
    ids = {reply.headers["x-request-id"] for reply in replies}
    assert len(ids) == 2
    assert all(reply.headers["x-content-type-options"] == "nosniff" for reply in replies)
