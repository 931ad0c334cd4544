"""What the configurations of `ostro finetune dpo` and `ostro finetune classify` have beside those of every training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ostro.finetune.config import TrainConfig
from ostro.finetune.config_reader import BadKey


@dataclass(frozen=True, kw_only=True)
class DpoSection:
    """The `dpo` section: how strongly the model is held to its reference, and which loss."""

    beta: float = 0.1  # small: the model may go far from its reference
    loss_type: Literal["sigmoid", "ipo"] = "sigmoid"
    label_smoothing: float = 0.0  # share of pairs that are taken to be labelled the wrong way round
    chosen_weight: float = 0.0  # adds so much of the chosen answer's loss per token (RPO), which keeps it likely

    def __post_init__(self) -> None:
        if self.beta <= 0:
            raise BadKey("beta", f"must be greater than 0, not {self.beta}.")
        if not 0 <= self.label_smoothing < 0.5:
            raise BadKey("label_smoothing", f"must be from 0 to below 0.5, not {self.label_smoothing}.")
        if self.label_smoothing and self.loss_type == "ipo":
            raise BadKey("label_smoothing", "has no meaning with loss_type: ipo. Leave it out, or take sigmoid.")
        if self.chosen_weight < 0:
            raise BadKey("chosen_weight", f"must be at least 0, not {self.chosen_weight}.")


@dataclass(frozen=True, kw_only=True)
class DpoConfig(TrainConfig):
    """Direct preference optimization: `ostro finetune dpo`. A row of a batch is a pair of answers."""

    dpo: DpoSection = field(default_factory=DpoSection)


@dataclass(frozen=True, kw_only=True)
class ClassifySection:
    """The `classify` section."""

    labels: tuple[str, ...] = ()  # the names of the classes in order; none: those of the training data, sorted

    def __post_init__(self) -> None:
        if len(set(self.labels)) < len(self.labels):
            raise BadKey("labels", f"names one twice: {', '.join(self.labels)}.")
        if len(self.labels) == 1:
            raise BadKey("labels", "must be at least two names, or left out.")


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(TrainConfig):
    """Classification of texts or of words, whichever the data holds: `ostro finetune classify`."""

    classify: ClassifySection = field(default_factory=ClassifySection)
