"""From the items of a response's input to messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ostro.chat.messages import AssistantMessage, Message, UserMessage, parse_messages
from ostro.errors import PromptError
from ostro.server.chat_jobs import without_nulls
from ostro.server.errors import FieldError
from ostro.server.fields import shown

_TEXT_PARTS = ("input_text", "output_text", "text")
_MESSAGE_KEYS = frozenset({"type", "role", "content", "id", "status", "phase"})
_CALL_KEYS = frozenset({"type", "call_id", "name", "arguments", "id", "status"})
_OUTPUT_KEYS = frozenset({"type", "call_id", "output", "id", "status"})


def messages_of(given: str | Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The messages of an input; calls in a row, and the text before them, are one message of the assistant.

    FieldError names the item at fault.
    """
    if isinstance(given, str):
        return (UserMessage(given),)
    messages: list[Message] = []
    for index, item in enumerate(given):
        message = _message(without_nulls(item), index)
        last = messages[-1] if messages else None
        if isinstance(message, AssistantMessage) and message.tool_calls and isinstance(last, AssistantMessage):
            messages[-1] = replace(last, tool_calls=last.tool_calls + message.tool_calls)
        else:
            messages.append(message)
    return tuple(messages)


def input_items(given: str | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """An input in the form in which it is given back: a list of items, each with a type."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    return [{"type": "message", **item} if "type" not in item else dict(item) for item in given]


def _message(item: Mapping[str, Any], index: int) -> Message:
    kind = item.get("type", "message" if "role" in item else None)
    if kind == "message":
        _check_keys(item, _MESSAGE_KEYS, index)
        content = item.get("content")
        parts = content if not isinstance(content, list) else [_part(part) for part in content]
        return _parsed({"role": item.get("role"), "content": parts}, index)
    if kind == "function_call":
        _check_keys(item, _CALL_KEYS, index)
        function = {"name": item.get("name"), "arguments": item.get("arguments", "")}
        call = {"id": item.get("call_id") or item.get("id"), "function": function}
        return _parsed({"role": "assistant", "tool_calls": [without_nulls(call)]}, index)
    if kind == "function_call_output":
        _check_keys(item, _OUTPUT_KEYS, index)
        output = item.get("output", "")
        parts = output if not isinstance(output, list) else [_part(part) for part in output]
        return _parsed(without_nulls({"role": "tool", "content": parts, "tool_call_id": item.get("call_id")}), index)
    raise FieldError(
        f"input[{index}] has the type {shown(kind)}; the types here are message, function_call and "
        "function_call_output.",
        param=f"input[{index}]",
        code="unsupported_parameter",
    )


def _part(part: object) -> object:
    """A part in the words of chat; what is no text goes on to be refused there."""
    if isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS:
        return {"type": "text", "text": part.get("text")}
    if isinstance(part, Mapping) and part.get("type") == "refusal":
        return {"type": "text", "text": part.get("refusal")}
    return part


def _check_keys(item: Mapping[str, Any], known: frozenset[str], index: int) -> None:
    unknown = sorted(set(item) - known)
    if unknown:
        raise FieldError(
            f"input[{index}] has the key {shown(unknown[0])}, which no prompt can hold; it may have "
            f"{', '.join(sorted(known))}.",
            param=f"input[{index}]",
        )


def _parsed(message: Mapping[str, Any], index: int) -> Message:
    try:
        return parse_messages([message])[0]
    except PromptError as error:
        place = f"input[{index}]"
        raise FieldError(str(error).replace("messages[0]", place), param=place) from None
