"""ToolBox: policies, timeouts, and results that say what went wrong."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from typing import Any

import pytest

from ostro.chat import ToolCall
from ostro.errors import OstroError, ToolError
from ostro.tools import ToolBox, tool


@tool
def add(a: int, b: int = 1) -> int:
    """The sum."""
    return a + b


@tool
def fail(how: str) -> str:
    """Fail."""
    raise OstroError("It says why.") if how == "ours" else ValueError("no")


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(name, json.dumps(arguments), "abcdefghi")


def test_a_call_runs() -> None:
    box = ToolBox([add], policy="allow")
    result = box.run(call("add", a=2))
    assert (result.content, result.status, result.call.id) == ("3", "done", "abcdefghi")
    assert result.seconds >= 0
    assert box.described()[0]["function"]["name"] == "add"


@pytest.mark.parametrize(
    ("made", "content"),
    [
        (call("sub"), "Error: there is no tool 'sub'; there are add, fail."),
        (call("add"), "Error: a is missing."),
        (call("add", a="x"), "Error: a must be a whole number, not 'x'."),
        (call("add", a=1, c=2), "Error: c is unknown; there are a, b."),
        (ToolCall("add", "{"), "Error: the arguments are no JSON"),
        (ToolCall("add", "[1]"), "Error: The arguments must be an object"),
        (ToolCall("add", '{"a":' * 5000), "Error: the arguments are no JSON"),
        (call("fail", how="ours"), "Error: It says why."),
        (call("fail", how=""), "Error: ValueError: no"),
    ],
)
def test_what_went_wrong_is_told_to_the_model(made: ToolCall, content: str) -> None:
    result = ToolBox([add, fail], policy="allow").run(made)
    assert result.content.startswith(content)
    assert result.status == "failed"


def test_policies() -> None:
    asked: list[str] = []

    def ask(each: Any, made: ToolCall) -> Any:
        asked.append(f"{each.name} {made.arguments}")
        return {1: False, 2: True, 3: "always"}[len(asked)]

    denied = tool(name="never", policy="deny")(lambda: "x")
    box = ToolBox([add, denied], ask=ask)
    assert [box.run(call("add", a=n)).status for n in range(5)] == ["denied", "done", "done", "done", "done"]
    assert asked == [f'add {{"a": {n}}}' for n in range(3)]
    assert box.policy_of("add") == "allow"
    assert box.run(call("never")).content == "Error: the user does not allow this call."
    box.set_policy("add", "deny")
    assert box.run(call("add", a=1)).status == "denied"
    assert ToolBox([denied], policies={"never": "allow"}).run(call("never")).status == "done"


def test_wrong_arguments_are_not_asked_about() -> None:
    box = ToolBox([add], ask=lambda _tool, _call: pytest.fail("asked"))
    assert box.run(call("add")).status == "failed"


def test_nobody_to_ask() -> None:
    with pytest.raises(ToolError, match="there is nobody to ask"):
        ToolBox([add])
    box = ToolBox([add], policy="allow")
    box.set_policy("add", "ask")
    with pytest.raises(ToolError, match="there is nobody to ask"):
        box.run(call("add", a=1))


def test_a_tool_that_hangs_is_left_behind() -> None:
    release = threading.Event()

    def hang() -> None:
        """Wait."""
        release.wait(60)

    result = ToolBox([hang], policy="allow", timeout=0.05).run(call("hang"))
    assert (result.status, result.content) == ("timeout", "Error: hang did not end within 0.05 seconds.")
    release.set()


def test_coroutines_run_and_are_cancelled() -> None:
    cancelled = threading.Event()

    async def wait(long: bool) -> str:
        """Wait."""
        try:
            await asyncio.sleep(60 if long else 0)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return "woken"

    box = ToolBox([wait], policy="allow", timeout=0.05)
    assert ToolBox([wait], policy="allow").run(call("wait", long=False)).content == "woken"
    assert box.run(call("wait", long=True)).status == "timeout"
    assert cancelled.is_set()


def test_a_timeout_of_its_own() -> None:
    box = ToolBox([tool(timeout=0.01, name="slow")(lambda: threading.Event().wait(5))], policy="allow")
    assert box.run(call("slow")).status == "timeout"


def test_context_variables_are_seen() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("seen")

    def variable_of() -> str:
        return variable.get()

    box = ToolBox([tool(name="see")(variable_of)], policy="allow")
    assert box.run(call("see")).content == "seen"


@pytest.mark.parametrize(
    ("value", "content"),
    [("text", "text"), (None, "null"), ({"a": "é"}, '{"a": "é"}'), (3.5, "3.5"), ({1}, '"{1}"'), ("\ud800", "?")],
)
def test_results_as_text(value: Any, content: str) -> None:
    assert ToolBox([tool(name="f")(lambda: value)], policy="allow").run(call("f")).content == content


def test_a_long_result_is_cut_and_says_so() -> None:
    box = ToolBox([tool(name="f")(lambda: "a" * 30)], policy="allow", max_result_characters=10)
    assert box.run(call("f")).content == "aaaaaaaaaa\n[20 more characters were cut off]"


def test_wrong_boxes() -> None:
    with pytest.raises(ToolError, match="Two tools are called 'add'"):
        ToolBox([add, add], policy="allow")
    with pytest.raises(ToolError, match="There is no tool 'x'; there are add"):
        ToolBox([add], policy="allow", policies={"x": "allow"})
    with pytest.raises(ToolError, match="A tool is a function"):
        ToolBox([3], policy="allow")  # type: ignore[list-item]
