"""What a prompt format can express, and the record of what was mended to fit it."""

from __future__ import annotations

from dataclasses import dataclass

from ostro.chat.messages import Message
from ostro.errors import PromptError


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatRules:
    """What the normalizer has to know of a format.

    `tools`: calls and results can be written. `merge_turns`: roles must alternate. `fold_system`: the system prompt is
    part of a user's text. `user_first`: a conversation begins with the user. `content_with_calls`: one message can
    hold both. `parallel_calls`: one message can hold several calls. `sort_results`: results stand in the order of
    their calls. `nine_character_ids`: ids are nine letters and digits. `answer_after_answer`: an answer may follow
    an answer.
    """

    name: str
    tools: bool
    merge_turns: bool
    fold_system: bool
    user_first: bool
    content_with_calls: bool
    parallel_calls: bool
    sort_results: bool
    nine_character_ids: bool
    answer_after_answer: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """A message, its place in the caller's list (None where the normalizer made it), and its origin in words."""

    message: Message
    index: int | None
    origin: str


class Mender:
    """Notes repairs; in strict mode it refuses instead."""

    def __init__(self, format_name: str, strict: bool) -> None:
        self._format_name = format_name
        self._strict = strict
        self.repairs: list[str] = []

    def mend(self, index: int | None, wrong: str, done: str) -> None:
        """Note that something was wrong and what was done about it; in strict mode PromptError."""
        if self._strict:
            raise self.error(index, wrong, "mend the messages, or leave strict mode to have it repaired")
        self.repairs.append(f"{_place(index)} {wrong}: {done}")

    def error(self, index: int | None, wrong: str, remedy: str) -> PromptError:
        """What the format cannot express in any mode."""
        return PromptError(f"{_place(index)} {wrong} (prompt format {self._format_name}): {remedy}.", index=index)


def _place(index: int | None) -> str:
    return "The conversation" if index is None else f"messages[{index}]"
