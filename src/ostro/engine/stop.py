"""Where the text of an answer ends: stop strings over a stream of text."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Lets text through until one of `stops` is complete, and never a part of one.

    The string that is complete first wins; the longest of those complete at the same character. This depends on the
    text alone, not on how tokens cut it.

    >>> stream = StopStrings(["END"])
    >>> stream.push("the E"), stream.push("N"), stream.push("D of it"), stream.matched
    ('the ', '', '', 'END')
    """

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self._stops = tuple(stops)
        self._include = include
        self._held = ""
        self.matched: str | None = None

    def push(self, text: str, *, armed: bool = True) -> str:
        """The text that is certain now; once `matched` is set there is no more.

        A string that is complete while not `armed` is let through; one that begins then and ends later counts.
        """
        assert self.matched is None
        if not text:
            return ""
        text = self._held + text
        ends = [(at + len(stop), -len(stop), stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends and armed:
            end, negative_length, self.matched = min(ends)
            self._held = ""
            return text[: end if self._include else end + negative_length]
        undecided = self._undecided(text)
        self._held = text[len(text) - undecided :]
        return text[: len(text) - undecided]

    def flush(self) -> str:
        """What was held back: the answer ended and no stop string came of it."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(text)), longest, -1):
                if text.endswith(stop[:length]):
                    longest = length
                    break
        return longest
