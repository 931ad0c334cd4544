"""What a JSON text nests and holds, seen piece by piece while it arrives, before anything is built from it."""

from __future__ import annotations

import codecs
import re

from ostro.errors import RequestError

# Up to the next thing that matters. No repetition here gives back what it took, so each byte is looked at once.
_OUTSIDE = re.compile(rb'[^"\[\]{}]*+')
_INSIDE = re.compile(
    rb"""(?: [^"\\]++
           | \\(?: [^u]
                 | u(?=[^dD]|[dD][0-7])                                            # no surrogate
                 | u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}  )     # a pair of them
         )*+""",
    re.VERBOSE | re.DOTALL,
)
_PAIR = len(rb"\ud83d\ude00")
_QUOTE, _OPENING = ord('"'), b"[{"


class JsonGuard:
    """Reads a JSON text in pieces and raises RequestError where a parser, or what comes after it, could be hurt.

    That is: nesting beyond `max_depth`; more than `max_values` values; text that is not UTF-8; a NUL, which no JSON in
    UTF-8 has, but UTF-16 does; half a surrogate pair as an escape, which is no character. It does not say whether
    the text is JSON: a parser does.

    >>> guard = JsonGuard(max_depth=2, max_values=10)
    >>> guard.feed(b'{"a": [1, 2], "b": "[[[')
    >>> guard.feed(b'", "c": [[]]}')
    Traceback (most recent call last):
        ...
    ostro.errors.RequestError: The body nests deeper than the 2 levels that this server reads.
    """

    def __init__(self, *, max_depth: int, max_values: int) -> None:
        self._max_depth = max_depth
        self._max_values = max_values
        self._depth = 0
        self._num_values = 0
        self._is_inside = False
        self._rest = b""  # of an escape that the last piece broke
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, piece: bytes) -> None:
        """Look at the next piece."""
        self._check_characters(piece, final=False)
        self._scan(piece, final=False)

    def finish(self) -> None:
        """Say that there is no more."""
        self._check_characters(b"", final=True)
        self._scan(b"", final=True)

    def _check_characters(self, piece: bytes, *, final: bool) -> None:
        if b"\0" in piece:
            raise RequestError("The body is no JSON in UTF-8: it has a NUL character.")
        try:
            self._decoder.decode(piece, final)
        except UnicodeDecodeError:
            raise RequestError("The body is not UTF-8.") from None

    def _scan(self, piece: bytes, *, final: bool) -> None:
        data, at = self._rest + piece, 0
        self._rest = b""
        while at < len(data):
            at = self._in_string(data, at, final) if self._is_inside else self._in_structure(data, at)

    def _in_structure(self, data: bytes, start: int) -> int:
        end = _end(_OUTSIDE, data, start)
        self._num_values += data.count(b",", start, end)
        if end < len(data):
            mark = data[end]
            if mark == _QUOTE:
                self._is_inside = True
            elif mark in _OPENING:
                self._depth += 1
                self._num_values += 1
            else:
                self._depth -= 1
        if self._depth > self._max_depth:
            raise RequestError(f"The body nests deeper than the {self._max_depth} levels that this server reads.")
        if self._num_values > self._max_values:
            raise RequestError(f"The body holds more than the {self._max_values} values that this server reads.")
        return end + 1

    def _in_string(self, data: bytes, start: int, final: bool) -> int:
        end = _end(_INSIDE, data, start)
        if end == len(data):
            return end
        if data[end] == _QUOTE:
            self._is_inside = False
            return end + 1
        if len(data) - end < _PAIR and not final:
            self._rest = data[end:]
        elif data[end + 1 : end + 2]:  # else the text ends within an escape, which the parser will say
            raise RequestError(
                r"The body has half a surrogate pair, such as \ud83d without its \ude00: that is no character."
            )
        return len(data)


def _end(pattern: re.Pattern[bytes], data: bytes, start: int) -> int:
    found = pattern.match(data, start)
    assert found is not None  # it matches the empty string too
    return found.end()
