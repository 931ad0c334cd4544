"""From what the engine gives of an answer to content and tool calls, piece by piece and all at once alike.

There is one parser. A whole answer is the same parser fed once, so the pieces of a streamed answer join to the answer
that is not streamed, however the engine cut them. docs/prompts.md says what is read as a call in which format.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from ostro.chat.call_readers import CallReader, Item, PlainReader
from ostro.chat.call_styles import call_style
from ostro.chat.llama_calls import LlamaCalls
from ostro.chat.marked import Event, MarkedText
from ostro.chat.messages import Tool, ToolCall
from ostro.chat.mistral_calls import MistralCalls
from ostro.chat.render import ChatFormat
from ostro.chat.tool_ids import ALPHABET, is_mistral_id
from ostro.tokenizer.base import Tokenizer


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More content."""

    text: str


@dataclass(frozen=True, slots=True)
class CallDelta:
    """A whole call, the `index`th of the answer (from 0). Its `arguments` are the JSON text of an object."""

    index: int
    call: ToolCall


AnswerDelta: TypeAlias = TextDelta | CallDelta


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer says and calls."""

    content: str
    tool_calls: tuple[ToolCall, ...]


class AnswerParser:
    """Reads one answer as it comes.

    `format` is that of the prompt, `tools` and `builtin_tools` are those that the prompt was rendered with; without
    any nothing is read as a call, and the control tokens that would mark one stand in the content by their names.
    `at_start` is `not prompt.is_open`, `skip_special_tokens` that of the `SamplingParams`.

    A call has an id of nine letters and digits: the model's own where it writes such a one that is not in `used_ids`
    (those of the conversation) nor of an earlier call, else one drawn from `draws` (by default the system's).

    What looks like a call and cannot be read as one is content, character for character. Spaces in front of the first
    call, where there is no other content, between calls and behind the last are left out; all else is kept.

    >>> from ostro.chat import named_format, parse_tools
    >>> from ostro.tokenizer.mistral import bundled
    >>> tokenizer = bundled("v3")
    >>> tools = parse_tools([{"function": {"name": "look"}}])
    >>> parser = AnswerParser(named_format("mistral-v3"), tokenizer, tools=tools, at_start=True)
    >>> text = '[{"name": "look", "arguments": {"at": "it"}, "id": "abcdefghi"}]'
    >>> parser.feed([tokenizer.control_id("[TOOL_CALLS]"), *tokenizer.encode(text)], text)
    [CallDelta(index=0, call=ToolCall(name='look', arguments='{"at": "it"}', id='abcdefghi'))]
    >>> parser.finish("stop"), parser.answer.content
    ([], '')
    """

    def __init__(
        self,
        format: ChatFormat,
        tokenizer: Tokenizer,
        *,
        tools: Sequence[Tool],
        at_start: bool,
        builtin_tools: Sequence[str] = (),
        skip_special_tokens: bool = True,
        used_ids: Collection[str] = (),
        draws: random.Random | None = None,
    ) -> None:
        self._marked = MarkedText(tokenizer, at_start=at_start, skip_special_tokens=skip_special_tokens)
        self._reader = _reader(format, tokenizer, tools, builtin_tools)
        self._holds_spaces = not isinstance(self._reader, PlainReader)
        self._draws = draws or random.SystemRandom()
        self._used_ids = set(used_ids)
        self._content: list[str] = []
        self._calls: list[ToolCall] = []
        self._spaces = ""
        self._is_between = True
        self._finished = False

    @property
    def answer(self) -> Answer:
        """All that was given out so far; the whole answer after `finish`."""
        return Answer("".join(self._content), tuple(self._calls))

    def feed(self, token_ids: Sequence[int], text: str) -> list[AnswerDelta]:
        """What is certain with further ids and the text that the engine gave with them (`StreamChunk`)."""
        assert not self._finished
        return self._joined(item for event in self._marked.push(token_ids, text) for item in self._read(event))

    def finish(self, finish_reason: str | None) -> list[AnswerDelta]:
        """The rest. An answer that "length" or "abort" cut short is not taken for the program that it may begin."""
        assert not self._finished
        self._finished = True
        items = [item for event in self._marked.finish() for item in self._read(event)]
        items += self._reader.end(finish_reason not in ("length", "abort"))
        deltas = self._joined(items)
        rest = self._spaces if not self._calls else ""
        if rest:
            self._content.append(rest)
            deltas.append(TextDelta(rest))
        return deltas

    def _read(self, event: Event) -> Iterator[Item]:
        if isinstance(event, str):
            return self._reader.text(event)
        return self._reader.marker(event.name)

    def _joined(self, items: Iterable[Item]) -> list[AnswerDelta]:
        """Deltas; pieces of content in a row are one."""
        deltas: list[AnswerDelta] = []
        for item in items:
            if isinstance(item, ToolCall):
                self._spaces, self._is_between = "", True
                self._calls.append(self._identified(item))
                deltas.append(CallDelta(len(self._calls) - 1, self._calls[-1]))
                continue
            text = self._without_spaces(item)
            if not text:
                continue
            self._content.append(text)
            last = deltas[-1] if deltas else None
            if isinstance(last, TextDelta):
                deltas[-1] = TextDelta(last.text + text)
            else:
                deltas.append(TextDelta(text))
        return deltas

    def _without_spaces(self, text: str) -> str:
        """The text, behind the spaces that were held; "" as long as there are only spaces beside a call."""
        if not (self._holds_spaces and self._is_between):
            return text
        text, self._spaces = self._spaces + text, ""
        if text.isspace():
            self._spaces = text
            return ""
        self._is_between = not text
        return text

    def _identified(self, call: ToolCall) -> ToolCall:
        call_id = call.id
        while call_id is None or not is_mistral_id(call_id) or call_id in self._used_ids:
            call_id = "".join(self._draws.choices(ALPHABET, k=9))
        self._used_ids.add(call_id)
        return replace(call, id=call_id)


def parse_answer(parser: AnswerParser, token_ids: Sequence[int], text: str, finish_reason: str | None) -> Answer:
    """A whole answer, by a parser that has read nothing yet."""
    parser.feed(token_ids, text)
    parser.finish(finish_reason)
    return parser.answer


def _reader(
    format: ChatFormat, tokenizer: Tokenizer, tools: Sequence[Tool], builtin_tools: Sequence[str]
) -> CallReader:
    names = [*(tool.name for tool in tools), *builtin_tools]
    style = call_style(format, tokenizer) if names else None
    match style:
        case None:
            return PlainReader()
        case "mistral-list" | "mistral-args":
            return MistralCalls()
        case _:
            strict = [tool.name for tool in tools if tool.strict]
            return LlamaCalls(names, strict=strict, pythonic=style == "llama-pythonic", tags=style == "tags")
