"""The text of an answer and the control tokens that mark its calls, in the order in which the model wrote them.

The engine gives the ids of an answer and the text that is certain; the text lags behind where bytes of a character or
a part of a stop string are held back, and it never has what a stop string cut off. So a marker is told when the text
before it has become certain, and one behind a cut is never told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ostro.tokenizer.base import Tokenizer
from ostro.tokenizer.detokenize import StreamDetokenizer

CALL_MARKERS = ("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]", "<|python_tag|>")
"""The control tokens of both families that begin a call or stand inside one."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A control token of `CALL_MARKERS`."""

    name: str


Event: TypeAlias = str | Marker


@dataclass(slots=True)
class _Piece:
    """What a run of tokens stands for: `length` characters of the engine's text; `marker` is None for plain text."""

    length: int
    marker: Marker | None


class MarkedText:
    """Puts the markers of an answer where they belong in its text.

    `at_start` and `skip_special_tokens` are those with which the engine makes the text (see `StreamDetokenizer` and
    `SamplingParams`). Where the text has control tokens by their names, a marker takes its name out of it.
    """

    def __init__(self, tokenizer: Tokenizer, *, at_start: bool, skip_special_tokens: bool = True) -> None:
        names = tokenizer.control_tokens
        self._markers = {names[name]: Marker(name) for name in CALL_MARKERS if name in names}
        visible = frozenset[int]() if skip_special_tokens else frozenset(names.values())
        self._skips = skip_special_tokens
        self._vocab_size = tokenizer.vocab_size
        self._detokenizer = StreamDetokenizer(tokenizer, at_start=at_start, visible_control=visible)
        self._pieces: deque[_Piece] = deque()
        self._begun = ""

    def push(self, token_ids: Sequence[int], text: str) -> list[Event]:
        """The events of further ids, and of the text that became certain with them (which may belong to earlier)."""
        for token_id in token_ids:
            self._note(token_id)
        return list(self._released(text))

    def finish(self) -> list[Event]:
        """The beginning of a marker's name, where a stop string cut it; else nothing."""
        begun, self._begun = self._begun, ""
        return [begun] if begun else []

    def _note(self, token_id: int) -> None:
        # Rows of the model's tables beyond the vocabulary stand for no text, in the engine too.
        length = len(self._detokenizer.push(token_id)) if token_id < self._vocab_size else 0
        if marker := self._markers.get(token_id):
            shown = 0 if self._skips else len(marker.name)
            self._add(length - shown)  # U+FFFD for bytes of a character that the marker cut short
            self._pieces.append(_Piece(shown, marker))
        else:
            self._add(length)

    def _add(self, length: int) -> None:
        last = self._pieces[-1] if self._pieces else None
        if last and last.marker is None:
            last.length += length
        elif length:
            self._pieces.append(_Piece(length, None))

    def _released(self, text: str) -> Iterator[Event]:
        while self._pieces and (text or not self._pieces[0].length):
            piece = self._pieces[0]
            taken, text = text[: piece.length], text[piece.length :]
            piece.length -= len(taken)
            if piece.marker is None:
                yield taken
            else:
                self._begun += taken
            if piece.length:
                return
            self._pieces.popleft()
            if piece.marker:
                self._begun = ""
                yield piece.marker
        if text:  # the engine's last U+FFFD, of bytes that no token completed
            yield text
