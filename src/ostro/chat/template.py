"""A checkpoint's own Jinja template, for models whose family's renderer does not apply.

A template knows control tokens as text, and users may write the same text. So before rendering, the characters of the
callers' strings that could be part of a control token's name are exchanged for private ones, and exchanged back behind
the rendering, when the control tokens of the template itself have been found. The text between two control tokens is
encoded in one piece, so for harmless messages the ids are those that transformers would give. Whose words the tokens
are is found by `ostro.chat.origins`.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

from ostro.chat.jsontext import arguments_of, tool_object
from ostro.chat.messages import AssistantMessage, Message, Role, Tool, ToolMessage
from ostro.chat.normalize import Conversation
from ostro.chat.origins import UNKNOWN, Marks, split_by_owner
from ostro.chat.rules import FormatRules
from ostro.chat.segments import Prompt, PromptBuilder, Segment
from ostro.errors import PromptError
from ostro.tokenizer.base import Tokenizer

# Mistral's own templates, and those that compare an id's length with 9.
_WANTS_NINE = re.compile(r"\[TOOL_CALLS\]|\blength[\s)]*[!=<>]=?\s*9\b")
_ESCAPED_PRIVATE = re.compile(r"\\udb[89a-f][0-9a-f]\\ud[c-f][0-9a-f]{2}")
_MASKS, _MARKS = 0xF0000, 0x100000
"""Private planes of Unicode."""

# What templates look up and compare: words of the messages' form, which stay whatever the control tokens are called.
_KEYS = frozenset(
    {
        *("role", "content", "tool_calls", "tool_call_id", "id", "type", "function", "name", "arguments"),
        *("description", "parameters", "properties", "required", "items", "enum"),
    }
)
_VALUES = {"role": frozenset(get_args(Role)), "type": frozenset({"function"})}


@dataclass(frozen=True, slots=True)
class TemplateFormat:
    """A Jinja template as `tokenizer_config.json` or `chat_template.jinja` holds it."""

    source: str

    @property
    def name(self) -> str:
        """As in `named_format`."""
        return "template"

    @property
    def stop_tokens(self) -> tuple[str, ...]:
        """What ends a turn in the templates of the field, besides EOS."""
        return ("</s>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|im_end|>")

    @property
    def rules(self) -> FormatRules:
        """A template decides by itself what it can express, so nothing is merged or moved.

        Ids of calls are made nine letters and digits only for a template that asks for it: one that writes Mistral's
        [TOOL_CALLS], or that compares a length with 9.
        """
        return FormatRules(
            name=self.name,
            tools=True,
            merge_turns=False,
            fold_system=False,
            user_first=False,
            content_with_calls=True,
            parallel_calls=True,
            sort_results=False,
            nine_character_ids=_WANTS_NINE.search(self.source) is not None,
            answer_after_answer=True,
        )

    def render(
        self,
        tokenizer: Tokenizer,
        conversation: Conversation,
        tools: Sequence[Tool],
        *,
        today: datetime.date | None = None,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """Segments of a conversation. PromptError if the template fails, refuses, or takes too many steps.

        Exactly one BOS stands at the start, whether the template writes one, two or none; where the checkpoint says
        that text has none (`Tokenizer.adds_bos`), there is one only if the template writes it.
        """
        messages = [_message(turn.message) for turn in conversation.turns]
        definitions = [tool_object(tool) for tool in tools]
        strings = [*_strings(messages), *_strings(definitions)]
        mask = _Mask(tokenizer.control_tokens, strings)
        context = {
            "documents": None,
            "add_generation_prompt": add_generation_prompt and not conversation.is_open,
            "bos_token": _name(tokenizer, tokenizer.bos_id),
            "eos_token": _name(tokenizer, tokenizer.eos_id),
        }
        rendering = _Rendering(self.source, mask, today, conversation, context)
        messages, definitions = mask.tree(messages), mask.tree(definitions)
        rendered = rendering.run(messages, definitions)
        owners = _owners(rendering, rendered, messages, definitions, strings)
        out = PromptBuilder(tokenizer)
        out.extend(_segments(tokenizer, mask, rendered, owners))
        return out.build(self.name, self.stop_tokens, conversation, is_open=conversation.is_open)


class _Mask:
    """Exchanges characters of the callers' strings so that they spell no control token, nor a part of one at an end.

    `end` is a mark for the end of a message that is to be continued.
    """

    def __init__(self, control_tokens: Iterable[str], strings: Iterable[str]) -> None:
        self._names = sorted(filter(None, control_tokens), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._names))) if self._names else re.compile(r"(?!)")
        characters = sorted(set("".join(self._names)))
        first = _free_block(strings, len(characters) + 1, _MASKS)
        self._masked = {ord(c): chr(first + 1 + n) for n, c in enumerate(characters)}
        self._plain = {ord(m): chr(c) for c, m in self._masked.items()}
        self.end = chr(first)
        self.private = frozenset(map(chr, range(first, first + 1 + len(characters))))
        self._heads, self._tails = _ends(tuple(self._names))
        self._longest = max(map(len, self._names), default=0)

    def tree(self, value: Any, key: object = None) -> Any:
        """The value with all its strings masked, those of keys too, but for the words of the messages' form."""
        if isinstance(value, str):
            return value if value in _VALUES.get(str(key), ()) else self.text(value)
        if isinstance(value, Mapping):
            return {name if name in _KEYS else self.tree(name): self.tree(item, name) for name, item in value.items()}
        return [self.tree(item) for item in value] if isinstance(value, (list, tuple)) else value

    def text(self, text: str) -> str:
        """Names of control tokens masked; so is a first or last character that could complete one begun outside."""
        text = self._pattern.sub(lambda match: match.group().translate(self._masked), text)
        if text and self._could_end_one(text):
            text = text[0].translate(self._masked) + text[1:]
        if text and self._could_begin_one(text):
            text = text[:-1] + text[-1].translate(self._masked)
        return text

    def plain(self, text: str) -> str:
        """The text as it was before masking."""
        return text.translate(self._plain)

    def split(self, rendered: str) -> Iterator[tuple[str, bool]]:
        """Runs of the rendering, and whether each is a control token of the template."""
        position = 0
        for match in self._pattern.finditer(rendered):
            if position < match.start():
                yield rendered[position : match.start()], False
            yield match.group(), True
            position = match.end()
        if position < len(rendered):
            yield rendered[position:], False

    def _could_end_one(self, text: str) -> bool:
        """Whether the text begins with the rest of a name, or is a piece out of the middle of one."""
        if any(text[:length] in self._tails for length in range(1, self._longest)):
            return True
        return len(text) < self._longest and any(text in name[1:-1] for name in self._names)

    def _could_begin_one(self, text: str) -> bool:
        return any(text[-length:] in self._heads for length in range(1, self._longest))


@lru_cache(maxsize=8)
def _ends(names: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """Every proper beginning and every proper end of the names."""
    heads = (name[:length] for name in names for length in range(1, len(name)))
    return frozenset(heads), frozenset(name[start:] for name in names for start in range(1, len(name)))


def _free_block(strings: Iterable[str], size: int, plane: int) -> int:
    """The first of `size` code points of a private plane that no string uses."""
    used = set(map(ord, set("".join(strings))))
    for first in range(plane, plane + 0xFFFE - size, size):
        if used.isdisjoint(range(first, first + size)):
            return first
    raise PromptError(
        "The messages use all characters of a private plane of Unicode; leave "
        f"U+{plane:X} to U+{plane + 0xFFFD:X} free."
    )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _strings(item)


def _message(message: Message) -> dict[str, Any]:
    """A message as templates expect it: arguments of calls as objects, and no key that the caller left out."""
    described: dict[str, Any] = {"role": message.role, "content": message.content}
    if isinstance(message, AssistantMessage) and message.tool_calls:
        described["tool_calls"] = [
            _given(id=call.id, type="function", function={"name": call.name, "arguments": arguments_of(call.arguments)})
            for call in message.tool_calls
        ]
    if isinstance(message, ToolMessage):
        described |= _given(tool_call_id=message.tool_call_id, name=message.name)
    return described


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


class _Rendering:
    """A compiled template with all that it is given but the messages and tools. All runs share one budget of steps."""

    def __init__(
        self,
        source: str,
        mask: _Mask,
        today: datetime.date | None,
        conversation: Conversation,
        context: Mapping[str, Any],
    ) -> None:
        from ostro.chat.sandbox import BoundedEnvironment

        self._mask = mask
        self._marks: Marks | None = None
        self._context = context
        self.conversation = conversation
        environment = BoundedEnvironment()
        environment.add_filter("tojson", self._tojson)
        environment.globals["raise_exception"] = _raise
        if today is not None:
            environment.globals["strftime_now"] = lambda form: _strftime(today, form)
        with _failures_told():
            self._template = environment.from_string(source)

    def run(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], marks: Marks | None = None
    ) -> str:
        """What the template writes, up to the end of a message that is to be continued."""
        from jinja2.exceptions import SecurityError

        from ostro.chat.sandbox import MAX_SIZE

        end = self._mask.end
        if is_open := self.conversation.is_open:
            messages = [*messages[:-1], {**messages[-1], "content": messages[-1]["content"] + end}]
        self._marks = marks
        pieces: list[str] = []
        size = 0
        with _failures_told():
            for piece in self._template.generate(messages=messages, tools=tools or None, **self._context):
                pieces.append(piece)
                size += len(piece)
                if size > MAX_SIZE:
                    raise SecurityError(f"it writes more than {MAX_SIZE:,} characters")
        rendered = "".join(pieces)
        if is_open and end not in rendered:
            raise PromptError(
                "The checkpoint's chat template does not write the message that is to be continued. "
                "Ask without prefix.",
                index=self.conversation.turns[-1].index,
            )
        return rendered[: rendered.rindex(end)] if is_open else rendered

    def _tojson(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """The filter that transformers gives to templates. Masks and marks stay characters where others are escaped."""
        text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
        if ensure_ascii:
            ours = self._mask.private | (self._marks.private if self._marks else frozenset())
            text = _ESCAPED_PRIVATE.sub(lambda pair: c if (c := json.loads(f'"{pair[0]}"')) in ours else pair[0], text)
        return self._marks.gathered(text) if self._marks else text


def _owners(
    rendering: _Rendering,
    rendered: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    strings: Sequence[str],
) -> list[str]:
    """The origin of every character, as far as it can be told without a doubt."""
    origins = [*(turn.origin for turn in rendering.conversation.turns), "tools"]
    try:
        first = _free_block(strings, len(origins) + 1, _MARKS)
        for inside in (False, True):
            marks = Marks(origins, first, inside=inside)
            marked = [marks.tree(message, number) for number, message in enumerate(messages)]
            text = rendering.run(marked, marks.tree(list(tools), len(messages)), marks)
            if owners := marks.owners(text, rendered):
                return owners
    except PromptError:  # the template refuses the marks, or has used up its steps
        pass
    return [UNKNOWN] * len(rendered)


@contextmanager
def _failures_told() -> Iterator[None]:
    """PromptError for whatever a template raises."""
    from jinja2.exceptions import TemplateError

    try:
        yield
    except _Refusal as refusal:
        raise PromptError(f"The checkpoint's chat template refuses these messages: {refusal}") from None
    except TemplateError as error:
        raise PromptError(f"The checkpoint's chat template cannot be used: {error}. {_REMEDY}") from None
    except (
        TypeError,
        ValueError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        AssertionError,
    ) as error:
        raise PromptError(
            f"The checkpoint's chat template fails on these messages: {type(error).__name__}: {error}. {_REMEDY}"
        ) from None


# Behind what a template fails with.
_REMEDY = "Name a prompt format (such as mistral-v3 or llama-3.1), or mend the template."


class _Refusal(Exception):  # noqa: N818 - not an error of ours: the template's own word
    """A template's call of raise_exception."""


def _raise(message: object) -> None:
    raise _Refusal(str(message))


def _strftime(today: datetime.date, form: object) -> str:
    return datetime.datetime(today.year, today.month, today.day).strftime(str(form))


def _name(tokenizer: Tokenizer, token_id: int | None) -> str:
    return "" if token_id is None else tokenizer.piece(token_id)


def _segments(tokenizer: Tokenizer, mask: _Mask, rendered: str, owners: Sequence[str]) -> list[Segment]:
    """Control tokens of the template by id, what stands between them by plain encoding; one BOS in front."""
    bos = _name(tokenizer, tokenizer.bos_id)
    position = 0
    while bos and rendered.startswith(bos, position):
        position += len(bos)
    segments = []
    if tokenizer.bos_id is not None and (position or tokenizer.adds_bos):
        segments.append(Segment("control", (tokenizer.bos_id,), bos, "bos"))
    for run, is_control in mask.split(rendered[position:]):
        if is_control:
            segments.append(Segment("control", (tokenizer.control_tokens[run],), run, "template"))
        else:
            text = mask.plain(run)
            # SentencePiece's dummy space stands in front of a sequence, not behind a control token.
            encode = tokenizer.encode_continuation if segments else tokenizer.encode
            segments += split_by_owner(tokenizer, encode(text), text, owners[position : position + len(run)])
        position += len(run)
    return segments
