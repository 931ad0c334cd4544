"""Typed messages and tools, and the reading of them from the dicts that OpenAI and Mistral clients send."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from ostro.errors import PromptError

JOIN = "\n\n"
"""What stands between merged texts: the parts of a message, turns of one role, a system prompt and a user's text."""

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `parameters` is its JSON schema; None where the caller gave none.

    `strict` is the caller's wish that arguments follow the schema. It is no part of any prompt.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that an assistant made. `arguments` is JSON text as the model or the client wrote it; "" for none."""

    name: str
    arguments: str = ""
    id: str | None = None


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """Instructions; the role `developer` is read as this."""

    role: ClassVar[Role] = "system"
    content: str


@dataclass(frozen=True, slots=True)
class UserMessage:
    """What the user says."""

    role: ClassVar[Role] = "user"
    content: str


@dataclass(frozen=True, slots=True)
class AssistantMessage:
    """What the model said, called, or both. `prefix`: the text is the beginning of the answer that is asked for."""

    role: ClassVar[Role] = "assistant"
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class ToolMessage:
    """The result of a call, which `tool_call_id` or, failing that, `name` tells."""

    role: ClassVar[Role] = "tool"
    content: str
    tool_call_id: str | None = None
    name: str | None = None


Message: TypeAlias = SystemMessage | UserMessage | AssistantMessage | ToolMessage

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "ipython": "tool",
}
_KEYS: Mapping[Role, frozenset[str]] = {
    "system": frozenset({"role", "content"}),
    "user": frozenset({"role", "content"}),
    "assistant": frozenset({"role", "content", "tool_calls", "prefix"}),
    "tool": frozenset({"role", "content", "tool_call_id", "name"}),
}
# Keys that clients echo back empty. With a value they would have to be honoured, so then they are refused.
_NEUTRAL_KEYS = frozenset({"annotations", "audio", "function_call", "name", "reasoning_content", "refusal", "weight"})
_CALL_KEYS = frozenset({"id", "type", "function", "index"})


def parse_messages(messages: Sequence[Mapping[str, Any] | Message]) -> tuple[Message, ...]:
    """Messages from the dicts of the OpenAI or Mistral API; typed messages pass as they are.

    Tolerated, because real clients send it: assistant content null or absent; tool calls without `type`, with `index`,
    with arguments as an object; a tool message with only a `name`; content as a list of text parts (joined by a blank
    line, as mistral-common does); null for any optional field. PromptError carries the index of the message at fault.
    """
    if isinstance(messages, (str, Mapping)):
        raise PromptError("messages must be a list of messages such as {'role': 'user', 'content': 'Hello'}.")
    if not messages:
        raise PromptError("messages is empty: give at least one, such as {'role': 'user', 'content': 'Hello'}.")
    return tuple(_parse_message(message, index) for index, message in enumerate(messages))


def parse_tools(tools: Sequence[Mapping[str, Any] | Tool] | None) -> tuple[Tool, ...]:
    """Tools from `{"type": "function", "function": {name, description, parameters}}`; None is no tools."""
    return tuple(_parse_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools or ()))


def _parse_message(message: Mapping[str, Any] | Message, index: int) -> Message:
    if isinstance(message, (SystemMessage, UserMessage, AssistantMessage, ToolMessage)):
        return _checked(message, index)
    if not isinstance(message, Mapping):
        raise _error(index, f"is a {type(message).__name__}; a message is an object with role and content")
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise _error(index, f"has the role {message.get('role')!r}; the roles are {', '.join(_ROLES)}")
    for key, value in message.items():
        neutral = key in _NEUTRAL_KEYS and (value is None or value == [] or value == "")
        if key not in _KEYS[role] and not neutral:
            raise _error(
                index, f"({role}) has the key {key!r}, which no prompt can hold; allowed are {_listed(_KEYS[role])}"
            )
    return _checked(_build(role, message, index), index)


def _build(role: Role, message: Mapping[str, Any], index: int) -> Message:
    content = _text(message.get("content"), role, index)
    match role:
        case "system":
            return SystemMessage(content)
        case "user":
            return UserMessage(content)
        case "tool":
            return ToolMessage(content, _string(message, "tool_call_id", index), _string(message, "name", index))
        case "assistant":
            prefix = message.get("prefix") or False
            if not isinstance(prefix, bool):
                raise _error(index, f"has prefix {prefix!r}; it is true or false")
            calls = message.get("tool_calls") or ()
            if not isinstance(calls, (list, tuple)):
                raise _error(index, f"has tool_calls of type {type(calls).__name__}; it is a list")
            return AssistantMessage(content, tuple(_parse_call(call, index) for call in calls), prefix)


def _text(content: object, role: Role, index: int) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        if role in ("assistant", "tool"):
            return ""
        raise _error(index, f"({role}) has no content; give a string, '' if it is to be empty")
    if not isinstance(content, (list, tuple)):
        raise _error(index, f"has content of type {type(content).__name__}; it is a string or a list of text parts")
    return JOIN.join(filter(None, (_part(part, number, index) for number, part in enumerate(content))))


def _part(part: object, number: int, index: int) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        kind = part.get("type", "text")
        if kind == "text" and isinstance(part.get("text"), str) and set(part) <= {"type", "text"}:
            return str(part["text"])
        if kind != "text":
            raise _error(
                index,
                f"has a part of type {kind!r} (content[{number}]), and this prompt takes text only; "
                "leave the part out, or use a model and a command that read it",
            )
    raise _error(index, f"has a content[{number}] that is no {{'type': 'text', 'text': '...'}}")


def _parse_call(call: object, index: int) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    if not isinstance(call, Mapping) or not isinstance(call.get("function"), Mapping):
        raise _error(index, "has a tool call without a function; it is {'id', 'function': {'name', 'arguments'}}")
    function = call["function"]
    unknown = [*(set(call) - _CALL_KEYS), *(set(function) - {"name", "arguments"})]
    if unknown:
        raise _error(index, f"has a tool call with the key {unknown[0]!r}, which no prompt can hold")
    if call.get("type") not in (None, "function"):
        raise _error(index, f"has a tool call of type {call['type']!r}; only 'function' is known")
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        raise _error(index, "has a tool call without a function name")
    if isinstance(arguments, Mapping):
        arguments = _dump(arguments, index)
    if arguments is not None and not isinstance(arguments, str):
        raise _error(
            index, f"has tool call arguments of type {type(arguments).__name__}; they are JSON text or an object"
        )
    return ToolCall(name, arguments or "", _string(call, "id", index))


def _parse_tool(tool: Mapping[str, Any] | Tool, where: str) -> Tool:
    if isinstance(tool, Tool):
        return tool
    function = tool.get("function") if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or tool.get("type", "function") != "function":
        raise PromptError(f"{where} is no {{'type': 'function', 'function': {{name, description, parameters}}}}.")
    unknown = [*(set(tool) - {"type", "function"}), *(set(function) - {"name", "description", "parameters", "strict"})]
    if unknown:
        raise PromptError(f"{where} has the key {unknown[0]!r}; allowed are name, description, parameters and strict.")
    name, description, parameters = (function.get(key) for key in ("name", "description", "parameters"))
    if not isinstance(name, str) or not name:
        raise PromptError(f"{where} has no function name; it is a string.")
    if description is not None and not isinstance(description, str):
        raise PromptError(f"{where} ({name}) has a description of type {type(description).__name__}; it is a string.")
    if parameters is not None and not isinstance(parameters, Mapping):
        raise PromptError(
            f"{where} ({name}) has parameters of type {type(parameters).__name__}; they are a JSON schema."
        )
    built = Tool(name, description, parameters, bool(function.get("strict")))
    try:
        json.dumps([name, description, parameters], ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PromptError(f"{where} ({name}) cannot be written as JSON: {error}.") from None
    return built


def _dump(value: Mapping[str, Any], index: int) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _error(index, f"has tool call arguments that cannot be written as JSON ({error})") from None


def _string(holder: Mapping[str, Any], key: str, index: int) -> str | None:
    value = holder.get(key)
    if value is not None and not isinstance(value, str):
        raise _error(index, f"has {key} of type {type(value).__name__}; it is a string")
    return value or None


def _checked(message: Message, index: int) -> Message:
    """The message, if all its texts can be encoded: JSON may bring half a surrogate pair, which no tokenizer takes."""
    texts = [message.content]
    if isinstance(message, AssistantMessage):
        texts += [text for call in message.tool_calls for text in (call.name, call.arguments, call.id or "")]
    elif isinstance(message, ToolMessage):
        texts += [message.tool_call_id or "", message.name or ""]
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        raise _error(index, "holds a lone surrogate (half a character); send valid Unicode text") from None
    return message


def _listed(keys: frozenset[str]) -> str:
    return ", ".join(sorted(keys))


def _error(index: int, what: str) -> PromptError:
    return PromptError(f"messages[{index}] {what}.", index=index)
