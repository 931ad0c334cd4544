"""What `LLM.score` returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class ScoreOutput:
    """Log-probabilities (natural) of `token_ids`, each given all that stands before it."""

    token_ids: list[int]
    logprobs: list[float]

    @property
    def total(self) -> float:
        """Log-probability of all of them together."""
        return float(np.sum(np.asarray(self.logprobs, dtype=np.float64)))
