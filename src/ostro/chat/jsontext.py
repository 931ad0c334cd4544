"""JSON inside prompts, written as the publishers of the formats write it."""

from __future__ import annotations

import json
from typing import Any

from ostro.chat.messages import Tool


def dump(value: object) -> str:
    """JSON on one line, characters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False)


def loose(text: str) -> Any:
    """The value of JSON text, or the text itself where it is none (or too deep, or a number too long, to be read)."""
    try:
        value = json.loads(text)
        dump(value).encode()
    except (ValueError, RecursionError):
        return text
    return value


def arguments_of(text: str) -> Any:
    """Arguments of a call: the value of the JSON text, {} for none, the text itself where it is no JSON."""
    return loose(text) if text else {}


def tool_object(tool: Tool) -> dict[str, Any]:
    """`{"type", "function": {...}}` with what the caller gave."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    return {"type": "function", "function": function}
