"""`ModelConfig` from the metadata of a GGUF file.

Source: the GGUF specification (ggml's docs/gguf.md), and llama.cpp's reader for what absence means.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

from ostro.config.fields import Fields, missing, split_head_dim, told_of
from ostro.config.model import FrequencyFactors, ModelConfig
from ostro.errors import ConfigError

DEFAULT_FREQ_BASE = 10000.0
"""What llama.cpp takes `rope.freq_base` to be where a file leaves it out, as old conversions do."""

_FLOAT_TYPES = {0: "float32", 1: "float16", 32: "bfloat16"}
"""`general.file_type` of files that are not quantized."""


def from_gguf(
    metadata: Mapping[str, object],
    tensor_shapes: Mapping[str, tuple[int, ...]],
    rope_freqs: Sequence[float] | None,
    *,
    source: str,
) -> ModelConfig:
    """The architecture that a GGUF file states.

    `tensor_shapes` maps the file's own tensor names to (rows, columns): without `output.weight` the embeddings are
    tied. `rope_freqs` holds the values of `rope_freqs.weight`, one divisor for each rotary frequency, if the file has
    it (Llama 3.1 and 3.2 do). `source` names the file in messages.

    The format gives absence a meaning for these keys: `attention.head_count_kv` is then head_count,
    `attention.key_length` embedding_length / head_count, `rope.freq_base` 10000, `vocab_size` the number of tokens.
    A window is read from `attention.sliding_window` alone, which files of Mistral 7B v0.1 do not have.
    """
    _architecture(metadata, source)
    prefix = "llama."
    fields = Fields({k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}, source)
    _refuse_variants(fields)
    num_layers, num_heads = fields.few("block_count"), _head_count(fields, "attention.head_count", None)
    hidden_size = fields.integer("embedding_length")
    head_dim = split_head_dim(
        fields,
        fields.optional_integer("attention.key_length"),
        hidden_size,
        num_heads,
        "embedding_length / attention.head_count",
    )
    _check_head_dim(fields, head_dim)
    experts = fields.few("expert_count") if fields.get("expert_count") not in (None, 0) else 0
    used = fields.optional_integer("expert_used_count")
    if experts and used is None:
        raise missing("llama.expert_used_count", source)
    with told_of(source):
        config = ModelConfig(
            family="mixtral" if experts else "llama",
            vocab_size=_vocab_size(fields, metadata),
            hidden_size=hidden_size,
            intermediate_size=_one_for_all(fields, "feed_forward_length", None),
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            num_key_value_heads=_head_count(fields, "attention.head_count_kv", num_heads),
            head_dim=head_dim,
            max_position_embeddings=fields.integer("context_length"),
            rms_norm_eps=_decimal(fields.number("attention.layer_norm_rms_epsilon")),
            rope_theta=_rope_theta(fields),
            rope_scaling=None if rope_freqs is None else _frequency_factors(rope_freqs, source),
            sliding_windows=(fields.optional_integer("attention.sliding_window") or None,) * num_layers,
            tie_word_embeddings="output.weight" not in tensor_shapes,
            num_local_experts=experts,
            num_experts_per_tok=used or 0 if experts else 0,
            bos_token_id=_optional_id(metadata, "bos", source),
            eos_token_ids=_eos_ids(metadata, source),
            torch_dtype=_torch_dtype(metadata),
        )
    fields.refuse_unread()
    return config


def _architecture(metadata: Mapping[str, object], source: str) -> None:
    name = metadata.get("general.architecture")
    if name is None:
        raise missing("general.architecture", source)
    if name != "llama":
        raise ConfigError(
            f"{source}: general.architecture is {name!r}, and only 'llama' can be run (Mistral, Mixtral and Llama "
            "models carry this name in GGUF)."
        )
    kind = metadata.get("general.type")
    if kind not in (None, "model"):
        raise ConfigError(f"{source} is a GGUF file of type {kind!r}, not of a whole model. Give the model's file.")


def _refuse_variants(fields: Fields) -> None:
    """Settings that make another model of architecture llama."""
    why = "Mistral, Mixtral and Llama models do not use it."
    fields.allow_only("tensor_data_layout", ["Meta AI original pth"], why)  # the interleaved rotary rows of all files
    fields.allow_only("rope.scaling.type", ["none"], why + " Llama 3's scaling is in the tensor rope_freqs.weight.")
    fields.allow_only("rope.scaling.factor", [0, 1], why)
    fields.allow_only("rope.scaling.attn_factor", [0, 1], why)
    fields.allow_only("rope.scale_linear", [0, 1], why)
    fields.allow_only("rope.scale", [0, 1], why)
    for key in ("rope.scaling.original_context_length", "rope.scaling.finetuned"):
        fields.get(key)  # they say something only beside a scaling, which has been refused
    fields.allow_only("use_parallel_residual", [False], why)
    fields.allow_only("attention.causal", [True], "these families attend to the past only.")
    for key in ("attention.clamp_kqv", "attention.max_alibi_bias", "expert_shared_count", "expert_group_count"):
        fields.allow_only(key, [0], why)
    fields.allow_only("expert_weights_scale", [0, 1], why)
    fields.allow_only("expert_gating_func", [0, 1], "Mixtral's router is a softmax.")
    for key in ("logit_scale", "residual_scale", "embedding_scale", "attention.scale"):
        fields.allow_only(key, [0], why)  # Granite writes these under the architecture llama too


def _check_head_dim(fields: Fields, head_dim: int) -> None:
    for key in ("attention.value_length", "rope.dimension_count"):
        value = fields.optional_integer(key)
        if value is not None and value != head_dim:
            raise ConfigError(
                f"{fields.source}: llama.{key} is {value} and the head dimension {head_dim}; these families use one "
                "size for keys, values and rotation. It is another architecture."
            )


def _head_count(fields: Fields, key: str, absent: int | None) -> int:
    count = _one_for_all(fields, key, absent)
    if count < 1:
        raise fields.wrong(f"llama.{key}", count, "at least 1")
    return count


def _one_for_all(fields: Fields, key: str, absent: int | None) -> int:
    """A number that some files give once for each layer: all must be equal."""
    value = fields.get(key)
    if value is None and absent is not None:
        return absent
    if not isinstance(value, list | tuple):
        return fields.integer(key)
    numbers = set(fields.token_ids(key))
    if len(numbers) != 1:
        raise fields.wrong(f"llama.{key}", value, "the same in every layer")
    return numbers.pop()


def _vocab_size(fields: Fields, metadata: Mapping[str, object]) -> int:
    size = fields.optional_integer("vocab_size")
    if size is not None:
        return size
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, Sequence) or isinstance(tokens, str | bytes):
        raise missing("llama.vocab_size", fields.source, " (nor tokenizer.ggml.tokens)")
    return len(tokens)


def _rope_theta(fields: Fields) -> float:
    base = fields.optional_number("rope.freq_base")
    return DEFAULT_FREQ_BASE if base is None else _decimal(base)


def _frequency_factors(rope_freqs: Sequence[float], source: str) -> FrequencyFactors:
    factors = tuple(float(value) for value in rope_freqs)
    if not all(0 < value < float("inf") for value in factors):
        raise ConfigError(f"{source}: rope_freqs.weight must hold finite numbers greater than 0; the file is damaged.")
    return FrequencyFactors(factors)


def _optional_id(metadata: Mapping[str, object], kind: str, source: str) -> int | None:
    tokenizer = Fields(metadata, source)
    return tokenizer.optional_integer(f"tokenizer.ggml.{kind}_token_id")


def _eos_ids(metadata: Mapping[str, object], source: str) -> tuple[int, ...]:
    """End of text, of turn and of message, in this order, as far as the file names them."""
    found = [_optional_id(metadata, kind, source) for kind in ("eos", "eot", "eom")]
    return tuple(dict.fromkeys(token for token in found if token is not None))


def _torch_dtype(metadata: Mapping[str, object]) -> str | None:
    kind = metadata.get("general.file_type")
    return _FLOAT_TYPES.get(kind) if isinstance(kind, int) else None


def _decimal(value: float) -> float:
    """The shortest decimal that is this float32: GGUF keeps 1e-5 as 9.99999974e-06, and its authors meant 1e-5."""
    if not 1e-37 < abs(value) < 3e38:  # nothing a float32 holds exactly enough; the checks of ModelConfig judge it
        return value
    stored = _float32(value)
    for digits in range(1, 9):
        short = float(f"{stored:.{digits}g}")
        if _float32(short) == stored:
            return short
    return stored


def _float32(value: float) -> float:
    result: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return result
