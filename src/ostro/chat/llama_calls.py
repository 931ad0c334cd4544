"""Calls as Llama 3.1 and 3.2 write them. Behind <|python_tag|>, up to the next one or the end:

    brave_search.call(query="...")      a built-in tool; quotes inside the value are not escaped
    {"name": "f", "parameters": {...}}  one or several custom calls
    anything else                       Python for code_interpreter, where the request has it

And in plain text, which is why a known tool's name is asked for there:

    {"name": "f", "parameters": {...}}
    <function=f>{...}</function>
    [f(a=1), g(b="x")]                  in the pythonic format alone

A call at the beginning of the answer is given as soon as it is whole, and so are those that follow it. Behind other
text an unmarked call counts only if nothing but calls follows: otherwise the model was speaking about a call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ostro.chat.call_json import Brackets, NotACall, json_call, json_head, loads, make_call
from ostro.chat.call_python import pythonic_list
from ostro.chat.call_readers import Item
from ostro.chat.jsontext import dump
from ostro.chat.llama import BUILTIN_TOOLS
from ostro.chat.messages import ToolCall

TAG = "<|python_tag|>"
_INTERPRETER = "code_interpreter"
_BUILTIN = re.compile(r"\s*([^\W\d][\w.]*)\.call\((.*)\)\s*", re.DOTALL)
_FIRST_KEY = re.compile(r'([^\W\d]\w*)="')
_NEXT_KEY = re.compile(r'", ([^\W\d]\w*)="')
_JOINT = re.compile(r"[\s;,]*")
"""What may stand between two calls."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How an unmarked call is written: `heads` are its possible beginnings, spaces outside strings left out.

    A head begins the bracketed value (with Python's strings and brackets if `python`); where there is a `closer`, the
    value stands between the head and that. `read` makes the calls of the whole.
    Of a form that `is_free` a grammar guards some ways of writing it and not all.
    """

    heads: tuple[str, ...]
    read: Callable[[str], Sequence[ToolCall]]
    closer: str = ""
    python: bool = False
    is_free: bool = True


class LlamaCalls:
    """Reads the answers of Llama's formats with tools; see `ostro.chat.call_readers.CallReader`.

    `names` are the tools of the request; `pythonic` adds the pythonic list, `tags` the form
    <tool_call>{...}</tool_call> that some fine-tunes' templates have. `strict` tools are called in the forms that
    `ostro.chat.tool_choice` guards, and in no other.
    """

    def __init__(
        self, names: Iterable[str], *, strict: Iterable[str] = (), pythonic: bool = False, tags: bool = False
    ) -> None:
        self._names = frozenset(names)
        self._strict = {name: re.compile("".join(json_head(name))) for name in strict}
        self._forms = _forms(self._names, pythonic=pythonic, tags=tags)
        self._starts = re.compile("[" + re.escape("".join(self._forms)) + "]")
        self._candidate: _Candidate | None = None
        self._tagged: list[str] | None = None
        self._held: list[_Held] = []
        self._joint = ""
        self._after_call = False
        self._has_spoken = False

    def text(self, text: str) -> Iterator[Item]:
        """Content, or a part of a call."""
        if self._tagged is not None:
            self._tagged.append(text)
            return
        while text:
            if self._candidate is None:
                match = self._starts.search(text)
                before = text if match is None else text[: match.start()]
                yield from self._say(before)
                if match is None:
                    return
                self._candidate = _Candidate(self._forms[match[0]])
                text = text[match.start() :]
            text = yield from self._try(self._candidate, text)

    def marker(self, name: str) -> Iterator[Item]:
        """<|python_tag|> begins a section."""
        yield from self._end_section(is_complete=True)
        if name == TAG:
            self._tagged = []
        else:
            yield from self._say(name)

    def end(self, is_complete: bool, /) -> Iterator[Item]:
        """What was held back: calls if nothing but calls ends the answer."""
        yield from self._end_section(is_complete=is_complete)
        for held in self._held:
            yield from held.calls
        self._held = []

    def _try(self, candidate: _Candidate, text: str) -> Generator[Item, None, str]:
        """Give the text to the candidate; the generator's value is the text that is left to read."""
        try:
            rest = candidate.feed(text)
        except NotACall:
            self._candidate = None
            raw, num_read = candidate.text, candidate.num_read
            yield from self._say(raw[:num_read])
            return raw[num_read:]
        if rest is None:
            return ""
        self._candidate = None
        calls = self._calls_of(candidate)
        yield from self._take(candidate.text, calls, is_marked=False) if calls else self._say(candidate.text)
        return rest

    def _calls_of(self, candidate: _Candidate) -> Sequence[ToolCall]:
        try:
            calls = candidate.form.read(candidate.text)
        except NotACall:
            return ()
        return calls if all(self._is_offered(call, candidate) for call in calls) else ()

    def _is_offered(self, call: ToolCall, candidate: _Candidate) -> bool:
        if call.name in self._strict and candidate.form.is_free:
            return self._strict[call.name].match(candidate.text) is not None
        return call.name in self._names

    def _take(self, raw: str, calls: Sequence[ToolCall], *, is_marked: bool) -> Iterator[Item]:
        raw, self._joint = self._joint + raw, ""
        self._after_call = True
        if self._held or (self._has_spoken and not is_marked):
            self._held.append(_Held(raw, calls, is_marked))
        else:
            yield from calls

    def _say(self, text: str) -> Iterator[Item]:
        """Content; but what may stand between calls waits to see whether another one comes."""
        if self._after_call:
            text, self._joint = self._joint + text, ""
            if _JOINT.fullmatch(text):
                self._joint = text
                return
            self._after_call = False
            for held in self._held:
                yield from held.calls if held.is_marked else (held.raw,)
            self._held = []
        self._has_spoken = self._has_spoken or bool(text.strip())
        if text:
            yield text

    def _end_section(self, *, is_complete: bool) -> Iterator[Item]:
        """The section of a tag, or a candidate that never was whole."""
        candidate, self._candidate = self._candidate, None
        if candidate is not None:
            yield from self._say(candidate.text)
        tagged, self._tagged = self._tagged, None
        if tagged is None:
            return
        text = "".join(tagged)
        calls = self._tagged_calls(text, is_complete=is_complete)
        yield from self._take(TAG + text, calls, is_marked=True) if calls else self._say(TAG + text)

    def _tagged_calls(self, text: str, *, is_complete: bool) -> Sequence[ToolCall]:
        for read in (self._builtin_call, _json_calls):
            try:
                return read(text)
            except NotACall:
                pass
        # Half a program is not to be run.
        if _INTERPRETER in self._names and is_complete and text.strip():
            return [ToolCall(_INTERPRETER, dump({"code": text}))]
        return ()

    def _builtin_call(self, text: str) -> Sequence[ToolCall]:
        """`brave_search.call(query="...")`; values are taken as they stand, for the format escapes nothing."""
        match = _BUILTIN.fullmatch(text)
        if match is None or match[1] not in {*BUILTIN_TOOLS, *self._names}:
            raise NotACall
        name, inside = match[1], match[2]
        if not inside.strip():
            return [make_call(name, {})]
        first = _FIRST_KEY.match(inside)
        if first is None or not inside.endswith('"') or len(inside) == first.end():
            raise NotACall
        parts = [first[1], *_NEXT_KEY.split(inside[first.end() : -1])]
        keys, values = parts[0:1] + parts[2::2], parts[1::2]
        return [make_call(name, dict(zip(keys, values, strict=True)))]


@dataclass(frozen=True, slots=True)
class _Held:
    """Calls behind other text, until it is known that nothing but calls follows."""

    raw: str
    calls: Sequence[ToolCall]
    is_marked: bool


class _Candidate:
    """Text that begins like an unmarked call; `form` is right as soon as the head has been read."""

    def __init__(self, forms: Sequence[_Form]) -> None:
        self.form = forms[0]
        self.num_read = 0
        """Characters of `text` that are no call for certain, after NotACall."""
        self._forms = forms
        self._phase: Literal["head", "gap", "value", "closer", "done"] = "head"
        self._pieces: list[str] = []
        self._length = 0
        self._head = self._raw_head = self._closer = ""
        self._brackets = Brackets()

    @property
    def text(self) -> str:
        """All that was fed, but not what stands behind the call."""
        return "".join(self._pieces)

    def feed(self, text: str) -> str | None:
        """What stands behind the call, None while it is open; NotACall where it is none."""
        before = self._length
        self._length += len(text)
        self._pieces.append(text)
        rest = text
        try:
            while rest and self._phase != "done":
                rest = self._step(rest)
        except _Mistaken as mistaken:
            self.num_read = 1 if self._phase == "head" else before + len(text) - len(rest) + mistaken.position
            raise NotACall from None
        if self._phase != "done":
            return None
        self._pieces[-1] = text[: len(text) - len(rest)]
        return rest

    def _step(self, text: str) -> str:
        match self._phase:
            case "head":
                return self._read_head(text)
            case "gap":
                return self._read_gap(text)
            case "value":
                return self._read_value(text)
            case _:
                return self._read_closer(text)

    def _read_head(self, text: str) -> str:
        for number, char in enumerate(text, 1):
            self._raw_head += char
            if self._completes_head(char):
                self._brackets = Brackets(python=self.form.python)
                self._phase = "gap" if self.form.closer else "value"
                if not self.form.closer:
                    self._brackets.feed(self._raw_head)
                return text[number:]
        return ""

    def _completes_head(self, char: str) -> bool:
        if char.isspace() and self._head.count('"') % 2 == 0:
            return False
        self._head += char
        begun = [form for form in self._forms if any(head.startswith(self._head) for head in form.heads)]
        if not begun:
            raise _Mistaken(0)
        self.form = begun[0]
        return self._head in self.form.heads

    def _read_gap(self, text: str) -> str:
        value = text.lstrip()
        if value:
            self._phase = "value"
            if value[0] != "{":
                raise _Mistaken(len(text) - len(value))
        return value

    def _read_value(self, text: str) -> str:
        try:
            end = self._brackets.feed(text)
        except NotACall:
            raise _Mistaken(self._brackets.position) from None
        if end is None:
            return ""
        self._phase = "closer" if self.form.closer else "done"
        return text[end:]

    def _read_closer(self, text: str) -> str:
        for number, char in enumerate(text, 1):
            if char.isspace() and not self._closer:
                continue
            self._closer += char
            if not self.form.closer.startswith(self._closer):
                raise _Mistaken(number - 1)
            if self._closer == self.form.closer:
                self._phase = "done"
                return text[number:]
        return ""


class _Mistaken(Exception):  # noqa: N818 - a finding, which never leaves this file
    """The text is no call: `position` of the rest may belong to something else."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.position = position


def _forms(names: Iterable[str], *, pythonic: bool, tags: bool) -> dict[str, tuple[_Form, ...]]:
    """The unmarked forms by the character that begins them."""
    quoted = [dump(name) for name in sorted(names)]
    heads = [f'{{"{key}":{name}' for name in quoted for key in ("name", "function")]
    others = ['{"type":"function"', '{"id":"', *(f'{{"{key}":{{' for key in ("parameters", "arguments", "function"))]
    forms: dict[str, tuple[_Form, ...]] = {"{": (_Form((*heads, *others), lambda text: [json_call(text)]),)}
    bracketed = [_Form((f"<function={name}>",), _function_reader(name), "</function>") for name in sorted(names)]
    if tags:
        bracketed.append(_Form(("<tool_call>",), _tag_call, "</tool_call>", is_free=False))
    forms["<"] = tuple(bracketed)
    if pythonic:
        forms["["] = (_Form(tuple(f"[{name}(" for name in sorted(names)), pythonic_list, python=True, is_free=False),)
    return forms


def _function_reader(name: str) -> Callable[[str], Sequence[ToolCall]]:
    return lambda text: [make_call(name, loads(text[text.index(">") + 1 : text.rindex("</function>")]))]


def _tag_call(text: str) -> Sequence[ToolCall]:
    return [json_call(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))]


def _json_calls(text: str) -> Sequence[ToolCall]:
    """Objects one behind another, and nothing but `_JOINT` between them."""
    calls = []
    rest = text.strip()
    while rest:
        if not rest.startswith("{"):
            raise NotACall
        end = Brackets().feed(rest)
        if end is None:
            raise NotACall
        calls.append(json_call(rest[:end]))
        rest = _JOINT.sub("", rest[end:], count=1)
    if not calls:
        raise NotACall
    return calls
