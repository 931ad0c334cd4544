"""What reads calls out of an answer: the interface, and the reader for an answer that may have none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeAlias

from ostro.chat.messages import ToolCall

Item: TypeAlias = str | ToolCall
"""A piece of content, or a call; its `id` is the model's own or None."""


class CallReader(Protocol):
    """Gets the text of an answer in pieces, cut anywhere, and its markers; gives content and calls.

    What it gives depends on the whole alone, not on where the pieces were cut. What is no call is given back as
    content, character for character, markers by their names.
    """

    def text(self, text: str) -> Iterator[Item]:
        """Further text."""

    def marker(self, name: str) -> Iterator[Item]:
        """A control token of `ostro.chat.marked.CALL_MARKERS`."""

    def end(self, is_complete: bool, /) -> Iterator[Item]:
        """The end of the answer; `is_complete` is False where a limit or an abort cut it short."""


class PlainReader:
    """For a request without tools: all is content, and a marker stands there by its name."""

    def text(self, text: str) -> Iterator[Item]:
        """Content."""
        yield text

    def marker(self, name: str) -> Iterator[Item]:
        """Content."""
        yield name

    def end(self, _is_complete: bool, /) -> Iterator[Item]:
        """Nothing was held back."""
        yield from ()
