"""What small talk in one language is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Talk:
    """`intents` are questions of one meaning with their answer; openers and closers go around a question.

    `unknown` is said to `unknown_questions`, which are about the world, of which the model knows nothing.
    """

    intents: tuple[tuple[tuple[str, ...], str], ...]
    unknown: str
    unknown_questions: tuple[str, ...]
    openers: tuple[str, ...]
    closers: tuple[str, ...]
