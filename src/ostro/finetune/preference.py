"""Direct preference optimization: a model learns to prefer the chosen of two answers, measured from where it began.

The reference is the model before training: with an adapter, the model with the adapter off. Its log-probabilities are
computed once, before the first step (`reference.py`), so that training holds one model and runs one forward pass.

Shapes: N pairs, 2 N rows, T tokens of a row, R trained tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from ostro.finetune.objective import Batch, LanguageModelling, LossOutput, means
from ostro.finetune.preference_loss import PairLogprobs, pair_scores
from ostro.finetune.sections import DpoSection


@dataclass(frozen=True, slots=True, eq=False)
class PreferenceBatch:
    """N pairs as rows 2 n (chosen) and 2 n + 1 (rejected), and the reference's log-probabilities of both (N, 2)."""

    rows: Batch
    reference: torch.Tensor

    def __post_init__(self) -> None:
        assert self.reference.shape == (len(self.rows.token_ids) // 2, 2), self.reference.shape

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed, padding included."""
        return self.rows.num_tokens

    def to(self, device: torch.device) -> Self:
        """The same batch on a device."""
        return type(self)(self.rows.to(device), self.reference.to(device))


class DirectPreference:
    """DPO or IPO on pairs of answers; the loss is a sum over pairs.

    Metrics: `rewards_chosen` and `rewards_rejected`, beta times the log of policy over reference; `rewards_margin`,
    their difference; `rewards_accuracy`, how often it is positive; `logprobs_chosen` and `logprobs_rejected`.
    """

    name = "dpo"

    def __init__(self, settings: DpoSection | None = None, chunk_rows: int = 1024) -> None:
        self.settings = settings or DpoSection()
        self.chunk_rows = chunk_rows

    def loss(self, model: Any, batch: PreferenceBatch) -> LossOutput:
        """The sum over pairs, their number, and the metrics."""
        sums, counts = answer_logprobs(model, batch.rows, self.chunk_rows)
        # A process without pairs of its own is given rows without trained tokens (see `packing.Batches`).
        real = (counts.view(-1, 2) > 0).all(dim=1).to(sums.dtype)
        lengths = counts.clamp(min=1)
        policy = PairLogprobs(sums[::2], sums[1::2], lengths[::2], lengths[1::2])
        reference = PairLogprobs(batch.reference[:, 0], batch.reference[:, 1], lengths[::2], lengths[1::2])
        chosen = self.settings
        scores = pair_scores(
            policy,
            reference,
            beta=chosen.beta,
            loss_type=chosen.loss_type,
            label_smoothing=chosen.label_smoothing,
            chosen_weight=chosen.chosen_weight,
        )
        margins = scores.chosen_rewards - scores.rejected_rewards
        metrics = {
            "rewards_chosen": scores.chosen_rewards,
            "rewards_rejected": scores.rejected_rewards,
            "rewards_margin": margins,
            "rewards_accuracy": (margins > 0).to(sums.dtype),
            "logprobs_chosen": policy.chosen.detach(),
            "logprobs_rejected": policy.rejected.detach(),
        }
        return LossOutput(
            (scores.losses * real).sum(),
            float(real.sum()),
            {name: float((values * real).sum()) for name, values in metrics.items()},
        )

    def summarize(self, sums: dict[str, float], weight: float) -> dict[str, float]:
        """Means over pairs."""
        return means(sums, weight)


def answer_logprobs(model: Any, rows: Batch, chunk_rows: int = 1024) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each row the sum of the log-probabilities of its trained tokens (B,), float32, and their number (B,).

    Logits are computed `chunk_rows` tokens at a time, and again in the backward pass.
    """
    hidden, targets, _ = LanguageModelling().rows(model, rows)
    counts = (rows.loss_weights[:, 1:] > 0).sum(dim=1)
    owners = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    parts = [
        checkpoint(_chunk_logprobs, model.lm_head, h, t, use_reentrant=False)
        for h, t in zip(_cut(hidden, chunk_rows), _cut(targets, chunk_rows), strict=True)
    ]
    sums = torch.zeros(len(counts), dtype=torch.float32, device=hidden.device)
    return sums.index_add(0, owners, torch.cat(parts)), counts


def _chunk_logprobs(lm_head: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -F.cross_entropy(lm_head(hidden).float(), targets, reduction="none")


def _cut(x: torch.Tensor, chunk_rows: int) -> list[torch.Tensor]:
    """Pieces; of no rows one empty piece, so that every weight takes part in the graph of every process."""
    return [x[start : start + chunk_rows] for start in range(0, max(1, len(x)), chunk_rows)]
