"""From the fields of a chat request to a `ChatJob`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ostro.chat.messages import Tool, parse_messages, parse_tools
from ostro.engine.params import SamplingParams
from ostro.errors import PromptError
from ostro.server.errors import FieldError
from ostro.server.fields import shown
from ostro.server.jobs import ChatJob, ToolChoice
from ostro.server.sampling import chat_logprobs, sampling_params
from ostro.server.settings import ServerSettings


def chat_job(given: Mapping[str, Any], defaults: SamplingParams, settings: ServerSettings) -> ChatJob:
    """The job that the given fields ask for; errors name the field."""
    params = sampling_params(given, defaults, settings)
    return ChatJob(
        messages=parse_messages([without_nulls(message) for message in given["messages"]]),
        params=replace(params, logprobs=chat_logprobs(given)),
        tools=tools_of(given.get("tools", ())),
        tool_choice=tool_choice_of(given.get("tool_choice")),
        parallel_tool_calls=given.get("parallel_tool_calls", True),
        builtin_tools=tuple(given.get("builtin_tools", ())),
        safe_prompt=given.get("safe_prompt", False) or given.get("safe_mode", False),
        cache_salt=given.get("cache_salt", ""),
    )


def tools_of(given: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """Tools as clients send them, with null for what they leave out."""
    cleaned = []
    for tool in given:
        clean = without_nulls(tool)
        if isinstance(clean.get("function"), Mapping):
            clean["function"] = without_nulls(clean["function"])
        cleaned.append(clean)
    try:
        return parse_tools(cleaned)
    except PromptError as error:
        raise FieldError(str(error), param="tools") from None


def tool_choice_of(given: str | Mapping[str, Any] | None) -> ToolChoice:
    """OpenAI's and Mistral's words for it; `any` is `required`."""
    match given:
        case None | "auto":
            return ToolChoice("auto")
        case "none":
            return ToolChoice("none")
        case "required" | "any":
            return ToolChoice("required")
        case {"type": "function", "function": {"name": str(name)}} | {"type": "function", "name": str(name)}:
            return ToolChoice("named", name)
    raise FieldError(
        f"tool_choice must be auto, none, required, any or {{type: function, function: {{name}}}}, not {shown(given)}.",
        param="tool_choice",
    )


def without_nulls(holder: Mapping[str, Any]) -> dict[str, Any]:
    """Fields that are null are fields that are not there."""
    return {key: value for key, value in holder.items() if value is not None}
