"""JSON of calls, in text that comes in pieces: where a value ends, and what call an object is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ostro.chat.messages import ToolCall

MAX_DEPTH = 64
"""Deeper nesting is no call: nobody means it, and reading it would cost more than it is worth."""

_CALL_KEYS = frozenset({"name", "arguments", "parameters", "id", "type", "function"})
_CLOSERS = {"{": "}", "[": "]", "(": ")"}
_IN_JSON = re.compile(r'["{}\[\]]')
_IN_PYTHON = re.compile(r"[\"'{}\[\]()]")
_IN_STRING = {'"': re.compile(r'["\\]'), "'": re.compile(r"['\\]")}


GAP = r"[ \n]{0,2}"
"""Spaces where the model may put some, bounded so that a grammar does not let it go on with them for ever."""


def json_head(name: str) -> tuple[str, str]:
    """Two regular expressions, of a call of this tool up to its name, and of what follows up to the parameters.

    A grammar guards what they match, so calls of a strict tool are taken in this form alone.
    """
    kind = f'("type"{GAP}:{GAP}"function"{GAP},{GAP})?'
    quoted = re.escape(json.dumps(name, ensure_ascii=False))
    return rf'\{{{GAP}{kind}"name"{GAP}:{GAP}{quoted}', f'{GAP},{GAP}"parameters"{GAP}:{GAP}'


class NotACall(ValueError):  # noqa: N818 - a finding, which never leaves this package
    """The text is no call, or none that can be read."""


class Brackets:
    """Finds the end of a bracketed value, and looks at each character once.

    `python`: round brackets and single quotes count too. `position` is the index in the text last fed behind the last
    character that meant something: behind the wrong bracket, after NotACall.

    >>> brackets = Brackets()
    >>> brackets.feed('{"a": "}'), brackets.feed('"} and more')
    (None, 2)
    """

    def __init__(self, *, python: bool = False) -> None:
        self._special = _IN_PYTHON if python else _IN_JSON
        self._open: list[str] = []
        self._quote: str | None = None
        self._escaped = False
        self.position = 0

    def feed(self, text: str) -> int | None:
        """The index in `text` behind the value's last character, None while it is open; NotACall at a wrong bracket."""
        self.position = 0
        while self.position < len(text):
            if self._escaped:
                self._escaped = False
                self.position += 1
                continue
            pattern = _IN_STRING[self._quote] if self._quote else self._special
            match = pattern.search(text, self.position)
            if match is None:
                return None
            self.position = match.end()
            self._take(match[0])
            if not self._open:
                return self.position
        return None

    def _take(self, char: str) -> None:
        if char == "\\":
            self._escaped = True
        elif self._quote:
            self._quote = None
        elif char in _CLOSERS:
            self._open.append(_CLOSERS[char])
            if len(self._open) > MAX_DEPTH:
                raise NotACall
        elif char in "\"'":
            self._quote = char
        elif not self._open or self._open.pop() != char:
            raise NotACall


def json_call(text: str) -> ToolCall:
    """The call of an object such as `{"name": "f", "arguments": {...}}`; NotACall where it is none.

    The arguments may be called `parameters`, be JSON inside a string, or be missing (none). `{"type": "function",
    "function": {...}}` and `"function"` for the name are read too. Any other key makes it no call: it would be lost.
    """
    value = loads(text)
    if isinstance(value, dict) and isinstance(value.get("function"), dict) and set(value) <= {"type", "function", "id"}:
        value = {**{key: value[key] for key in ("type", "id") if key in value}, **value["function"]}
    if not isinstance(value, dict) or not _CALL_KEYS.issuperset(value) or value.get("type", "function") != "function":
        raise NotACall
    if {"name", "function"} <= value.keys() or {"arguments", "parameters"} <= value.keys():
        raise NotACall
    call_id = value.get("id")
    arguments = value.get("arguments", value.get("parameters"))
    return make_call(value.get("name", value.get("function")), arguments, call_id if isinstance(call_id, str) else None)


def make_call(name: object, arguments: object, call_id: str | None = None) -> ToolCall:
    """A call with the arguments as JSON text; NotACall where the name is no word or the arguments are no object."""
    if not isinstance(name, str) or not name or not name.isprintable() or " " in name:
        raise NotACall
    if isinstance(arguments, str):
        arguments = loads(arguments)
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise NotACall
    try:
        text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
        f"{name}{text}".encode()
    except (ValueError, RecursionError):  # 1e999, or half a surrogate pair
        raise NotACall from None
    return ToolCall(name, text, call_id)


def loads(text: str) -> Any:
    """The value of JSON text, line breaks inside strings allowed; NotACall where it is none."""
    try:
        return json.loads(text, strict=False, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise NotACall from None


def _refuse(_constant: str) -> None:
    raise NotACall
