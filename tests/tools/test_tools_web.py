"""brave_search and wolfram_alpha against servers that answer as the real ones do."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from fake_services import (
    BRAVE,
    BRAVE_REFUSAL,
    WOLFRAM,
    WOLFRAM_REFUSAL,
    WOLFRAM_UNKNOWN,
    always,
    serving,
)

from ostro.chat import ToolCall
from ostro.errors import ToolError
from ostro.tools import ToolBox, brave_search, wolfram_alpha
from ostro.tools.web import builtin_tool

KEY = "k3y-of-the-user"


def asked(made: Any, query: str) -> tuple[str, Any]:
    """Status and result of a query."""
    call = ToolCall(made.name, json.dumps({"query": query}))
    result = ToolBox([made], policy="allow").run(call)
    assert KEY not in result.content
    return result.status, json.loads(result.content) if result.status == "done" else result.content


def test_brave() -> None:
    with serving(always(200, BRAVE)) as fake:
        made = brave_search(KEY, url=f"{fake.url}/res/v1/web/search", count=2)
        status, found = asked(made, "  Stockholm   weather ")
    assert status == "done"
    assert found == {
        "query": "Stockholm weather",
        "top_k": [
            {
                "title": "Stockholm, weather & forecast",
                "url": "https://weather.example.org/stockholm",
                "description": "Today's weather in Stockholm: rain.",
            },
            {"title": "Another", "url": "https://b.example.org", "description": "B"},
        ],
    }
    (request,) = fake.asked
    assert (request.path, request.query) == ("/res/v1/web/search", {"q": "Stockholm weather", "count": "2"})
    assert request.headers["x-subscription-token"] == KEY
    assert request.headers["accept"] == "application/json"


def test_brave_finds_nothing_and_takes_long_queries() -> None:
    with serving(always(200, {"type": "search", "query": {"original": "x"}})) as fake:
        made = brave_search(KEY, url=fake.url)
        assert asked(made, "word " * 80)[1] == {"query": ("word " * 50).strip(), "top_k": []}
        assert len(fake.asked[0].query["q"]) <= 400
        assert asked(made, " ") == ("failed", "Error: The query is empty: give a few words.")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (422, BRAVE_REFUSAL, "refuses the key: correct the variable BRAVE_API_KEY"),
        (401, {}, "refuses the key"),
        (429, {"error": {"code": "RATE_LIMITED"}}, "too many requests"),
        (400, {"error": {"detail": "Unable to validate request parameter(s)"}}, "status 400: Unable to validate"),
        (500, b"<html>", "status 500"),
        (302, b"", "status 302"),
        (200, b"no json", "status 200"),
        (200, b"x" * 5_000_000, "more than 4,000,000 bytes"),
    ],
)
def test_brave_refuses(status: int, body: Any, words: str) -> None:
    with serving(always(status, body)) as fake:
        outcome, content = asked(brave_search(KEY, url=fake.url), "x")
    assert outcome == "failed"
    assert words in content


def test_wolfram() -> None:
    with serving(always(200, WOLFRAM)) as fake:
        status, result = asked(wolfram_alpha(KEY, url=f"{fake.url}/v2/query"), "solve x^2 = 4")
    assert status == "done"
    assert result == {
        "queryresult": {
            "success": True,
            "inputstring": "solve x^2 = 4",
            "pods": [
                {"title": "Input interpretation", "subpods": [{"title": "", "plaintext": "solve x^2 = 4"}]},
                {
                    "title": "Results",
                    "primary": True,
                    "subpods": [{"title": "", "plaintext": "x = -2"}, {"title": "", "plaintext": "x = 2"}],
                },
            ],
        }
    }
    (request,) = fake.asked
    assert request.query == {"appid": KEY, "input": "solve x^2 = 4", "format": "plaintext", "output": "json"}


def test_wolfram_does_not_understand() -> None:
    with serving(always(200, WOLFRAM_UNKNOWN)) as fake:
        result = asked(wolfram_alpha(KEY, url=fake.url), "wether")[1]["queryresult"]
    assert result == {"success": False, "inputstring": "wether", "pods": [], "didyoumean": "weather"}


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, WOLFRAM_REFUSAL, "refuses the key: correct the variable WOLFRAM_APP_ID"),
        (403, b"Error 1: Invalid appid", "refuses the key"),
        (200, {"queryresult": {"success": False, "error": {"code": "1000", "msg": "Internal"}}}, "failed: Internal"),
        (501, b"", "status 501"),
    ],
)
def test_wolfram_refuses(status: int, body: Any, words: str) -> None:
    with serving(always(status, body)) as fake:
        outcome, content = asked(wolfram_alpha(KEY, url=fake.url), "x")
    assert outcome == "failed"
    assert words in content


def test_no_key_is_told_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(always(200, WOLFRAM)) as fake:
        asked(wolfram_alpha(KEY, url=fake.url), "x")
        asked(brave_search(KEY, url=fake.url), "x")
    assert asked(wolfram_alpha(KEY, url=fake.url), "x")[0] == "failed"  # nobody listens any more
    assert "appid=(hidden)" in caplog.text
    assert KEY not in caplog.text


def test_a_service_that_is_silent() -> None:
    import time

    def late(_fake: Any, _asked: Any) -> tuple[int, str, bytes]:
        time.sleep(0.5)
        return 200, "application/json", b"{}"

    with serving(late) as fake:
        made = brave_search(KEY, url=fake.url, timeout=0.05)
        assert asked(made, "x") == (
            "failed",
            "Error: Brave Search did not answer within 0.05 seconds; try again later.",
        )


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, variable in (("brave_search", "BRAVE_API_KEY"), ("wolfram_alpha", "WOLFRAM_APP_ID")):
        monkeypatch.delenv(variable, raising=False)
        with pytest.raises(ToolError, match=f"set the variable {variable}"):
            builtin_tool(name)
        monkeypatch.setenv(variable, KEY)
        made = builtin_tool(name)
        assert (made.name, made.is_builtin) == (name, True)
        assert made.definition.parameters is not None
        assert made.definition.parameters["required"] == ["query"]
    with pytest.raises(ToolError, match="there are brave_search, wolfram_alpha"):
        builtin_tool("google")
    with pytest.raises(ToolError, match="1 to 20"):
        brave_search(KEY, count=21)
