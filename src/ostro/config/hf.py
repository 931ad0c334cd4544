"""`ModelConfig` from a Hugging Face `config.json`, as transformers 4 and 5 write it."""

from __future__ import annotations

from collections.abc import Mapping

from ostro.config.fields import Fields, split_head_dim, told_of
from ostro.config.model import Family, FrequencyFactors, Llama3Rope, ModelConfig, RopeScaling
from ostro.config.quantization import read_quantization
from ostro.errors import ConfigError

FAMILIES: Mapping[str, Family] = {"mistral": "mistral", "mixtral": "mixtral", "llama": "llama"}
"""`model_type` of the models that can be run."""

ARCHITECTURES = frozenset(
    f"{family}{kind}"
    for family in ("Mistral", "Mixtral", "Llama", "LLaMA")
    for kind in ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
)
"""Class names in `architectures` whose decoder is the plain one."""

# In groups: who wrote the file and how it was trained; heads of classification and the tokenizer; leftovers of the time
# when generation settings lived in config.json (generation_config.json decides now).
_HARMLESS = """
    _attn_implementation _attn_implementation_autoset _commit_hash _flash_attn_2_enabled _name_or_path
    attention_dropout attn_implementation chunk_size_feed_forward embd_pdrop initializer_range output_attentions
    output_hidden_states output_router_logits resid_pdrop return_dict router_aux_loss_coef router_jitter_noise
    torchscript transformers_version unsloth_fixed unsloth_version use_bfloat16 use_cache

    classifier_dropout finetuning_task id2label label2id num_labels problem_type task_specific_params
    pad_token_id sep_token_id unk_token_id tokenizer_class prefix

    bad_words_ids begin_suppress_tokens decoder_start_token_id diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id
    length_penalty max_length min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences
    output_scores remove_invalid_values repetition_penalty return_dict_in_generate suppress_tokens temperature
    tf_legacy_loss tie_encoder_decoder top_k top_p typical_p
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Keys of config.json that do not change what the decoder computes."""

FREQUENCY_FACTORS = "frequency_factors"
"""`rope_type` that ostro writes for a GGUF's table of divisors, which no type of Hugging Face's expresses."""

_BIAS = "the family's published models have no biases, and a checkpoint that has them is another architecture."


def from_hf(data: Mapping[str, object], *, source: str, generation: Mapping[str, object] | None = None) -> ModelConfig:
    """The architecture that a `config.json` states.

    `source` names the file in messages. `generation` is the content of `generation_config.json`: its `eos_token_id`s
    come before those of config.json (Llama 3.1 Instruct ends turns with ids that only this file may list).

    Where the format itself gives absence a meaning, that meaning is used: `head_dim` is then hidden_size /
    num_attention_heads, `tie_word_embeddings` false, `sliding_window` none. Every other number must be stated.

    Raises ConfigError, naming the key, for what is missing, unknown, or cannot be run.
    """
    fields = Fields(data, source)
    family = _family(fields)
    _refuse_variants(fields)
    num_layers = fields.few("num_hidden_layers")
    num_heads = fields.integer("num_attention_heads")
    hidden_size = fields.integer("hidden_size")
    rope_theta, rope_scaling = _rope(fields)
    bos, eos = _token_ids(fields, generation)
    with told_of(source):
        config = ModelConfig(
            family=family,
            vocab_size=fields.integer("vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=fields.integer("intermediate_size"),
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            num_key_value_heads=fields.integer("num_key_value_heads"),
            head_dim=split_head_dim(
                fields, fields.optional_integer("head_dim"), hidden_size, num_heads, "hidden_size / num_attention_heads"
            ),
            max_position_embeddings=fields.integer("max_position_embeddings"),
            rms_norm_eps=fields.number("rms_norm_eps"),
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
            sliding_windows=_sliding_windows(fields, family, num_layers),
            tie_word_embeddings=bool(fields.flag("tie_word_embeddings")),
            num_local_experts=fields.few("num_local_experts") if family == "mixtral" else 0,
            num_experts_per_tok=fields.integer("num_experts_per_tok") if family == "mixtral" else 0,
            bos_token_id=bos,
            eos_token_ids=eos,
            torch_dtype=fields.text("dtype") or fields.text("torch_dtype"),
        )
    fields.get("torch_dtype")
    fields.refuse_unread(HARMLESS)
    return config


def _family(fields: Fields) -> Family:
    model_type = fields.require("model_type")
    if model_type == "mllama":
        raise ConfigError(
            f"{fields.source} describes a Llama 3.2 Vision model (model_type mllama), whose cross-attention layers and "
            "vision encoder this reader of text models does not load. Use a text model, such as Llama 3.1 8B."
        )
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ConfigError(
            f"{fields.source}: model_type {model_type!r} cannot be run; ostro runs {', '.join(sorted(FAMILIES))}."
        )
    return FAMILIES[model_type]


def _refuse_variants(fields: Fields) -> None:
    """Settings that make another model of a known model_type."""
    architectures = fields.get("architectures")
    if not isinstance(architectures, list | tuple | None):
        raise fields.wrong("architectures", architectures, 'a list of class names, such as ["LlamaForCausalLM"]')
    for name in architectures or ():
        if not isinstance(name, str) or name not in ARCHITECTURES:
            raise ConfigError(
                f"{fields.source}: architecture {name!r} cannot be run; of its model_type ostro knows "
                f"{', '.join(sorted(n for n in ARCHITECTURES if n.endswith('ForCausalLM')))} and their heads."
            )
    if fields.get("auto_map"):
        raise ConfigError(
            f"{fields.source} has an auto_map: the model brings Python code of its own, which ostro never runs. "
            "If the weights are those of a plain Mistral, Mixtral or Llama, delete auto_map from the file."
        )
    read_quantization({"quantization_config": fields.get("quantization_config")}, fields.source)  # refuses foreign ones
    fields.allow_only("hidden_act", ["silu", "swish"], "the feed-forward layers of these families are SwiGLU.")
    for key in ("attention_bias", "mlp_bias", "qkv_bias", "use_bias"):
        fields.allow_only(key, [False], _BIAS)
    for key in ("is_encoder_decoder", "add_cross_attention", "use_qk_norm"):
        fields.allow_only(key, [False], "it is another architecture.")
    fields.get("is_decoder")  # these models are decoders whatever it says
    fields.allow_only("pretraining_tp", [1], "set it to 1, which gives the same results up to rounding.")
    if fields.get("pruned_heads"):
        raise ConfigError(f"{fields.source}: pruned_heads is not empty; models with pruned heads cannot be run.")
    if fields.get("cross_attention_hidden_size") is not None:
        raise ConfigError(f"{fields.source}: cross_attention_hidden_size is set; it is another architecture.")


def _rope(fields: Fields) -> tuple[float, RopeScaling | None]:
    """rope_theta and scaling: `rope_parameters` of transformers 5, or `rope_theta` with `rope_scaling` of 4."""
    new, old = fields.inner("rope_parameters"), fields.inner("rope_scaling")
    thetas = {part.number("rope_theta") for part in (fields, new, old) if part is not None and "rope_theta" in part}
    if not thetas:
        fields.require("rope_theta", unless=", neither at the top nor in rope_parameters")
    if len(thetas) > 1:
        raise ConfigError(
            f"{fields.source} states rope_theta more than once and differently: {sorted(thetas)}. Keep the right one."
        )
    scalings = [_rope_scaling(part) for part in (new, old) if part is not None]
    if len(set(scalings)) > 1:
        raise ConfigError(
            f"{fields.source}: rope_parameters and rope_scaling contradict each other. Keep the right one."
        )
    return thetas.pop(), scalings[0] if scalings else None


def _rope_scaling(part: Fields) -> RopeScaling | None:
    names = {name for key in ("rope_type", "type") if (name := part.text(key)) is not None}
    if len(names) > 1:
        raise ConfigError(f"{part.source}: rope_type and type contradict each other: {sorted(names)}.")
    if not names:
        part.require("rope_type")
    name = names.pop()
    part.allow_only("partial_rotary_factor", [1, 1.0], "these families rotate whole heads.")
    scaling: RopeScaling | None = None
    if name == "llama3":
        scaling = Llama3Rope(
            factor=part.number("factor"),
            low_freq_factor=part.number("low_freq_factor"),
            high_freq_factor=part.number("high_freq_factor"),
            original_max_position_embeddings=part.integer("original_max_position_embeddings"),
        )
        check_llama3(scaling, part.source)
    elif name == FREQUENCY_FACTORS:
        scaling = FrequencyFactors(_factors(part))
    elif name != "default":
        raise ConfigError(
            f"{part.source}: rope_type {name!r} cannot be run; default and llama3 can. "
            "No published model of these families needs another: take the checkpoint before its context was stretched."
        )
    part.refuse_unread()
    return scaling


def _factors(part: Fields) -> tuple[float, ...]:
    factors = part.numbers("factors")
    if not all(factor > 0 for factor in factors):
        raise part.wrong("factors", factors, "numbers greater than 0")
    return factors


def check_llama3(rope: Llama3Rope, source: str) -> None:
    """ConfigError where the four numbers of the llama3 scaling cannot be computed with."""
    if rope.factor <= 0 or rope.original_max_position_embeddings <= 0 or rope.low_freq_factor <= 0:
        raise ConfigError(f"{source}: the numbers of the llama3 scaling must be greater than 0, not {rope}.")
    if rope.high_freq_factor <= rope.low_freq_factor:
        raise ConfigError(
            f"{source}: high_freq_factor ({rope.high_freq_factor}) must be greater than low_freq_factor "
            f"({rope.low_freq_factor})."
        )


def _sliding_windows(fields: Fields, family: Family, num_layers: int) -> tuple[int | None, ...]:
    window = fields.optional_integer("sliding_window")
    if family == "llama" and window is not None:
        raise ConfigError(
            f"{fields.source}: sliding_window is {window}, but a model_type llama has none. "
            "Set it to null, or model_type to mistral if the model was trained with a window."
        )
    if fields.flag("use_sliding_window") is False and window is not None:
        raise ConfigError(
            f"{fields.source}: use_sliding_window is false and sliding_window is {window}. transformers uses the "
            "window of this model_type all the same. Set sliding_window to null, or delete use_sliding_window."
        )
    if fields.optional_integer("max_window_layers") is not None and window is not None:
        raise ConfigError(
            f"{fields.source}: max_window_layers is not a number of this model_type. State the layers' windows with "
            "layer_types, a list of sliding_attention and full_attention."
        )
    kinds = fields.get("layer_types")
    if kinds is None:
        return (window,) * num_layers
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise fields.wrong("layer_types", kinds, f"a list of num_hidden_layers ({num_layers}) names")
    for kind in kinds:
        if kind not in ("sliding_attention", "full_attention"):
            raise fields.wrong("layer_types", kind, "made of sliding_attention and full_attention")
    if window is None and "sliding_attention" in kinds:
        raise ConfigError(f"{fields.source}: layer_types names sliding_attention, but sliding_window is not stated.")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _token_ids(fields: Fields, generation: Mapping[str, object] | None) -> tuple[int | None, tuple[int, ...]]:
    extra = Fields(generation or {}, "generation_config.json beside " + fields.source)
    bos = fields.token_ids("bos_token_id") or extra.token_ids("bos_token_id")
    eos = extra.token_ids("eos_token_id") + fields.token_ids("eos_token_id")
    return (bos[0] if bos else None), tuple(dict.fromkeys(eos))
