"""From the growing outputs of a request to the pieces that each step added."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ostro.engine.outputs import CompletionOutput, FinishReason, RequestOutput


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """What a step added to answer `index`: text that is certain now, and ids; the last chunk has a `finish_reason`.

    Texts and ids of an answer's chunks join to those of the whole answer.
    """

    index: int
    text: str
    token_ids: list[int]
    finish_reason: FinishReason | None
    stop_reason: int | str | None


class Pieces:
    """Remembers what was told of each answer of one request."""

    def __init__(self) -> None:
        self._told: dict[int, CompletionOutput] = {}

    def of(self, output: RequestOutput) -> Iterator[StreamChunk]:
        """A chunk for every answer that has something new."""
        for answer in output.outputs:
            told = self._told.get(answer.index)
            text, tokens = (len(told.text), len(told.token_ids)) if told else (0, 0)
            if (told and told.finished) or (len(answer.token_ids) == tokens and not answer.finished):
                continue
            self._told[answer.index] = answer
            yield StreamChunk(
                answer.index, answer.text[text:], answer.token_ids[tokens:], answer.finish_reason, answer.stop_reason
            )
