"""A prompt as segments of token ids: what each token is, and where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

from ostro.chat.normalize import Conversation
from ostro.chat.tool_ids import ToolCallIds
from ostro.tokenizer.base import Tokenizer

SegmentKind: TypeAlias = Literal["control", "template", "text"]
"""control: one control token, placed by id; template: fixed text of the format; text: words of the caller."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive ids of one origin.

    `text` is what they stand for, SentencePiece's dummy space included; for a control token its name.
    `origin` says where they came from: "bos", "template", "tools", or the role and index of a message ("user[2]";
    "system[0]+user[2]" where a format has one text of both).
    `is_completion` marks what the model itself writes: an assistant's text, its calls, and the token that ends them.
    """

    kind: SegmentKind
    ids: tuple[int, ...]
    text: str
    origin: str
    is_completion: bool = False


@dataclass(frozen=True)
class Prompt:
    """Segments in order. `stop_ids` end the assistant's turn; `repairs` says what the normalizer mended.

    `tool_call_ids` leads from the ids in the prompt back to those that the caller used.

    `is_open`: the prompt ends within a message of the assistant that the caller began and the answer goes on with, so a
    space at the start of the answer is a real one. Where it is False the answer begins its message, and the space that
    begins it may be SentencePiece's dummy prefix: this is `not at_start` of `StreamDetokenizer`.
    """

    segments: tuple[Segment, ...]
    format_name: str
    stop_ids: tuple[int, ...] = ()
    repairs: tuple[str, ...] = ()
    tool_call_ids: ToolCallIds = field(default_factory=ToolCallIds)
    is_open: bool = False

    @cached_property
    def token_ids(self) -> list[int]:
        """All ids."""
        return [i for segment in self.segments for i in segment.ids]

    @cached_property
    def text(self) -> str:
        """The prompt as a person may read it, control tokens by their names. Not to be encoded again."""
        return "".join(segment.text for segment in self.segments)

    @cached_property
    def provenance(self) -> list[Segment]:
        """For every token the segment that it belongs to."""
        return [segment for segment in self.segments for _ in segment.ids]

    @cached_property
    def completion_mask(self) -> list[bool]:
        """For every token whether the model itself is to write it: the loss mask of fine-tuning."""
        return [segment.is_completion for segment in self.provenance]

    def __len__(self) -> int:
        return len(self.token_ids)


class PromptBuilder:
    """Collects segments. Every text is encoded by itself with special parsing off; control tokens are placed by id."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._segments: list[Segment] = []
        self._began = False

    def bos(self) -> None:
        """Begin the sequence, if the vocabulary has a token for it."""
        if (bos_id := self._tokenizer.bos_id) is not None:
            self._place(bos_id, "bos", is_completion=False)
            self._began = True

    def eos(self, origin: str, *, is_completion: bool = False) -> None:
        """End an answer with the vocabulary's EOS."""
        eos_id = self._tokenizer.eos_id
        if eos_id is None:
            eos_id = self._tokenizer.control_id("</s>")
        self._place(eos_id, origin, is_completion=is_completion)

    def control(self, name: str, origin: str = "template", *, is_completion: bool = False) -> None:
        """Place a control token; TokenizerError if the vocabulary has none of this name."""
        token_id = self._tokenizer.control_id(name)
        self._segments.append(Segment("control", (token_id,), name, origin, is_completion))

    def template(self, text: str, origin: str = "template", *, is_completion: bool = False) -> None:
        """Fixed text of the format."""
        self._encode("template", text, origin, is_completion)

    def text(self, text: str, origin: str, *, is_completion: bool = False) -> None:
        """Words of the caller, which never become control tokens."""
        self._encode("text", text, origin, is_completion)

    def extend(self, segments: Iterable[Segment]) -> None:
        """Segments made elsewhere."""
        self._segments.extend(segments)

    @property
    def ends_in_answer(self) -> bool:
        """Whether the last segment is what the model itself writes."""
        return bool(self._segments) and self._segments[-1].is_completion

    def build(
        self, format_name: str, stop_tokens: Sequence[str], conversation: Conversation, *, is_open: bool
    ) -> Prompt:
        """The prompt. Proves that no text became a control token and that the BOS of `bos` is the only one."""
        check_segments(self._tokenizer, self._segments, one_bos=self._began)
        names = self._tokenizer.control_tokens
        stop_ids = {names[name] for name in stop_tokens if name in names}
        if self._tokenizer.eos_id is not None:
            stop_ids.add(self._tokenizer.eos_id)
        return Prompt(
            tuple(self._segments),
            format_name,
            tuple(sorted(stop_ids)),
            conversation.repairs,
            conversation.tool_call_ids,
            is_open,
        )

    def _place(self, token_id: int, origin: str, *, is_completion: bool) -> None:
        name = self._tokenizer.piece(token_id)
        self._segments.append(Segment("control", (token_id,), name, origin, is_completion))

    def _encode(self, kind: SegmentKind, text: str, origin: str, is_completion: bool) -> None:
        if text:
            ids = tuple(self._tokenizer.encode(text))
            shown = f" {text}" if self._tokenizer.dummy_prefix else text
            self._segments.append(Segment(kind, ids, shown, origin, is_completion))


def check_segments(tokenizer: Tokenizer, segments: Sequence[Segment], *, one_bos: bool) -> None:
    """Assert what every prompt promises; a failure is our own bug, never the caller's.

    `one_bos`: the format has one BOS, at the start. A checkpoint's template may write one for each turn (Llama 2's).
    """
    unknown = tokenizer.control_tokens.get("<unk>")
    for segment in segments:
        if segment.kind != "control":
            leaked = [i for i in segment.ids if tokenizer.is_control(i) and i != unknown]
            assert not leaked, f"text of {segment.origin} became control tokens {leaked}"
    if one_bos:
        places = [n for n, i in enumerate(i for s in segments for i in s.ids) if i == tokenizer.bos_id]
        assert places == [0], f"a prompt has exactly one BOS, at its start, and not at {places}"
