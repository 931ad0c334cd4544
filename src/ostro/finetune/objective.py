"""What is learnt from a batch: the protocol of objectives, and next-token prediction.

Shapes: B rows, T tokens of a row, D hidden size, V vocabulary, R trained positions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import torch

from ostro.finetune.linear_loss import linear_cross_entropy


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows of tokens. Positions that begin again within a row mark sequences which do not see one another."""

    token_ids: torch.Tensor  # int64 (B, T)
    position_ids: torch.Tensor  # int64 (B, T), counted from 0 in each sequence
    loss_weights: torch.Tensor  # float32 (B, T): weight of the loss of PREDICTING this token; 0 where a sequence begins

    def __post_init__(self) -> None:
        shape = self.token_ids.shape
        assert self.token_ids.dim() == 2, shape
        assert self.position_ids.shape == shape, (self.position_ids.shape, shape)
        assert self.loss_weights.shape == shape, (self.loss_weights.shape, shape)

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed, padding included."""
        return self.token_ids.numel()

    def to(self, device: torch.device) -> Self:
        """The same batch on a device."""
        if self.token_ids.device == device:
            return self
        moved = (x.to(device, non_blocking=True) for x in (self.token_ids, self.position_ids, self.loss_weights))
        return type(self)(*moved)


@runtime_checkable
class AnyBatch(Protocol):
    """What the trainer needs of a batch, whatever the objective makes of it."""

    @property
    def num_tokens(self) -> int:
        """Tokens that are computed."""

    def to(self, device: torch.device) -> Self:
        """The same batch on a device."""


BatchT = TypeVar("BatchT", bound=AnyBatch)
BatchIn = TypeVar("BatchIn", bound=AnyBatch, contravariant=True)


@dataclass(frozen=True, slots=True)
class LossOutput:
    """The loss of one micro batch.

    The trainer divides the sum of the losses of a step by the sum of their weights, over micro batches and processes;
    so a step's gradient does not depend on how it was cut into micro batches.
    """

    loss: torch.Tensor  # scalar: the sum over trained tokens, pairs or examples
    weight: float  # how many these were, weighted
    metrics: dict[str, float] = field(default_factory=dict)  # sums too: divided by `weight` like the loss


class Objective(Protocol[BatchIn]):
    """A loss of a model on a batch. `name` appears in metrics."""

    name: str

    def loss(self, model: Any, batch: BatchIn) -> LossOutput:
        """The sum of losses, with a graph where gradients are on. `metrics` has the same keys for every batch."""

    def summarize(self, sums: dict[str, float], weight: float) -> dict[str, float]:
        """What is reported of the metrics, summed over micro batches and processes: means, as a rule."""


def means(sums: dict[str, float], weight: float) -> dict[str, float]:
    """Every sum divided by the weight: what most objectives report."""
    return {name: value / weight for name, value in sums.items()}


class LanguageModelling:
    """Cross entropy of each trained token given the tokens before it: pretraining and supervised fine-tuning.

    Logits are computed for trained positions only, `chunk_rows` at a time: (T, V) numbers are never in memory.
    """

    name = "language_modelling"

    def __init__(self, chunk_rows: int = 1024) -> None:
        self.chunk_rows = chunk_rows

    def loss(self, model: Any, batch: Batch) -> LossOutput:
        """The weighted sum, in float32, and the sum of the weights."""
        hidden, targets, weights = self.rows(model, batch)
        total = linear_cross_entropy(model.lm_head, hidden, targets, weights, self.chunk_rows)
        return LossOutput(total, float(weights.sum()))

    def summarize(self, sums: dict[str, float], weight: float) -> dict[str, float]:
        """Means."""
        return means(sums, weight)

    def rows(self, model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Hidden states (R, D) that predict a trained token, those tokens (R,), and their weights (R,)."""
        out = model.model(input_ids=batch.token_ids, position_ids=batch.position_ids, use_cache=False)
        hidden = out.last_hidden_state[:, :-1].reshape(-1, out.last_hidden_state.shape[-1])
        weights = batch.loss_weights[:, 1:].reshape(-1)
        trained = weights.nonzero().squeeze(1)
        targets = batch.token_ids[:, 1:].reshape(-1)
        return hidden[trained], targets[trained], weights[trained]
