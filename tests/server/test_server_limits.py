"""Bodies and requests beyond the limits are refused early, and what was taken is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_calls import Reply, call, echo_app

from ostro.server.limits import Bodies, Concurrency
from ostro.server.settings import ServerSettings


def ask(settings: ServerSettings, *args: Any, **kwargs: Any) -> Reply:
    return asyncio.run(call(echo_app(settings), *args, **kwargs))


def refused(reply: Reply, status: int, code: str) -> bool:
    return (reply.status, reply.json["error"]["code"], reply.json["code"]) == (status, code, code)


def test_a_body_is_measured_while_it_arrives() -> None:
    settings = ServerSettings(max_body_bytes=2000)
    assert ask(settings, pieces=[b" " * 1000, b" " * 1000]).json["bytes"] == 2000
    taken = []

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            taken.append(1)
            yield b" " * 1000

    assert refused(ask(settings, pieces=endless()), 413, "request_too_large")
    stated = ask(settings, headers={"content-length": "2001"}, pieces=[])
    assert refused(stated, 413, "request_too_large")
    assert refused(ask(settings, headers={"content-length": "9" * 400}, pieces=[]), 413, "request_too_large")


def test_what_nests_too_deep_is_400() -> None:
    settings = ServerSettings(max_json_depth=8)
    assert ask(settings, pieces=[b"[" * 8]).status == 200
    assert refused(ask(settings, pieces=[b"[" * 5, b"[" * 4]), 400, "invalid_body")
    assert refused(ask(settings, "GET", "/v1/models", pieces=[b"[" * 9]), 400, "invalid_body")
    assert ask(settings, "GET", "/v1/models", pieces=[b"{}"]).status == 200  # as old clients do
    assert refused(ask(settings, pieces=[b"\xff"]), 400, "invalid_body")
    assert ask(settings, pieces=[b'"' + b"a" * 300_000 + b'"']).json["bytes"] == 300_002


def test_a_client_that_leaves_amid_its_body_costs_nothing() -> None:
    app = echo_app(ServerSettings())
    reply = asyncio.run(call(app, pieces=[b"{", b'"a"'], leaves=True))
    assert reply.status == 0


def test_a_body_that_does_not_come_is_408() -> None:
    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        raise AssertionError

    async def run() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def app(*_: Any) -> None:
            raise AssertionError

        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        await Bodies(app, ServerSettings(body_seconds=0.01))(scope, never, send)
        return sent

    assert asyncio.run(run())[0]["status"] == 408


def test_all_bodies_together_are_bounded_and_given_back() -> None:
    settings = ServerSettings(max_body_bytes=1024)

    async def run() -> tuple[list[int], int]:
        hold = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await hold.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        bodies = Bodies(app, settings)
        tasks = [asyncio.create_task(call(bodies, pieces=[b" " * 1000])) for _ in range(10)]
        while sum(task.done() for task in tasks) < 2:
            await asyncio.sleep(0)
        hold.set()
        return [reply.status for reply in await asyncio.gather(*tasks)], bodies._num_held

    statuses, held = asyncio.run(run())
    assert sorted(statuses) == [200] * 8 + [429] * 2
    assert held == 0


def test_bodies_that_are_refused_are_given_back_too() -> None:
    async def app(*_: Any) -> None:
        raise AssertionError

    async def run(body: bytes) -> tuple[int, int]:
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        bodies = Bodies(app, ServerSettings(max_json_depth=8))
        await bodies({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)
        return sent[0]["status"], bodies._num_held

    for body in (b'"abc\xc3', b"[" * 9, b"[1,2\xff", b'"abc\0'):
        assert asyncio.run(run(body)) == (400, 0)


def test_requests_beyond_the_limit_are_429_and_health_is_not_counted() -> None:
    async def run() -> tuple[Reply, Reply, Reply, Reply]:
        hold = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/hold":
                await hold.wait()
            if scope["path"] == "/fail":
                raise OSError
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

        limited = Concurrency(app, 1)
        first = asyncio.create_task(call(limited, path="/hold"))
        await asyncio.sleep(0.01)
        second = await call(limited)
        health = await call(limited, "GET", "/health")
        hold.set()
        await first
        with pytest.raises(OSError):
            await call(limited, path="/fail")
        return first.result(), second, health, await call(limited)

    first, second, health, later = asyncio.run(run())
    assert refused(second, 429, "overloaded")
    assert second.headers["retry-after"] == "1"
    assert [reply.status for reply in (first, health, later)] == [200, 200, 200]
