"""Reading messages and tools as clients send them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostro.chat import (
    AssistantMessage,
    SystemMessage,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
    parse_messages,
    parse_tools,
)
from ostro.errors import PromptError


def one(message: dict[str, Any]) -> Any:
    return parse_messages([message])[0]


def test_what_real_clients_send() -> None:
    function = {"name": "f", "arguments": '{"a": 1}'}
    call = ToolCall("f", '{"a": 1}', "x")
    assert one({"role": "developer", "content": "s"}) == SystemMessage("s")
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": ""}, {"type": "text", "text": "b"}]
    assert one({"role": "user", "content": parts}) == UserMessage("a\n\nb")
    assert one({"role": "system", "content": parts}) == SystemMessage("a\n\nb")
    assert one({"role": "assistant", "tool_calls": [{"id": "x", "function": function}]}) == AssistantMessage(
        "", (call,)
    )
    echoed = {"id": "x", "type": "function", "index": 0, "function": {"name": "f", "arguments": {"a": 1}}}
    assert one({"role": "assistant", "content": None, "prefix": False, "tool_calls": [echoed]}).tool_calls == (call,)
    assert (
        one({"role": "assistant", "content": "a", "tool_calls": None, "refusal": None, "annotations": []}).content
        == "a"
    )
    assert one({"role": "tool", "name": "f", "content": "r"}) == ToolMessage("r", None, "f")
    assert one({"role": "tool", "tool_call_id": "x", "content": parts}) == ToolMessage("a\n\nb", "x")
    assert (
        one({"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f"}}]}).tool_calls[0].arguments == ""
    )
    assert parse_messages([UserMessage("a")]) == (UserMessage("a"),)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"role": "robot", "content": ""}, "role 'robot'"),
        ({"content": "a"}, "role None"),
        ({"role": "user"}, "no content"),
        ({"role": "user", "content": 1}, "content of type int"),
        ({"role": "user", "content": "a", "prefix": True}, "key 'prefix'"),
        ({"role": "user", "content": "a", "name": "Ann"}, "key 'name'"),
        ({"role": "user", "content": "\ud800"}, "surrogate"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, r"type 'image_url' \(content\[0\]\)"),
        ({"role": "user", "content": [{"type": "text"}]}, r"content\[0\]"),
        ({"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}, r"content\[0\]"),
        ({"role": "assistant", "content": "a", "reasoning_content": "b"}, "reasoning_content"),
        ({"role": "assistant", "content": "a", "prefix": 1}, "prefix 1"),
        ({"role": "assistant", "tool_calls": {}, "content": "a", "weight": 0}, "weight"),
        ({"role": "assistant", "tool_calls": [{"id": "x"}]}, "without a function"),
        ({"role": "assistant", "tool_calls": [{"function": {"arguments": ""}}]}, "function name"),
        ({"role": "assistant", "tool_calls": [{"type": "retrieval", "function": {"name": "f"}}]}, "retrieval"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 1}}]}, "arguments of type int"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "strict": 1}}]}, "strict"),
        ({"role": "assistant", "tool_calls": [{"id": 1, "function": {"name": "f"}}]}, "id of type int"),
        ({"role": "assistant", "tool_calls": "f"}, "tool_calls of type str"),
        ({"role": "tool", "content": "a", "tool_call_id": 7}, "tool_call_id"),
        ("hello", "is a str"),
    ],
)
def test_refusals_name_the_message(message: Any, says: str) -> None:
    with pytest.raises(PromptError, match=says) as caught:
        parse_messages([{"role": "user", "content": "a"}, message])
    assert caught.value.index == 1


@pytest.mark.parametrize("messages", [[], "hello", {"role": "user", "content": "a"}])
def test_not_a_list_of_messages(messages: Any) -> None:
    with pytest.raises(PromptError, match="messages"):
        parse_messages(messages)


def test_tools() -> None:
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    assert parse_tools([{"type": "function", "function": function}]) == (Tool("f", "d", {"type": "object"}, True),)
    assert parse_tools([{"function": {"name": "f"}}]) == (Tool("f"),)
    assert parse_tools(None) == parse_tools([]) == ()


@pytest.mark.parametrize(
    ("tool", "says"),
    [
        ({"name": "f"}, r"tools\[0\] is no"),
        ({"type": "web_search"}, r"tools\[0\] is no"),
        ({"type": "function", "function": {}}, "function name"),
        ({"type": "function", "function": {"name": "f", "description": 1}}, "description"),
        ({"type": "function", "function": {"name": "f", "parameters": []}}, "parameters"),
        ({"type": "function", "function": {"name": "f", "parameters": {"a": {1}}}}, "JSON"),
        ({"type": "function", "function": {"name": "f", "parameters": {"a": "\udfff"}}}, "JSON"),
        ({"type": "function", "function": {"name": "f", "returns": 1}}, "returns"),
    ],
)
def test_tools_refused(tool: Any, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        parse_tools([tool])


KEYS = ["role", "content", "tool_calls", "type", "text", "x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=10,
)


@given(st.lists(JSON, max_size=3))
def test_any_json_is_read_or_refused(messages: list[Any]) -> None:
    try:
        parse_messages(messages)
    except PromptError:
        pass
