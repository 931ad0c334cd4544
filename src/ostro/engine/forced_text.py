"""`ForcedText`: where a grammar leaves one way only, such as the names in a JSON object, that is the draft."""

from __future__ import annotations

from collections.abc import Mapping

from ostro.engine.request import Sequence
from ostro.engine.scheduler import TokenSequence

CONFIDENCE = 0.9
"""The text is certain; how the model cuts it into tokens is not."""


class ForcedText:
    """The drafter of guided answers; see `ostro.engine.speculation.Drafter`."""

    seconds_per_token = 0.0
    kv_cache_bytes = 0

    def __init__(self) -> None:
        self._forced: dict[TokenSequence, list[int]] = {}

    def confidence(self, sequence: TokenSequence) -> float | None:
        """High, if any text is forced."""
        if not isinstance(sequence, Sequence) or sequence.guide is None:
            return None
        forced = self._forced[sequence] = sequence.guide.forced()
        return CONFIDENCE if forced else None

    def propose(self, limits: Mapping[TokenSequence, int]) -> dict[TokenSequence, list[int]]:
        """The text that `confidence` found."""
        return {sequence: self._forced[sequence][:limit] for sequence, limit in limits.items()}

    def forget(self, sequence: TokenSequence) -> None:
        """Drop what is kept of a sequence that has ended."""
        self._forced.pop(sequence, None)

    def clear(self) -> None:
        """Nothing is kept but what running sequences need."""
