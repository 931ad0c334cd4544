"""`EncoderConfig`: the numbers of a BERT-type encoder, from the `config.json` of an embedding model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ostro.config.fields import Fields, told_of
from ostro.config.hf import HARMLESS
from ostro.errors import ConfigError

EncoderFamily: TypeAlias = Literal["bert", "roberta", "mpnet", "distilbert"]

FAMILIES: Mapping[str, EncoderFamily] = {
    "bert": "bert",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "camembert": "roberta",
    "mpnet": "mpnet",
    "distilbert": "distilbert",
}
"""`model_type` of the encoders that can be run."""

NUM_BUCKETS, MAX_DISTANCE = 32, 128
"""Of MPNet's position bias: transformers' code has these numbers, whatever the file says."""

_DISTILBERT_EPS = 1e-12
"""DistilBERT's layer norms; its code has the number and its files do not state it."""

# Dropout; heads and poolers that embeddings do not use; sizes of vectors, which `ostro.embeddings` reads.
_HARMLESS_HERE = """
    architectures dtype torch_dtype attention_probs_dropout_prob hidden_dropout_prob dropout qa_dropout
    seq_classif_dropout gradient_checkpointing bos_token_id eos_token_id cls_token_id mask_token_id

    directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type
    summary_activation summary_first_dropout summary_last_dropout summary_proj_to_labels summary_type summary_use_proj
    output_past tie_word_embeddings tie_weights_ sinusoidal_pos_embds pre_trained type_vocab_size

    is_matryoshka matryoshka_dimensions sentence_transformers
"""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """A stack of layers with the norm behind each half, as BERT's.

    `first_position` is the row of the position table that the first token has; a token type of 0 is added where
    `has_token_types`; where `has_position_bias`, scores get a learned bias by distance (MPNet).
    """

    family: EncoderFamily
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    layer_norm_eps: float
    first_position: int

    def __post_init__(self) -> None:
        if min(self.hidden_size, self.intermediate_size, self.num_attention_heads, self.vocab_size) < 1:
            raise ConfigError("hidden_size, intermediate_size, num_attention_heads and vocab_size must be at least 1.")
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size ({self.hidden_size}) must be a multiple of num_attention_heads "
                f"({self.num_attention_heads})."
            )
        if self.max_tokens < 1 or self.first_position < 0:
            raise ConfigError(
                f"max_position_embeddings ({self.max_position_embeddings}) leaves no room behind position "
                f"{self.first_position}."
            )

    @property
    def max_tokens(self) -> int:
        """Positions that a text may have, special tokens included."""
        return self.max_position_embeddings - self.first_position

    @property
    def has_token_types(self) -> bool:
        """Whether every token gets the vector of type 0."""
        return self.family in ("bert", "roberta")

    @property
    def has_position_bias(self) -> bool:
        """Whether scores get a learned bias by distance."""
        return self.family == "mpnet"


def encoder_from_hf(data: Mapping[str, object], *, source: str) -> EncoderConfig:
    """The encoder that a `config.json` states; ConfigError, naming the key, for what is missing or cannot be run."""
    fields = Fields(data, source)
    model_type = fields.text("model_type")
    family = FAMILIES.get(model_type or "")
    if family is None:
        raise ConfigError(
            f"{source}: model_type is {model_type!r}, and embedding models of the types {', '.join(FAMILIES)} can be "
            "run."
        )
    with told_of(source):
        config = _distilbert(fields) if family == "distilbert" else _bert_like(fields, family)
    why = "the encoder would be another one."
    fields.allow_only("position_embedding_type", ("absolute",), why)
    fields.allow_only("is_decoder", (False,), why)
    fields.allow_only("add_cross_attention", (False,), why)
    fields.allow_only("is_encoder_decoder", (False,), why)
    fields.allow_only("pruned_heads", ({},), why)
    fields.refuse_unread(HARMLESS | set(_HARMLESS_HERE.split()))
    return config


def _bert_like(fields: Fields, family: EncoderFamily) -> EncoderConfig:
    _require_gelu(fields, "hidden_act")
    if family == "mpnet":
        fields.allow_only("relative_attention_num_buckets", (NUM_BUCKETS,), "transformers computes with no other.")
        first_position = 2  # of its code, whatever pad_token_id the file states
    else:
        # RoBERTa counts positions from behind the padding token's id.
        first_position = fields.integer("pad_token_id") + 1 if family == "roberta" else 0
    return EncoderConfig(
        family=family,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("hidden_size"),
        intermediate_size=fields.integer("intermediate_size"),
        num_hidden_layers=fields.few("num_hidden_layers"),
        num_attention_heads=fields.integer("num_attention_heads"),
        max_position_embeddings=fields.integer("max_position_embeddings"),
        layer_norm_eps=fields.number("layer_norm_eps"),
        first_position=first_position,
    )


def _distilbert(fields: Fields) -> EncoderConfig:
    _require_gelu(fields, "activation")
    return EncoderConfig(
        family="distilbert",
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("dim"),
        intermediate_size=fields.integer("hidden_dim"),
        num_hidden_layers=fields.few("n_layers"),
        num_attention_heads=fields.integer("n_heads"),
        max_position_embeddings=fields.integer("max_position_embeddings"),
        layer_norm_eps=_DISTILBERT_EPS,
        first_position=0,
    )


def _require_gelu(fields: Fields, key: str) -> None:
    fields.require(key)
    fields.allow_only(key, ("gelu",), "the published encoders have GELU in its exact form.")
