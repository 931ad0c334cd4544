"""How long drafts should be: what a step costs by its rows, what drafts were worth, and the best of both.

Nothing here can change a result. It decides only how many rows are computed to have the same tokens sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

_PRIOR_SLOPE = 0.05
"""A row more, as a share of a step of one row, until it has been measured: reading the weights is most of the work."""
_REMEMBERED_STEPS = 64
"""A time that was not renewed for so many steps is forgotten, so that one bad measurement does not rule for long."""


@dataclass(slots=True)
class _Time:
    """Mean rows and seconds of steps of about the same number of rows, and the step that was the last of them."""

    rows: float
    seconds: float
    last_step: int


class StepTimes:
    """Seconds that a decoding step takes, by its number of rows.

    Steps of 1, 2, 3 to 4, 5 to 8, 9 to 16, ... rows are taken together.
    """

    def __init__(self) -> None:
        self._times: dict[int, _Time] = {}
        self._num_steps = 0

    def note(self, rows: int, seconds: float) -> None:
        """A step of so many rows took so long."""
        self._num_steps += 1
        time = self._times.setdefault((rows - 1).bit_length(), _Time(rows, seconds, 0))
        # Whatever else the machine does only adds time, so what is shorter than expected is believed sooner.
        share = 0.5 if seconds < time.seconds else 0.1
        time.rows += share * (rows - time.rows)
        time.seconds += share * (min(seconds, 2 * time.seconds) - time.seconds)
        time.last_step = self._num_steps
        oldest = self._num_steps - _REMEMBERED_STEPS
        self._times = {size: time for size, time in self._times.items() if time.last_step > oldest}

    def curve(self, first: int, last: int) -> Float64:
        """Expected seconds of steps of `first` .. `last` rows (last - first + 1,): between the known ones by lines.

        Beyond them a row adds what it adds on average between them. Where none is known, the unit is a step of one row.
        """
        known = [self._times[size] for size in sorted(self._times)] or [_Time(1, 1, 0)]
        least, most = known[0], known[-1]
        slope = _PRIOR_SLOPE * least.seconds
        if most is not least:
            slope = max(0.1 * slope, (most.seconds - least.seconds) / (most.rows - least.rows))
        rows = np.arange(first, last + 1, dtype=np.float64)
        seconds: Float64 = np.interp(rows, [time.rows for time in known], [time.seconds for time in known])
        seconds += slope * (np.maximum(0, rows - most.rows) + np.minimum(0, rows - least.rows))
        # A row never costs less alone than in company.
        return np.maximum(seconds, least.seconds * np.minimum(1, rows / least.rows))


class Acceptance:
    """The share of a kind of drafts' tokens that were right, of those that were tried, newer ones counting more."""

    __slots__ = ("_hits", "_prior", "_trials")

    def __init__(self, prior: float) -> None:
        self._prior = prior
        self._hits = 0.0
        self._trials = 0.0

    @property
    def rate(self) -> float:
        """Probability that the next token of a draft is right, if those before it were; above 0 and below 1."""
        return (self._hits + 2 * self._prior) / (self._trials + 2)

    def note(self, num_accepted: int, num_tried: int) -> None:
        """Of a draft, `num_tried` tokens were compared and `num_accepted` of them were right."""
        self._hits = 0.8 * self._hits + num_accepted
        self._trials = 0.8 * self._trials + num_tried

    def fade(self) -> None:
        """A draft was not worth trying: forget a little, so that after a while it is tried again."""
        self._hits *= 0.97
        self._trials *= 0.97


@dataclass(frozen=True, slots=True)
class Offer:
    """A draft that could be had: at most `limit` tokens, each right with probability `rate` if those before it are."""

    limit: int
    rate: float
    seconds_per_token: float = 0.0


def best_lengths(
    offers: Sequence[Offer], num_decoding: int, num_rows: int, max_draft_rows: int, times: StepTimes
) -> list[int]:
    """How much of each offer to take, so that the expected tokens per second are most.

    Without drafts the step has `num_rows` rows and brings `num_decoding` tokens. Rows are taken in the order of their
    probabilities, so the question is only how many.
    """
    rows = sorted(
        ((offer.rate**place, index) for index, offer in enumerate(offers) for place in range(1, offer.limit + 1)),
        reverse=True,
    )[:max_draft_rows]
    tokens = num_decoding + np.cumsum([0.0, *(probability for probability, _ in rows)])
    seconds = times.curve(num_rows, num_rows + len(rows))
    seconds += np.cumsum([0.0, *(offers[index].seconds_per_token for _, index in rows)])
    taken = [index for _, index in rows[: int(np.argmax(tokens / seconds))]]
    return [taken.count(index) for index in range(len(offers))]
