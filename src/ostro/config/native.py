"""`ModelConfig` from the `params.json` beside native weights: Mistral's and Meta's."""

from __future__ import annotations

from collections.abc import Mapping

from ostro.config.fields import Fields, missing, split_head_dim, told_of
from ostro.config.hf import check_llama3
from ostro.config.model import Family, Llama3Rope, ModelConfig, RopeScaling
from ostro.config.published import Published, find_published, llama3_rope
from ostro.errors import ConfigError

HARMLESS = frozenset({"max_batch_size", "dropout", "pad_token_id", "use_cache"})
"""Keys of params.json that do not change what the decoder computes."""


def from_params(data: Mapping[str, object], *, source: str, vocab_rows: int | None = None) -> ModelConfig:
    """The architecture that a `params.json` states.

    `source` names the file in messages. `vocab_rows` is the number of rows of `tok_embeddings.weight`, which is what
    `vocab_size` -1 in Meta's files stands for. Meta's `multiple_of` and `ffn_dim_multiplier` give the feed-forward
    size by the rule of its code. `sliding_window` may be a list, a pattern that repeats over the layers.

    Token ids that begin and end text are the tokenizer's affair in this form, and empty where the file has none.

    What the published files leave out comes from `ostro.config.published` for exactly those models; for any other
    file a number that is not stated is a ConfigError. An absent `tied_embeddings` means untied.
    """
    fields = Fields(data, source)
    _refuse_variants(fields)
    dim, num_layers, num_heads = fields.integer("dim"), fields.few("n_layers"), fields.integer("n_heads")
    hidden, is_meta = _hidden_dim(fields, dim)
    kv_heads, vocab_size, tied = fields.integer("n_kv_heads"), _vocab_size(fields, vocab_rows), _tied(fields)
    head_dim = split_head_dim(fields, fields.optional_integer("head_dim"), dim, num_heads, "dim / n_heads")
    experts, experts_per_tok = _moe(fields)
    windows = _sliding_windows(fields, num_layers)
    published = find_published(
        {
            "dim": dim, "layers": num_layers, "heads": num_heads, "kv_heads": kv_heads, "head_dim": head_dim,
            "hidden": hidden, "vocab": vocab_size, "experts": experts, "tied": tied,
            "window": windows[0] if len(set(windows)) == 1 else windows,
            "rope_theta": fields.optional_number("rope_theta"), "scaled_rope": bool(fields.flag("use_scaled_rope")),
            "rope_factor": fields.optional_number("rope_scaling_factor"),
        }
    )  # fmt: skip
    with told_of(source):
        config = ModelConfig(
            family=_family(published, experts, is_meta),
            vocab_size=vocab_size,
            hidden_size=dim,
            intermediate_size=hidden,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            num_key_value_heads=kv_heads,
            head_dim=head_dim,
            max_position_embeddings=_context(fields, published),
            rms_norm_eps=fields.number("norm_eps"),
            rope_theta=fields.number("rope_theta") if published is None else published.rope_theta,
            rope_scaling=_rope_scaling(fields, published),
            sliding_windows=windows,
            tie_word_embeddings=bool(tied) if published is None else published.tied,
            num_local_experts=experts,
            num_experts_per_tok=experts_per_tok,
            bos_token_id=fields.optional_integer("bos_token_id"),
            eos_token_ids=fields.token_ids("eos_token_id"),
            torch_dtype=fields.text("dtype") or fields.text("torch_dtype"),
        )
    fields.get("torch_dtype")
    fields.refuse_unread(HARMLESS)
    return config


def _family(published: Published | None, experts: int, is_meta: bool) -> Family:
    """Only Meta's files state `multiple_of`; Mistral's state `hidden_dim`."""
    if published is not None:
        return published.family
    return "mixtral" if experts else "llama" if is_meta else "mistral"


def _refuse_variants(fields: Fields) -> None:
    """Settings that make another model than the plain decoder."""
    fields.allow_only("model_type", ["transformer"], "others are not decoders of these families.")
    fields.allow_only("activation", ["silu"], "the feed-forward layers of these families are SwiGLU.")
    for key in ("use_biases", "causal_bias"):
        fields.allow_only(key, [False], "the families' published models have no biases.")
    fields.allow_only("causal", [True], "these families attend to the past only.")
    remedies = {
        "vision_encoder": "Images are not read here; take the text model.",
        "multimodal": "Images and sound are not read here; take the text model.",
        "vision_chunk_size": "Images are not read here; take a text model, such as Llama 3.1 8B.",
        "vision_num_cross_attention_layers": "Images are not read here; take a text model, such as Llama 3.1 8B.",
        "quantization": "Take the weights in bfloat16, or a GGUF file of the model.",
        "quantization_args": "Take the weights in bfloat16, or a GGUF file of the model.",
        "lora": "Merge the adapter into the weights first.",
        "lora_args": "Merge the adapter into the weights first.",
        "yarn": "Rotary scaling of this kind is not part of these families' models.",
        "llama_4_scaling": "It belongs to a later model that ostro does not run.",
    }
    for key, remedy in remedies.items():
        if fields.get(key) not in (None, -1, {}):
            raise ConfigError(f"{fields.source} states {key}, which this reader cannot run. {remedy}")


def _hidden_dim(fields: Fields, dim: int) -> tuple[int, bool]:
    """Rows of the feed-forward matrices, and whether the file is in Meta's manner."""
    multiple_of = fields.optional_integer("multiple_of")
    multiplier = fields.optional_number("ffn_dim_multiplier")
    if "hidden_dim" in fields:
        return fields.integer("hidden_dim"), multiple_of is not None
    if multiple_of is None:
        raise missing("hidden_dim", fields.source, " (nor multiple_of, as Meta's files do)")
    if multiple_of < 1:
        raise fields.wrong("multiple_of", multiple_of, "at least 1")
    # Meta's rule: two thirds of 4 * dim, times the multiplier, each rounded down; then up to a multiple.
    hidden = 8 * dim // 3
    if multiplier is not None:
        hidden = int(multiplier * hidden)
    return -(-hidden // multiple_of) * multiple_of, True


def _vocab_size(fields: Fields, vocab_rows: int | None) -> int:
    size = fields.optional_integer("vocab_size")
    if size is None or size == -1:
        if vocab_rows is None:
            raise missing("vocab_size", fields.source, " other than -1")
        return vocab_rows
    return size


def _moe(fields: Fields) -> tuple[int, int]:
    moe = fields.inner("moe")
    if moe is None:
        return 0, 0
    counts = moe.few("num_experts"), moe.integer("num_experts_per_tok")
    moe.refuse_unread()
    return counts


def _sliding_windows(fields: Fields, num_layers: int) -> tuple[int | None, ...]:
    value = fields.get("sliding_window")
    pattern = value if isinstance(value, list) else [value]
    windows = tuple(_window(fields, item) for item in pattern)
    if not windows or num_layers % len(windows):
        raise fields.wrong("sliding_window", value, f"a pattern whose length divides n_layers ({num_layers})")
    return windows * (num_layers // len(windows))


def _window(fields: Fields, value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal():  # some early files quote the number
        value = int(value)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise fields.wrong("sliding_window", value, "a whole number, null, or a list of them")
    return value


def _context(fields: Fields, published: Published | None) -> int:
    # A file may state both; max_seq_len is then the length it was made for.
    stated = fields.optional_integer("max_seq_len"), fields.optional_integer("max_position_embeddings")
    for value in stated:
        if value is not None:
            return value
    if published is None:
        raise missing("max_seq_len", fields.source, " (the context length in tokens)")
    return published.context


def _rope_scaling(fields: Fields, published: Published | None) -> RopeScaling | None:
    factor = fields.optional_number("rope_scaling_factor")
    if not fields.flag("use_scaled_rope"):
        if factor is not None:
            raise ConfigError(
                f'{fields.source} has rope_scaling_factor but not "use_scaled_rope": true. Add or delete one.'
            )
        return None
    if factor is None and published is not None:
        return published.rope_scaling
    if factor is None:
        raise missing("rope_scaling_factor", fields.source, " (8 for Llama 3.1, 32 for Llama 3.2)")
    # Meta's code fixes the other three numbers; a file may state its own.
    low, high = fields.optional_number("low_freq_factor"), fields.optional_number("high_freq_factor")
    original = fields.optional_integer("original_max_position_embeddings")
    plain = llama3_rope(factor)
    scaling = Llama3Rope(
        factor,
        low_freq_factor=plain.low_freq_factor if low is None else low,
        high_freq_factor=plain.high_freq_factor if high is None else high,
        original_max_position_embeddings=plain.original_max_position_embeddings if original is None else original,
    )
    check_llama3(scaling, fields.source)
    return scaling


def _tied(fields: Fields) -> bool | None:
    values = {flag for key in ("tied_embeddings", "tie_word_embeddings") if (flag := fields.flag(key)) is not None}
    if len(values) > 1:
        raise ConfigError(f"{fields.source}: tied_embeddings and tie_word_embeddings contradict each other.")
    return values.pop() if values else None
