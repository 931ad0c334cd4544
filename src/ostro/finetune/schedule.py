"""The learning rate of every step: warm-up, then cosine, linear or constant."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ostro.finetune.config import RunConfig, ScheduleName


@dataclass(frozen=True)
class Schedule:
    """Learning rates by step, counted from 0, as transformers' schedulers give them (for `min_lr_ratio` 0).

    >>> schedule = Schedule("linear", peak=1.0, total_steps=6, warmup_steps=2)
    >>> [round(schedule(step), 2) for step in range(6)]
    [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]
    """

    name: ScheduleName
    peak: float
    total_steps: int
    warmup_steps: int = 0
    min_ratio: float = 0.0

    @classmethod
    def of(cls, config: RunConfig, total_steps: int) -> Schedule:
        """The schedule that a configuration asks for."""
        warmup = config.warmup_steps
        if warmup is None:
            warmup = math.ceil(config.warmup_ratio * total_steps)
        return cls(config.schedule, config.learning_rate, total_steps, warmup, config.min_lr_ratio)

    def __call__(self, step: int) -> float:
        """The learning rate of the update with this number."""
        if step < self.warmup_steps:
            return self.peak * step / self.warmup_steps
        if self.name == "constant":
            return self.peak
        progress = min(1.0, (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))
        falling = 0.5 * (1 + math.cos(math.pi * progress)) if self.name == "cosine" else 1 - progress
        return self.peak * (self.min_ratio + (1 - self.min_ratio) * falling)
