"""Conversations in the ways that data sets write them: messages of the OpenAI and Mistral APIs, and ShareGPT."""

from __future__ import annotations

import json
from typing import Any

from ostro.chat import AssistantMessage, Message, SystemMessage, Tool, parse_messages, parse_tools
from ostro.errors import PromptError
from ostro.finetune.record_source import Source, shown
from ostro.finetune.records import ChatRecord

_SPEAKERS = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "model", "bot"), "assistant"),
    "system": "system",
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
    "function_call": "function_call",
}


def read_list(source: Source, name: str, value: Any) -> tuple[tuple[Message, ...], tuple[bool, ...]]:
    """Messages and which of them are trained, from a list of them under a key."""
    if not isinstance(value, list) or not value:
        raise source.error(f"the field {name!r} is {shown(value)}; it must be a list with at least one message")
    weights, bare = [], []
    for index, message in enumerate(value):
        if not isinstance(message, dict):
            raise source.error(f"{name}[{index}] is {shown(message)}; a message is an object with role and content")
        message = {key: item for key, item in message.items() if item is not None}
        if not message.get("tool_calls", True):
            del message["tool_calls"]
        weights.append(_weight(source, f"{name}[{index}]", message))
        bare.append(message)
    try:
        messages = parse_messages(bare)
    except PromptError as error:
        raise source.error(str(error).removesuffix(".").replace("messages", name, 1)) from None
    return messages, tuple(
        isinstance(message, AssistantMessage) and weight for message, weight in zip(messages, weights, strict=True)
    )


def _weight(source: Source, where: str, message: dict[str, Any]) -> bool:
    """Whether a message is trained; its `weight`, a mark of the fine-tuning formats, is taken out of it."""
    weight = message.pop("weight", None)
    if message.get("prefix"):
        raise source.error(f"{where} has prefix true, which is for requests; leave it out of training data")
    if weight is None:
        return True
    if message.get("role") != "assistant":
        raise source.error(f"{where} has a weight, and only a message of the assistant can have one; leave it out")
    if isinstance(weight, bool) or weight not in (0, 1):
        raise source.error(f"{where} has the weight {shown(weight)}; it is 0 (not trained) or 1 (trained)")
    return bool(weight)


def read_tools(source: Source) -> tuple[Tool, ...]:
    """The field `tools`: a list of definitions, or, as some data sets have it, JSON text of one."""
    value = source.value.get("tools")
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except (ValueError, RecursionError) as error:
            raise source.error(f"the field 'tools' is text that is no JSON ({error})") from None
    if value is None:
        return ()
    if not isinstance(value, list):
        raise source.error(f"the field 'tools' is {shown(value)}; it must be a list of tools")
    try:
        return parse_tools(value)
    except PromptError as error:
        raise source.error(str(error).removesuffix(".")) from None


def read_system(source: Source, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The field `system`, as the message that begins the conversation, if there is one."""
    if not source.value.get("system"):
        return ()
    if messages and isinstance(messages[0], SystemMessage):
        raise source.error("there is a field 'system' and a system message; leave one of them out")
    return (SystemMessage(source.text(["system"])),)


def conversation(source: Source, messages: tuple[Message, ...], trained: tuple[bool, ...]) -> ChatRecord:
    """The record of some messages, with the system text and the tools that stand beside them."""
    system = read_system(source, messages)
    return ChatRecord((*system, *messages), read_tools(source), (False,) * len(system) + trained, source.place())


def read_messages(source: Source) -> ChatRecord:
    """The format `messages`: those of the OpenAI and Mistral APIs, an assistant's with a `weight` of 0 or 1."""
    return conversation(source, *read_list(source, *source.take(["messages"])))


def read_sharegpt(source: Source) -> ChatRecord:
    """The format `sharegpt`: conversations of {"from": "human", "value": "..."}."""
    name, value = source.take(["conversations"])
    if isinstance(value, list):
        value = [_spoken(source, f"{name}[{index}]", turn) for index, turn in enumerate(value)]
    return conversation(source, *read_list(source, name, value))


def _spoken(source: Source, where: str, turn: Any) -> Any:
    """A turn of ShareGPT as a message; what has a role already is one."""
    if not isinstance(turn, dict) or "role" in turn:
        return turn
    speaker = turn.get("from")
    if speaker not in _SPEAKERS:
        raise source.error(f"{where} has from {shown(speaker)}; it may be {', '.join(_SPEAKERS)}")
    if other := [key for key, value in turn.items() if value is not None and key not in ("from", "value", "weight")]:
        raise source.error(f"{where} has the key {other[0]!r}; allowed are from, value and weight")
    kept = {"weight": turn["weight"]} if turn.get("weight") is not None else {}
    if _SPEAKERS[speaker] != "function_call":
        return {"role": _SPEAKERS[speaker], "content": turn.get("value"), **kept}
    return {"role": "assistant", "tool_calls": _called(source, where, turn.get("value")), **kept}


def _called(source: Source, where: str, value: Any) -> list[dict[str, Any]]:
    try:
        calls = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise source.error(f"{where} is a function_call whose value is no JSON ({error})") from None
    calls = calls if isinstance(calls, list) else [calls]
    for call in calls:
        if not isinstance(call, dict) or set(call) - {"name", "arguments", "id"} or "name" not in call:
            raise source.error(
                f'{where} is a function_call with {shown(call)}; it is {{"name": ..., "arguments": ...}}'
            )
    return [
        {"id": call.get("id"), "function": {key: call[key] for key in ("name", "arguments") if key in call}}
        for call in calls
    ]
