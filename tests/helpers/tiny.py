"""Tiny random checkpoints of every architecture variant, written by transformers: the oracle's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

COMMON: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
    "initializer_range": 0.3,  # large enough that logits differ clearly and greedy tokens are no coin tosses
}


def _llama3(factor: float) -> dict[str, Any]:
    return {
        "rope_parameters": {
            "rope_theta": 500000.0,
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,  # short, so that a short prompt reaches all three branches
        }
    }


def _theta(theta: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": theta, "rope_type": "default"}}


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral-7b-v0.1": ("mistral", {"sliding_window": 9, **_theta(1e4)}),
    "mistral-7b-v0.3": ("mistral", {"sliding_window": None, **_theta(1e6)}),
    "nemo": ("mistral", {"sliding_window": None, "hidden_size": 40, "head_dim": 16, **_theta(1e6)}),
    "mistral-small": ("mistral", {"sliding_window": None, "num_attention_heads": 6, "head_dim": 10, **_theta(1e8)}),
    "mistral-large": (
        "mistral",
        {"sliding_window": None, "num_attention_heads": 12, "num_key_value_heads": 1, **_theta(1e6)},
    ),
    "mixtral": ("mixtral", {"sliding_window": None, "num_local_experts": 8, "num_experts_per_tok": 2, **_theta(1e6)}),
    "llama-3.1": ("llama", _llama3(8.0)),
    "llama-3.1-405b": ("llama", {"num_attention_heads": 16, "num_key_value_heads": 1, "head_dim": 4, **_llama3(8.0)}),
    "llama-3.2": ("llama", {"tie_word_embeddings": True, **_llama3(32.0)}),
}


def make_model(variant: str, **changes: Any) -> Any:
    """A random transformers model of the variant, float32, always the same one."""
    import transformers

    kind, numbers = VARIANTS[variant]
    name = kind.capitalize()
    config = getattr(transformers, f"{name}Config")(**{**COMMON, **numbers, **changes})
    torch.manual_seed(1234)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name:  # transformers starts norms at one, where a wrong norm would not be seen
                parameter.copy_(1 + 0.2 * torch.randn_like(parameter))
    return model


def save_tiny(variant: str, folder: Path, **changes: Any) -> Path:
    """The variant's checkpoint as an HF folder (no tokenizer)."""
    make_model(variant, **changes).save_pretrained(folder)
    return folder
