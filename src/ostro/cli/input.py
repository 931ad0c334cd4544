"""Where a prompt comes from: the command line, stdin, or a file of messages."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostro.errors import PromptError, RequestError

_KEYS = ("messages", "tools", "safe_prompt", "chat_format", "today")


@dataclass(frozen=True)
class Conversation:
    """Messages, tools and what else stood in the prompt, as the JSON file of `/save` states them."""

    messages: list[Mapping[str, Any]]
    tools: list[Mapping[str, Any]] | None
    safe_prompt: bool = False
    chat_format: str | None = None
    today: datetime.date | None = None

    @property
    def ends_with_answer(self) -> bool:
        """Whether the last message is the assistant's, so that no answer is asked for."""
        return bool(self.messages) and self.messages[-1].get("role") == "assistant"

    @property
    def num_characters(self) -> int:
        """Characters that the caller wrote: every text of the messages, and the tools as JSON."""
        from json import dumps

        texts = [
            m["content"] if isinstance(m.get("content"), str) else dumps(m, ensure_ascii=False) for m in self.messages
        ]
        return sum(map(len, texts)) + (len(dumps(self.tools, ensure_ascii=False)) if self.tools else 0)


def decode(data: bytes, what: str = "stdin") -> str:
    """The text of bytes; RequestError where they are not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(
            f"{what} is not UTF-8 text: byte {data[error.start]:#04x} at position {error.start}. Convert it, such as "
            "with iconv.",
            param="prompt",
        ) from None


def piped() -> str | None:
    """What stdin brings, without the line end of its last line; None when stdin is a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        return None
    return decode(sys.stdin.buffer.read()).removesuffix("\n").removesuffix("\r")


def text_or_stdin(text: str | None) -> str:
    """The text given, else what stdin brings, else ""."""
    return text if text is not None else (piped() or "")


def read_conversation(path: Path) -> Conversation:
    """A JSON file: a list of messages, or an object with `messages` and perhaps `tools` and the rest of what `/save`
    in `ostro chat` writes; "-" is stdin.
    """
    name, value = _read_json(path)
    if isinstance(value, list):
        value = {"messages": value}
    messages = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise PromptError(f'{name} must hold a list of messages, or an object {{"messages": [...], "tools": [...]}}.')
    unknown = sorted(set(value) - set(_KEYS))
    if unknown:
        raise PromptError(f"{name} has the key {unknown[0]!r}; only {', '.join(_KEYS)} are read.")
    for key, kind, words in (
        ("tools", list, "a list"),
        ("safe_prompt", bool, "true or false"),
        ("chat_format", str, "the name of a prompt format"),
        ("today", str, "a date as YYYY-MM-DD"),
    ):
        if value.get(key) is not None and not isinstance(value[key], kind):
            raise PromptError(f"{name}: {key} must be {words}.")
    return Conversation(
        messages,
        value.get("tools"),
        value.get("safe_prompt") or False,
        value.get("chat_format"),
        _date(name, value.get("today")),
    )


def read_tools(path: Path) -> list[Mapping[str, Any]]:
    """The definitions of a JSON file: a list of them, or an object whose `tools` are one."""
    name, value = _read_json(_own_file(path, "tools"))
    tools = value.get("tools") if isinstance(value, dict) else value
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise PromptError(f'{name} must hold a list of tool definitions, or an object {{"tools": [...]}}.')
    return tools


def read_schema(path: Path) -> Any:
    """The JSON schema in a file."""
    return _read_json(_own_file(path, "schema"))[1]


def read_grammar(path: Path) -> str:
    """The grammar in a file, as it stands."""
    name, data = _read(_own_file(path, "grammar"))
    return decode(data, name)


def _own_file(path: Path, what: str) -> Path:
    if str(path) == "-":
        raise PromptError(f"The {what} must come from a file: stdin brings what is said.")
    return path


def _read_json(path: Path) -> tuple[str, Any]:
    """What to call the file, and its value."""
    import json

    name, data = _read(path)
    try:
        return name, json.loads(decode(data, name))
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{name} is not valid JSON: {error}.") from None


def _read(path: Path) -> tuple[str, bytes]:
    """What to call the file, and its content."""
    name = "stdin" if str(path) == "-" else str(path)
    try:
        return name, sys.stdin.buffer.read() if name == "stdin" else path.expanduser().read_bytes()
    except OSError as error:
        raise PromptError(f"{name} cannot be read: {error.strerror}.") from None


def _date(name: str, text: str | None) -> datetime.date | None:
    try:
        return None if text is None else datetime.date.fromisoformat(text)
    except ValueError:
        raise PromptError(f"{name}: today must be a date as YYYY-MM-DD, not {text!r}.") from None
