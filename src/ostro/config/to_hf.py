"""A `ModelConfig` as the `config.json` that says the same: for checkpoints that came from native or GGUF files."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ostro.config.hf import FREQUENCY_FACTORS
from ostro.config.model import Family, Llama3Rope, ModelConfig

_SAME_NAMES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "bos_token_id",
)  # fmt: skip


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of a `config.json` that `from_hf` reads back as the same numbers.

    The divisors of a GGUF's `rope_freqs.weight` become a rope_type of our own. A GGUF of architecture llama with a
    sliding window, which Hugging Face's llama has not, becomes a mistral: the two are one decoder.
    """
    family: Family = "mistral" if config.family == "llama" and any(config.sliding_windows) else config.family
    eos = config.eos_token_ids
    values: dict[str, Any] = {
        "model_type": family,
        **{name: getattr(config, name) for name in _SAME_NAMES},
        "rope_theta": config.rope_theta,
        "rope_scaling": _rope_scaling(config),
        "eos_token_id": (list(eos) if len(eos) > 1 else eos[0]) if eos else None,
        "torch_dtype": config.torch_dtype,
    }
    if family == "mixtral":
        values |= {"num_local_experts": config.num_local_experts, "num_experts_per_tok": config.num_experts_per_tok}
    if family != "llama":
        windows = config.sliding_windows
        values["sliding_window"] = next((window for window in windows if window is not None), None)
        if len(set(windows)) > 1:
            values["layer_types"] = ["full_attention" if w is None else "sliding_attention" for w in windows]
    return values


def _rope_scaling(config: ModelConfig) -> dict[str, Any] | None:
    scaling = config.rope_scaling
    if scaling is None:
        return None
    if isinstance(scaling, Llama3Rope):
        return {"rope_type": "llama3", **asdict(scaling)}
    return {"rope_type": FREQUENCY_FACTORS, "factors": list(scaling.factors)}
