"""`ModelConfig`: the numbers of one decoder, complete and frozen.

Every reader (`hf`, `native`, `gguf`) fills all fields; nothing here has a default that would change the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ostro.config.kv import kv_row_bytes
from ostro.errors import ConfigError

Family: TypeAlias = Literal["mistral", "mixtral", "llama"]


@dataclass(frozen=True, slots=True)
class Llama3Rope:
    """`rope_scaling` of type `llama3`: long wavelengths are divided by `factor`, short ones kept, others blended.

    Source: the `rope_scaling` object of Llama 3.1 and 3.2 checkpoints (factor 8 and 32).
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True, slots=True)
class FrequencyFactors:
    """One divisor for each rotary frequency, as GGUF files store the `llama3` scaling (tensor `rope_freqs.weight`)."""

    factors: tuple[float, ...]


RopeScaling: TypeAlias = Llama3Rope | FrequencyFactors


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Architecture of a Mistral, Mixtral or Llama text model. Counts are `num_*`, limits `max_*`, sizes in elements.

    `sliding_windows` has one entry a layer: None for full attention, else W, and a token at position p then attends
    to positions p-W+1 .. p. `num_local_experts` is 0 for a dense model. `torch_dtype` is the file's own statement.
    """

    family: Family
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    sliding_windows: tuple[int | None, ...]
    tie_word_embeddings: bool
    num_local_experts: int
    num_experts_per_tok: int
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    torch_dtype: str | None

    def __post_init__(self) -> None:
        _check(self)

    @property
    def max_window(self) -> int | None:
        """Positions that must be kept for the hungriest layer; None when some layer attends to everything."""
        windows = [w for w in self.sliding_windows if w is not None]
        return max(windows) if len(windows) == len(self.sliding_windows) else None

    def kv_bytes_per_token(self, kv_dtype: str) -> int:
        """Bytes of K and V that one token takes over all layers, in a cache of one of `KV_DTYPES`.

        For Mistral 7B 128 KiB at float16 and 68 KiB at int8.
        """
        return 2 * self.num_hidden_layers * self.num_key_value_heads * kv_row_bytes(kv_dtype, self.head_dim)

    def num_parameters(self, *, active: bool = False) -> int:
        """Number of weights; with `active`, of those that one token of a mixture of experts passes through."""
        attention = self.hidden_size * self.head_dim * 2 * (self.num_attention_heads + self.num_key_value_heads)
        expert = 3 * self.hidden_size * self.intermediate_size
        mlp = expert
        if self.num_local_experts:
            used = self.num_experts_per_tok if active else self.num_local_experts
            mlp = used * expert + self.num_local_experts * self.hidden_size
        layer = attention + mlp + 2 * self.hidden_size
        tables = 1 if self.tie_word_embeddings else 2
        return self.num_hidden_layers * layer + tables * self.vocab_size * self.hidden_size + self.hidden_size


def _check(c: ModelConfig) -> None:
    positive = (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
        "max_position_embeddings rms_norm_eps rope_theta"
    )
    for name in positive.split():
        if not getattr(c, name) > 0:
            raise ConfigError(f"{name} must be greater than 0, not {getattr(c, name)!r}.")
    if c.num_attention_heads % c.num_key_value_heads:
        raise ConfigError(
            f"num_attention_heads ({c.num_attention_heads}) must be a multiple of num_key_value_heads "
            f"({c.num_key_value_heads})."
        )
    if c.head_dim % 2:
        raise ConfigError(f"head_dim must be even for rotary embeddings, not {c.head_dim}.")
    if len(c.sliding_windows) != c.num_hidden_layers:
        raise ConfigError(
            f"{len(c.sliding_windows)} sliding windows are given for {c.num_hidden_layers} layers; each needs one."
        )
    if any(w is not None and w < 1 for w in c.sliding_windows):
        raise ConfigError(f"sliding_window must be at least 1, or null for none; the config gives {c.sliding_windows}.")
    if c.num_local_experts and not 1 <= c.num_experts_per_tok <= c.num_local_experts:
        raise ConfigError(
            f"num_experts_per_tok must lie between 1 and num_local_experts ({c.num_local_experts}), "
            f"not {c.num_experts_per_tok}."
        )
    for name, ids in (("bos_token_id", (c.bos_token_id,)), ("eos_token_id", c.eos_token_ids)):
        if any(i is not None and not 0 <= i < c.vocab_size for i in ids):
            raise ConfigError(
                f"{name} is {', '.join(map(str, ids))}, but ids go from 0 to {c.vocab_size - 1}: correct it."
            )
    if isinstance(c.rope_scaling, FrequencyFactors) and len(c.rope_scaling.factors) != c.head_dim // 2:
        raise ConfigError(
            f"rope_freqs has {len(c.rope_scaling.factors)} factors; head_dim {c.head_dim} needs {c.head_dim // 2}."
        )
