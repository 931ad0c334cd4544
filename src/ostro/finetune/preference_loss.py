"""The losses of direct preference optimization on the log-probabilities of pairs of answers.

DPO (Rafailov et al. 2023, equation 7), with label smoothing (cDPO, Mitchell 2023); IPO (Azar et al. 2023, equation 17)
on log-probabilities per token; and, added to either, the likelihood of the chosen answer (Pang et al. 2024, RPO).

N pairs of answers; a log-probability of an answer is the sum over its trained tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

LossType = Literal["sigmoid", "ipo"]


@dataclass(frozen=True)
class PairLogprobs:
    """Sums of log-probabilities (N,) of both answers of each pair, and their numbers of trained tokens (N,)."""

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_lengths: torch.Tensor
    rejected_lengths: torch.Tensor

    def per_token(self) -> PairLogprobs:
        """The same as means over tokens."""
        return PairLogprobs(
            self.chosen / self.chosen_lengths,
            self.rejected / self.rejected_lengths,
            self.chosen_lengths,
            self.rejected_lengths,
        )


@dataclass(frozen=True)
class PairScores:
    """Of each pair: the loss (N,), and the implicit rewards beta * log(policy / reference) of both answers (N,)."""

    losses: torch.Tensor
    chosen_rewards: torch.Tensor
    rejected_rewards: torch.Tensor


def pair_scores(
    policy: PairLogprobs,
    reference: PairLogprobs,
    *,
    beta: float,
    loss_type: LossType = "sigmoid",
    label_smoothing: float = 0.0,
    chosen_weight: float = 0.0,
) -> PairScores:
    """Loss and rewards of pairs.

    - "sigmoid": -(1 - s) log sigmoid(h) - s log sigmoid(-h), with h the difference of the rewards and s the share of
      labels that are taken to be wrong (`label_smoothing`). Where policy and reference agree it is ln 2.
    - "ipo": (g - 1 / (2 beta))^2, with g the same difference of log-probabilities per token, without beta:
      1 / (4 beta^2) where both agree.
    - `chosen_weight` adds that much of the mean negative log-likelihood of the chosen answer's tokens.

    >>> same = PairLogprobs(*torch.tensor([[-3.0], [-5.0], [2.0], [4.0]]))
    >>> round(float(pair_scores(same, same, beta=0.1).losses), 4)
    0.6931
    """
    mean = policy.per_token()
    chosen = beta * (policy.chosen - reference.chosen)
    rejected = beta * (policy.rejected - reference.rejected)
    if loss_type == "ipo":
        before = reference.per_token()
        gained = (mean.chosen - before.chosen) - (mean.rejected - before.rejected)
        losses = (gained - 1 / (2 * beta)).square()
    else:
        difference = chosen - rejected
        losses = -(1 - label_smoothing) * F.logsigmoid(difference) - label_smoothing * F.logsigmoid(-difference)
    if chosen_weight:
        losses = losses - chosen_weight * mean.chosen
    return PairScores(losses, chosen.detach(), rejected.detach())
