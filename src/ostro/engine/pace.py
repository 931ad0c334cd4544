"""`Pace`: how much of prompts a step may compute, so that steps stay short while other requests wait for theirs.

A step that computes 512 tokens of a prompt takes seconds where a step that decodes takes a tenth of one, and everybody
waits for it: the answers that are being written, the client who has left, the short prompt that has just come. Which
tokens a step computes never changes an answer's bits on a backend with independent rows, so time may decide it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ostro.engine.scheduler import Chunk

_LEAST = 16  # tokens: below that a step is hardly any shorter, as it reads all weights
_ALONE = 4  # times as long may a step take that nobody else waits for
_SHARE = 0.3  # of a new measurement
_OUTLIER = 3  # times what was expected: the machine did something else meanwhile


class Pace:
    """Keeps steps at about `seconds`, by the times of earlier ones.

    >>> pace = Pace(0.5)
    >>> pace.note(num_prompt_tokens=512, seconds=5.12)
    >>> pace.note(num_prompt_tokens=0, seconds=0.1)
    >>> pace.max_prompt_tokens(num_sequences=2)
    32
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._decode_seconds: float | None = None
        self._seconds_per_token: float | None = None

    def note(self, *, num_prompt_tokens: int, seconds: float) -> None:
        """A step computed so many tokens of prompts, and beside them the newest tokens of answers."""
        if not num_prompt_tokens:
            self._decode_seconds = _mixed(self._decode_seconds, seconds)
        elif num_prompt_tokens >= _LEAST:
            rest = max(0.0, seconds - (self._decode_seconds or 0.0))
            self._seconds_per_token = _mixed(self._seconds_per_token, rest / num_prompt_tokens)

    def note_time(self, chunks: Sequence[Chunk], seconds: float) -> None:
        """The step that computed these chunks took so long."""
        num_prompt_tokens = sum(chunk.count for chunk in chunks if chunk.count - chunk.num_draft > 1)
        self.note(num_prompt_tokens=num_prompt_tokens, seconds=seconds)

    def max_prompt_tokens(self, num_sequences: int) -> int | None:
        """Tokens of prompts that fit a step while there are so many sequences; None where nothing is known yet."""
        if not self._seconds_per_token:
            return None
        if num_sequences == 1:
            room = _ALONE * self.seconds
        else:
            room = self.seconds - (self._decode_seconds or 0.0)
        return max(_LEAST, int(room / self._seconds_per_token) // _LEAST * _LEAST)


def _mixed(known: float | None, measured: float) -> float:
    if known is None:
        return measured
    return known + _SHARE * (min(measured, _OUTLIER * known) - known)
