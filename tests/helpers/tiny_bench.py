"""A shape that is measured in no time, and a machine whose ceilings are."""

from __future__ import annotations

from typing import Any

import pytest

from ostro.config import ModelConfig
from ostro.config.published import Published

TINY: dict[str, Any] = {
    "family": "mistral", "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5, "rope_theta": 1e4, "rope_scaling": None, "sliding_windows": (None, None, None),
    "tie_word_embeddings": False, "num_local_experts": 0, "num_experts_per_tok": 0, "bos_token_id": None,
    "eos_token_ids": (), "torch_dtype": "bfloat16",
}  # fmt: skip
PUBLISHED = Published("Tiny 1", "mistral", 64, 3, 4, 2, 16, 96, 97, 1e4, 512)
"""The same as an entry of the published table."""


def tiny_shape(**changes: Any) -> ModelConfig:
    """A dense decoder of three layers, or what the changes make of it."""
    return ModelConfig(**{**TINY, **changes})


def tiny_mixture(**changes: Any) -> ModelConfig:
    """The same with four experts, of which a token uses two."""
    return tiny_shape(family="mixtral", num_local_experts=4, num_experts_per_tok=2, **changes)


def quick_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceilings out of a small buffer and in no time: of no worth as numbers."""
    monkeypatch.setattr("ostro.bench.measure._LEAST_BUFFER", 1 << 23)
    monkeypatch.setattr("ostro.bench.measure._CEILING_SECONDS", 0.0)
    monkeypatch.setattr("ostro.machine.largest_cache", lambda: None)
