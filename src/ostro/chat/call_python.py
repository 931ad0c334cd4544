"""The pythonic calls of Llama 3.2, `[f(a=1), g(b="x")]`, read without Python's own parser.

What a model writes is no more to be trusted than a user's text; the literals here are a small language with a bound on
its depth.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ostro.chat.call_json import MAX_DEPTH, NotACall, make_call
from ostro.chat.messages import ToolCall

_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_STRING = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", re.DOTALL)
_SPACE = re.compile(r"\s*")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{1,3}|.)", re.DOTALL)
_SIMPLE = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "/": "/", "\n": "",
}  # fmt: skip
_CONSTANTS = {"True": True, "False": False, "None": None, "true": True, "false": False, "null": None}


def pythonic_list(text: str) -> list[ToolCall]:
    """The calls of a list such as `[f(a=1), g(b="x")]`, one at least; NotACall where it is something else."""
    reader = _Reader(text)
    reader.expect("[")
    calls = [reader.call()]
    while reader.skip(","):
        calls.append(reader.call())
    reader.expect("]")
    if not reader.is_at_end:
        raise NotACall
    return calls


class _Reader:
    """Reads from left to right; every method raises NotACall at what it does not know."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    @property
    def is_at_end(self) -> bool:
        self._match(_SPACE)
        return self._at == len(self._text)

    def skip(self, mark: str) -> bool:
        """Whether `mark` comes next, behind spaces; it is then passed."""
        self._match(_SPACE)
        found = self._text.startswith(mark, self._at)
        self._at += len(mark) * found
        return found

    def expect(self, mark: str) -> None:
        if not self.skip(mark):
            raise NotACall

    def call(self) -> ToolCall:
        """`name(key=value, ...)`."""
        name = self._name()
        self.expect("(")
        arguments: dict[str, Any] = {}
        while not self.skip(")"):
            if arguments:
                self.expect(",")
            key = self._name()
            if key in arguments:
                raise NotACall
            self.expect("=")
            arguments[key] = self._value()
        return make_call(name, arguments)

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()
        return match

    def _name(self) -> str:
        self._match(_SPACE)
        match = self._match(_NAME)
        if match is None:
            raise NotACall
        return match[0]

    def _value(self) -> Any:
        self._match(_SPACE)
        if match := self._match(_STRING):
            return _unescaped(match[1] if match[1] is not None else match[2])
        if match := self._match(_NUMBER):
            return _number(match[0])
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotACall
        if self.skip("["):
            value: Any = self._items("]")
        elif self.skip("("):
            value = self._items(")")
        elif self.skip("{"):
            value = self._entries()
        else:
            value = self._constant()
        self._depth -= 1
        return value

    def _items(self, closer: str) -> list[Any]:
        items: list[Any] = []
        while not self.skip(closer):
            if items:
                self.expect(",")
                if self.skip(closer):
                    break
            items.append(self._value())
        return items

    def _entries(self) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not self.skip("}"):
            if entries:
                self.expect(",")
                if self.skip("}"):
                    break
            key = self._value()
            if not isinstance(key, str):
                raise NotACall
            self.expect(":")
            entries[key] = self._value()
        return entries

    def _constant(self) -> Any:
        name = self._name()
        if name not in _CONSTANTS:
            raise NotACall
        return _CONSTANTS[name]


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        pass
    if text.lstrip("+-").isdigit():  # more digits than Python reads
        raise NotACall
    return float(text)


def _unescaped(text: str) -> str:
    """The value of a string literal; an escape that Python does not know stays as it is."""

    def char(match: re.Match[str]) -> str:
        code = match[1]
        if code in _SIMPLE:
            return _SIMPLE[code]
        if code[0] in "xuU" and len(code) > 1:
            number = int(code[1:], 16)
            if number > 0x10FFFF:
                raise NotACall
            return chr(number)
        return chr(int(code, 8)) if code.isdigit() and code.isascii() and code < "8" else match[0]

    plain = _ESCAPE.sub(char, text) if "\\" in text else text
    # Two escapes of a surrogate pair are one character, as in JSON.
    return json.loads(json.dumps(plain)) if any("\ud800" <= c <= "\udfff" for c in plain) else plain
