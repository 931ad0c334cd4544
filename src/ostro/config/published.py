"""The few numbers that published native files leave out, for exactly the models that were published.

A `params.json` of Mistral's or Meta's need not state its context length; Mistral 7B v0.1's has no `rope_theta`, and
Meta's say `use_scaled_rope` without the factor, which is 8 in Llama 3.1 and 32 in Llama 3.2. These numbers may not
be guessed, but for a published model they are known. A file is a published model's where every number that it states
is that model's; anything else is refused by the reader, which names the key to add.

Source: the models' `config.json` files and cards on the hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ostro.config.model import Family, Llama3Rope, ModelConfig


@dataclass(frozen=True, slots=True)
class Published:
    """One published model. `hidden` is the number of rows of its feed-forward layers; `experts` 0 for dense ones.

    `omits_theta` says that its native file has no `rope_theta`: only then may it be taken from here.
    """

    name: str
    family: Family
    dim: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocab: int
    rope_theta: float
    context: int
    window: int | None = None
    experts: int = 0
    rope_factor: float | None = None
    tied: bool = False
    omits_theta: bool = False

    def config(self) -> ModelConfig:
        """The whole configuration. What all of these models share stands here and not in the table.

        Token ids that begin and end text are the tokenizer's affair, and empty.
        """
        return ModelConfig(
            family=self.family,
            vocab_size=self.vocab,
            hidden_size=self.dim,
            intermediate_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            max_position_embeddings=self.context,
            rms_norm_eps=1e-5,
            rope_theta=self.rope_theta,
            rope_scaling=self.rope_scaling,
            sliding_windows=(self.window,) * self.layers,
            tie_word_embeddings=self.tied,
            num_local_experts=self.experts,
            num_experts_per_tok=2 if self.experts else 0,
            bos_token_id=None,
            eos_token_ids=(),
            torch_dtype="bfloat16",
        )

    @property
    def rope_scaling(self) -> Llama3Rope | None:
        """The `llama3` scaling of the model: all of Meta's share every number but the factor."""
        return None if self.rope_factor is None else llama3_rope(self.rope_factor)


def llama3_rope(factor: float) -> Llama3Rope:
    """The scaling that `use_scaled_rope` switches on in Meta's code, for the factor of the model."""
    return Llama3Rope(factor, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)


PUBLISHED: tuple[Published, ...] = (
    Published("Mistral 7B v0.1", "mistral", 4096, 32, 32, 8, 128, 14336, 32000, 1e4, 32768, 4096, omits_theta=True),
    Published("Mistral 7B v0.2", "mistral", 4096, 32, 32, 8, 128, 14336, 32000, 1e6, 32768),
    Published("Mistral 7B v0.3", "mistral", 4096, 32, 32, 8, 128, 14336, 32768, 1e6, 32768),
    Published("Mixtral 8x7B", "mixtral", 4096, 32, 32, 8, 128, 14336, 32000, 1e6, 32768, experts=8, omits_theta=True),
    Published("Mistral NeMo", "mistral", 5120, 40, 32, 8, 128, 14336, 131072, 1e6, 131072),
    Published("Mistral Small 2409", "mistral", 6144, 56, 48, 8, 128, 16384, 32768, 1e6, 32768),
    Published("Mistral Small 3", "mistral", 5120, 40, 32, 8, 128, 32768, 131072, 1e8, 32768),
    Published("Mistral Large 2", "mistral", 12288, 88, 96, 8, 128, 28672, 32768, 1e6, 131072),
    Published("Llama 3 8B", "llama", 4096, 32, 32, 8, 128, 14336, 128256, 5e5, 8192),
    Published("Llama 3 70B", "llama", 8192, 80, 64, 8, 128, 28672, 128256, 5e5, 8192),
    Published("Llama 3.1 8B", "llama", 4096, 32, 32, 8, 128, 14336, 128256, 5e5, 131072, rope_factor=8.0),
    Published("Llama 3.1 70B", "llama", 8192, 80, 64, 8, 128, 28672, 128256, 5e5, 131072, rope_factor=8.0),
    Published("Llama 3.1 405B", "llama", 16384, 126, 128, 8, 128, 53248, 128256, 5e5, 131072, rope_factor=8.0),
    Published("Llama 3.2 1B", "llama", 2048, 16, 32, 8, 64, 8192, 128256, 5e5, 131072, rope_factor=32.0, tied=True),
    Published("Llama 3.2 3B", "llama", 3072, 28, 24, 8, 128, 8192, 128256, 5e5, 131072, rope_factor=32.0, tied=True),
)


def find_published(stated: Mapping[str, object]) -> Published | None:
    """The published model whose numbers the file states, or None where there is none or more than one.

    `stated` maps the names of `Published` from dim to tied, but for context (a limit, and no mark of a model), to the
    file's values, None where the file leaves them out; `scaled_rope` says whether it stretches its frequencies.
    """
    found = [model for model in PUBLISHED if _matches(model, stated)]
    return found[0] if len(found) == 1 else None


def _matches(model: Published, stated: Mapping[str, object]) -> bool:
    exact = ("dim", "layers", "heads", "kv_heads", "head_dim", "hidden", "vocab", "window", "experts")
    if any(stated[name] != getattr(model, name) for name in exact):
        return False
    if (model.rope_factor is not None) is not stated["scaled_rope"]:
        return False
    if stated["rope_theta"] is None and not model.omits_theta:
        return False
    return all(stated[name] in (None, getattr(model, name)) for name in ("rope_theta", "rope_factor", "tied"))
