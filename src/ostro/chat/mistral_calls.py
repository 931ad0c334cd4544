"""Calls as the Mistral formats write them, behind [TOOL_CALLS].

    v2, v3, v7   [TOOL_CALLS] [{"name": "f", "arguments": {...}, "id": "..."}, ...]
    v11          [TOOL_CALLS] f [CALL_ID] id [ARGS] {...}      once for each call
    v13          [TOOL_CALLS] f [ARGS] {...}                   once for each call

All are read whatever the version, because checkpoints mix them: models of v3 leave the id out, some of v11 leave
[CALL_ID] or [ARGS] out. A call is given as soon as it is whole. Where a section goes wrong, all of it that is not yet
given is content, and so is what follows up to the next [TOOL_CALLS].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

from ostro.chat.call_json import Brackets, NotACall, json_call, loads, make_call
from ostro.chat.call_readers import Item
from ostro.chat.messages import ToolCall

_Phase: TypeAlias = Literal["begin", "item", "object", "separator", "name", "id", "args", "arguments", "done"]
_BEGIN, _ID, _ARGS = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"


class MistralCalls:
    """Reads the answers of every Mistral format with tools; see `ostro.chat.call_readers.CallReader`."""

    def __init__(self) -> None:
        self._section: _Section | None = None

    def text(self, text: str) -> Iterator[Item]:
        """Content, or more of a section."""
        if self._section is None:
            yield text
            return
        try:
            yield from self._section.text(text)
        except NotACall:
            yield from self._give_up(broken=True)

    def marker(self, name: str) -> Iterator[Item]:
        """A section begins or goes on."""
        if name == _BEGIN:
            yield from self._give_up()
            self._section = _Section()
        elif self._section is None:
            yield name
        else:
            try:
                self._section.marker(name)
            except NotACall:
                yield from self._give_up(broken=True)

    def end(self, _is_complete: bool, /) -> Iterator[Item]:
        """What the last section has left is content."""
        yield from self._give_up()

    def _give_up(self, *, broken: bool = False) -> Iterator[Item]:
        section, self._section = self._section, None
        if section is not None and (rest := section.rest(broken=broken)):
            yield rest


class _Section:
    """One [TOOL_CALLS] and what follows it.

    `_raw` is all that was read and belongs to no call that was given. `_phase` says what comes next: begin (a list, an
    object or a name), item, object (inside one), separator (behind an item of a list), name, id, args, arguments
    (inside them), done.
    """

    def __init__(self) -> None:
        self._raw = [_BEGIN]
        self._phase: _Phase = "begin"
        self._brackets = Brackets()
        self._value: list[str] = []
        self._name: list[str] = []
        self._id: list[str] = []
        self._in_list = False
        self._has_given = False

    def rest(self, *, broken: bool) -> str:
        """What is content if nothing more comes; a list whose calls were all given may lack its end."""
        rest = "".join(self._raw)
        is_whole = not broken and self._has_given and self._phase in ("separator", "item", "done")
        return "" if is_whole and not rest.strip(", \n\r\t") else rest

    def marker(self, name: str) -> None:
        """[CALL_ID] or [ARGS]; NotACall where it does not belong."""
        self._raw.append(name)
        if name == _ID and self._phase == "name":
            self._phase = "id"
        elif name == _ARGS and self._phase in ("name", "id"):
            self._phase = "args"
        else:
            raise NotACall

    def text(self, text: str) -> Iterator[ToolCall]:
        """The calls that the text completes. NotACall where it goes wrong; `rest` then holds all that is left."""
        self._raw.append(text)
        while text:
            if self._phase in ("object", "arguments"):
                end = self._brackets.feed(text)
                self._value.append(text[:end])
                if end is None:
                    return
                text = text[end:]
                call = self._read()
                self._raw = [text]
                yield call
            elif self._phase in ("name", "id"):
                text = self._word(text)
            else:
                text = self._mark(text)

    def _read(self) -> ToolCall:
        value = "".join(self._value)
        if self._phase == "object":
            call = json_call(value)
        else:
            call = make_call("".join(self._name).strip(), loads(value), "".join(self._id).strip() or None)
        self._phase = "separator" if self._in_list else "done"
        self._has_given = True
        return call

    def _word(self, text: str) -> str:
        """A name or an id goes up to its marker, or to the arguments where that is missing."""
        brace = text.find("{")
        word = text if brace < 0 else text[:brace]
        (self._name if self._phase == "name" else self._id).append(word)
        if brace >= 0:
            self._phase = "args"
        return text[len(word) :]

    def _mark(self, text: str) -> str:
        """One character that decides what comes next, behind spaces."""
        text = text.lstrip()
        if not text:
            return ""
        match self._phase, text[0]:
            case ("begin", "["):
                self._phase, self._in_list = "item", True
            case ("begin" | "item", "{"):
                return self._open("object", text)
            case ("args", "{"):
                return self._open("arguments", text)
            case ("begin", _):
                self._phase = "name"
                return text
            case ("separator", ","):
                self._phase = "item"
            case ("separator", "]"):
                self._phase, self._raw = "done", [text[1:]]
            case _:
                raise NotACall
        return text[1:]

    def _open(self, phase: Literal["object", "arguments"], text: str) -> str:
        self._phase, self._brackets, self._value = phase, Brackets(), []
        return text
