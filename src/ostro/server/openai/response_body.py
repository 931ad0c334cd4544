"""A response and its items as OpenAI writes them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ostro.chat.messages import ToolCall
from ostro.server.chat_answer import logprobs_body
from ostro.server.errors import Fault
from ostro.server.events import TokenLogprobs, Usage
from ostro.tokenizer.base import Tokenizer

_ECHOED = ("instructions", "max_output_tokens", "previous_response_id", "user", "safety_identifier", "prompt_cache_key")


@dataclass(slots=True)
class ResponseBody:
    """A response while it grows; `given` are the request's fields, which it repeats."""

    model: str
    given: Mapping[str, Any]
    temperature: float
    top_p: float
    id: str = field(default_factory=lambda: f"resp_{secrets.token_hex(24)}")
    created_at: int = field(default_factory=lambda: int(time.time()))
    status: str = "in_progress"
    output: list[dict[str, Any]] = field(default_factory=list)
    usage: Usage | None = None
    fault: Fault | None = None

    def as_json(self) -> dict[str, Any]:
        """The response as it stands."""
        given = self.given
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": self.status,
            "background": False,
            "error": self.fault and {"code": "server_error", "message": self.fault.message},
            "incomplete_details": {"reason": "max_output_tokens"} if self.status == "incomplete" else None,
            **{name: given.get(name) for name in _ECHOED},
            "max_tool_calls": None,
            "metadata": given.get("metadata", {}),
            "model": self.model,
            "output": list(self.output),
            "parallel_tool_calls": given.get("parallel_tool_calls", True),
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "store": given.get("store", True),
            "temperature": self.temperature,
            "text": {"format": _format(given)},
            "tool_choice": given.get("tool_choice", "auto"),
            "tools": [_tool(tool) for tool in given.get("tools", ())],
            "top_logprobs": given.get("top_logprobs", 0),
            "top_p": self.top_p,
            "truncation": "disabled",
            "usage": None if self.usage is None else usage_body(self.usage),
        }


def usage_body(usage: Usage) -> dict[str, Any]:
    """The count of tokens in the words of this API."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }


def message_item(item_id: str, status: str, content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A message of the assistant."""
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": list(content)}


def text_part(text: str, logprobs: Sequence[TokenLogprobs], tokenizer: Tokenizer) -> dict[str, Any]:
    """The text of a message."""
    return {
        "type": "output_text",
        "text": text,
        "annotations": [],
        "logprobs": logprobs_body(logprobs, tokenizer)["content"],
    }


def call_item(item_id: str, status: str, call: ToolCall, arguments: str) -> dict[str, Any]:
    """A call of a function."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
    }


def _format(given: Mapping[str, Any]) -> dict[str, Any]:
    form = given["text"].format if "text" in given else None
    if form is None:
        return {"type": "text"}
    dumped: dict[str, Any] = form.model_dump(by_alias=True, exclude_none=True)
    return dumped


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": None, "parameters": {}, "strict": False, **tool}
