"""What `forward` returns: fields by name, by key, or by position among those that are set, as HF's outputs are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import torch

from ostro.transformers.cache_utils import DynamicCache


@dataclass(eq=False)
class ModelOutput:
    """Base of the outputs. `output[0]` is the first field that is not None; `output["logits"]` one by its name."""

    def keys(self) -> list[str]:
        """Names of the fields that are set."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def values(self) -> list[Any]:
        """The fields that are set."""
        return [getattr(self, name) for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """Names and values of the fields that are set."""
        return [(name, getattr(self, name)) for name in self.keys()]

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are set, in order."""
        return tuple(self.values())

    def get(self, name: str, default: Any = None) -> Any:
        """The field, or `default` where it is not set."""
        return getattr(self, name) if name in self.keys() else default

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            if key not in self.keys():
                raise KeyError(key)
            return getattr(self, key)
        return self.to_tuple()[key]

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


@dataclass(eq=False)
class BaseModelOutputWithPast(ModelOutput):
    """Of the bare decoder: last_hidden_state (B, T, D)."""

    last_hidden_state: torch.Tensor
    past_key_values: DynamicCache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass(eq=False)
class CausalLMOutputWithPast(ModelOutput):
    """Of the language model: logits (B, T, V), or of the last rows only; loss is a scalar."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: DynamicCache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass(eq=False)
class SequenceClassifierOutputWithPast(ModelOutput):
    """Of a sequence classifier: logits (B, num_labels)."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    past_key_values: DynamicCache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass(eq=False)
class TokenClassifierOutput(ModelOutput):
    """Of a token classifier: logits (B, T, num_labels)."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
