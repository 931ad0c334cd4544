"""config.json: everything that transformers writes reads back; what changes the model is never guessed or dropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import VARIANTS

from ostro.config import Llama3Rope, from_hf
from ostro.errors import ConfigError

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def mistral_v01(**changes: Any) -> dict[str, Any]:
    """Mistral 7B v0.1's config.json; a change to `...` takes the key out."""
    data = {
        "architectures": ["MistralForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "initializer_range": 0.02,
        "intermediate_size": 14336,
        "max_position_embeddings": 32768,
        "model_type": "mistral",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.34.0.dev0",
        "use_cache": True,
        "vocab_size": 32000,
    } | changes
    return {key: value for key, value in data.items() if value is not ...}


def llama(**changes: Any) -> dict[str, Any]:
    data = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "sliding_window": ..., "rope_scaling": LLAMA3}
    return mistral_v01(**(data | changes))


def mixtral(**changes: Any) -> dict[str, Any]:
    data = {"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 8}
    return mistral_v01(**(data | {"num_experts_per_tok": 2, "sliding_window": None} | changes))


def read(data: dict[str, Any], **options: Any) -> Any:
    return from_hf(data, source="folder/config.json", **options)


def test_mistral_7b_v01() -> None:
    config = read(mistral_v01())
    assert (config.family, config.head_dim, config.sliding_windows) == ("mistral", 128, (4096,) * 32)
    assert (config.rope_theta, config.rope_scaling, config.torch_dtype) == (10000.0, None, "bfloat16")
    assert (config.bos_token_id, config.eos_token_ids, config.num_local_experts) == (1, (2,), 0)
    assert config.num_parameters() == 7_241_732_096


@pytest.mark.parametrize("kind", ["Mistral", "Mixtral", "Llama"])
def test_default_configs_of_transformers(kind: str, tmp_path: Path) -> None:
    import transformers

    config = getattr(transformers, f"{kind}Config")()
    config.save_pretrained(tmp_path)
    saved = read(json.loads((tmp_path / "config.json").read_text()))
    assert saved == read(config.to_dict())
    assert saved.family == kind.lower()
    assert saved.rope_theta == config.rope_parameters["rope_theta"]
    assert saved.rms_norm_eps == config.rms_norm_eps
    window = getattr(config, "sliding_window", None)
    assert saved.sliding_windows == (window,) * 32


@pytest.mark.parametrize("variant", VARIANTS)
def test_numbers_of_every_variant(variant: str, tiny_checkpoint: Callable[[str], Path]) -> None:
    import transformers

    folder = tiny_checkpoint(variant)
    theirs = transformers.AutoConfig.from_pretrained(folder)
    ours = read(json.loads((folder / "config.json").read_text()))
    same = (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
        "max_position_embeddings rms_norm_eps tie_word_embeddings bos_token_id"
    )
    for name in same.split():
        if getattr(theirs, name) is not None:
            assert getattr(ours, name) == getattr(theirs, name), name
    rope = dict(theirs.rope_parameters)
    assert rope.pop("rope_theta") == ours.rope_theta
    if rope.pop("rope_type") == "llama3":
        assert ours.rope_scaling == Llama3Rope(**rope)
    else:
        assert ours.rope_scaling is None


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_theta": 5e5, "rope_scaling": LLAMA3},
        {"rope_theta": 5e5, "rope_scaling": {("type" if k == "rope_type" else k): v for k, v in LLAMA3.items()}},
        {"rope_theta": ..., "rope_parameters": LLAMA3 | {"rope_theta": 5e5}, "rope_scaling": ...},
        {"rope_theta": 5e5, "rope_parameters": LLAMA3, "rope_scaling": None},
        {"rope_theta": 5e5, "rope_parameters": LLAMA3 | {"rope_theta": 5e5}, "rope_scaling": LLAMA3},
        {"rope_theta": 500000, "rope_parameters": {}, "rope_scaling": LLAMA3 | {"type": "llama3"}},
    ],
)
def test_rope_in_every_spelling(rope: dict[str, Any]) -> None:
    config = read(llama(**rope))
    assert config.rope_theta == 5e5
    assert config.rope_scaling == Llama3Rope(8.0, 1.0, 4.0, 8192)


def test_head_dim_is_read_before_it_is_derived() -> None:
    assert read(mistral_v01(hidden_size=5120, head_dim=128)).head_dim == 128
    assert read(mistral_v01(hidden_size=5120)).head_dim == 160
    assert read(mixtral(head_dim=None)).head_dim == 128
    with pytest.raises(ConfigError, match="head_dim is not stated and hidden_size / num_attention_heads"):
        read(mistral_v01(hidden_size=5119))


def test_windows_by_layer() -> None:
    kinds = ["full_attention", "sliding_attention"] * 16
    assert read(mistral_v01(layer_types=kinds)).sliding_windows == (None, 4096) * 16
    assert read(mistral_v01(sliding_window=None)).sliding_windows == (None,) * 32
    assert read(mistral_v01(sliding_window=...)).sliding_windows == (None,) * 32
    assert read(mistral_v01(use_sliding_window=True)).max_window == 4096
    assert read(llama(layer_types=["full_attention"] * 32, sliding_window=None)).max_window is None


def test_ids_that_end_text() -> None:
    llama31 = llama(eos_token_id=[128001, 128008, 128009], bos_token_id=128000, vocab_size=128256)
    assert read(llama31).eos_token_ids == (128001, 128008, 128009)
    assert read(mistral_v01(), generation={"eos_token_id": [5, 2]}).eos_token_ids == (5, 2)
    assert read(mistral_v01(eos_token_id=None), generation={"eos_token_id": 7}).eos_token_ids == (7,)
    assert read(mistral_v01(eos_token_id=...)).eos_token_ids == ()
    assert read(mistral_v01(bos_token_id=...), generation={"bos_token_id": 3}).bos_token_id == 3


NEEDED = (
    "model_type hidden_size intermediate_size max_position_embeddings num_attention_heads num_hidden_layers "
    "num_key_value_heads rms_norm_eps rope_theta vocab_size"
)


@pytest.mark.parametrize("key", NEEDED.split())
@pytest.mark.parametrize("absent", [..., None])
def test_nothing_that_changes_the_model_is_guessed(key: str, absent: Any) -> None:
    with pytest.raises(ConfigError, match=rf'folder/config\.json has no "{key}".*add "{key}"'):
        read(mistral_v01(**{key: absent}))


@pytest.mark.parametrize("key", ["num_local_experts", "num_experts_per_tok"])
def test_experts_are_not_guessed(key: str) -> None:
    with pytest.raises(ConfigError, match=f'has no "{key}"'):
        read(mixtral(**{key: ...}))


@pytest.mark.parametrize("key", [key for key in LLAMA3 if key != "rope_type"])
def test_numbers_of_the_scaling_are_not_guessed(key: str) -> None:
    scaling = {name: value for name, value in LLAMA3.items() if name != key}
    with pytest.raises(ConfigError, match=rf'rope_scaling of folder/config\.json has no "{key}"'):
        read(llama(rope_scaling=scaling))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "mllama": (mistral_v01(model_type="mllama"), "Llama 3.2 Vision.*Use a text model"),
    "qwen2": (mistral_v01(model_type="qwen2"), "model_type 'qwen2' cannot be run; ostro runs llama, mistral, mixtral"),
    "model_type is a list": (mistral_v01(model_type=["mistral"]), "cannot be run"),
    "architecture": (mistral_v01(architectures=["MistralForVideo"]), "architecture 'MistralForVideo' cannot"),
    "own code": (mistral_v01(auto_map={"AutoModel": "x.py"}), "auto_map.*never runs"),
    "gptq": (mistral_v01(quantization_config={"quant_method": "gptq", "bits": 4}), "quantized by 'gptq'.*GGUF"),
    "linear": (mistral_v01(rope_scaling={"type": "linear", "factor": 2.0}), "rope_type 'linear' cannot be run"),
    "yarn": (mistral_v01(rope_scaling={"rope_type": "yarn", "factor": 2.0}), "rope_type 'yarn' cannot be run"),
    "no rope type": (mistral_v01(rope_scaling={"factor": 2.0}), 'has no "rope_type"'),
    "rope key": (llama(rope_scaling=LLAMA3 | {"mscale": 2}), "rope_scaling of .* states mscale = 2, which"),
    "default with factor": (mistral_v01(rope_scaling={"type": "default", "factor": 2}), "states factor = 2"),
    "two rope types": (llama(rope_scaling=LLAMA3 | {"type": "yarn"}), "rope_type and type contradict"),
    "two thetas": (mistral_v01(rope_parameters={"rope_type": "default", "rope_theta": 1e6}), "more than once"),
    "two scalings": (llama(rope_parameters={"rope_type": "default"}), "contradict each other"),
    "partial": (mistral_v01(rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}), "whole heads"),
    "flat blend": (llama(rope_scaling=LLAMA3 | {"high_freq_factor": 1.0}), "must be greater than low_freq_factor"),
    "factor 0": (llama(rope_scaling=LLAMA3 | {"factor": 0}), "must be greater than 0"),
    "architectures is a string": (
        llama(architectures="LlavaForConditionalGeneration"),
        "architectures must be a list of class names, .*not 'LlavaForConditionalGeneration'",
    ),
    "architectures is an object": (llama(architectures={"0": "LlamaForCausalLM"}), "architectures must be a list"),
    "an architecture is a list": (llama(architectures=[["LlamaForCausalLM"]]), "architecture .* cannot be run"),
    "gelu": (mistral_v01(hidden_act="gelu"), "hidden_act is 'gelu', and only 'silu'"),
    "attention_bias": (llama(attention_bias=True), "attention_bias is true, and only false"),
    "mlp_bias": (llama(mlp_bias=True), "mlp_bias is true"),
    "pretraining_tp": (llama(pretraining_tp=2), "pretraining_tp is 2"),
    "window of a llama": (llama(sliding_window=4096), "a model_type llama has none"),
    "use_sliding_window": (mistral_v01(use_sliding_window=False), "use_sliding_window is false"),
    "max_window_layers": (mistral_v01(max_window_layers=28), "layer_types"),
    "layer_types too short": (mistral_v01(layer_types=["full_attention"]), r"a list of num_hidden_layers \(32\)"),
    "layer_types unknown": (mistral_v01(layer_types=["linear_attention"] * 32), "made of sliding_attention"),
    "window missing": (mistral_v01(sliding_window=None, layer_types=["sliding_attention"] * 32), "not stated"),
    "unknown key": (mistral_v01(attn_logit_softcapping=30.0), "states attn_logit_softcapping = 30.0, which ostro"),
    "experts in a dense model": (mistral_v01(num_local_experts=8), "states num_local_experts = 8"),
    "a string": (mistral_v01(hidden_size="4096"), "hidden_size must be a whole number, not '4096'"),
    "true": (mistral_v01(vocab_size=True), "vocab_size must be a whole number, not true"),
    "a fraction": (mistral_v01(num_hidden_layers=1.5), "num_hidden_layers must be a whole number"),
    "NaN": (mistral_v01(rms_norm_eps=float("nan")), "rms_norm_eps must be a finite number"),
    "infinity": (mistral_v01(rope_theta=float("inf")), "rope_theta must be a finite number"),
    "too large for a float": (mistral_v01(rope_theta=10**400), "rope_theta must be a finite number"),
    "2**60 layers": (mistral_v01(num_hidden_layers=2**60), r"num_hidden_layers must be below 2\*\*53"),
    "2**50 layers": (mistral_v01(num_hidden_layers=2**50), "num_hidden_layers must be between 1 and 10000"),
    "an id beyond the vocabulary": (
        mistral_v01(eos_token_id=32000),
        "eos_token_id is 32000, but ids go from 0 to 31999",
    ),
    "no layer": (mistral_v01(num_hidden_layers=0), "num_hidden_layers must be between 1 and 10000"),
    "no head": (mistral_v01(num_attention_heads=0), "head_dim is not stated"),
    "no key head": (mistral_v01(num_key_value_heads=0), "num_key_value_heads must be greater than 0"),
    "tie is a string": (mistral_v01(tie_word_embeddings="yes"), "tie_word_embeddings must be true or false"),
    "eos is text": (mistral_v01(eos_token_id="</s>"), "eos_token_id must be a whole number"),
    "rope is a list": (mistral_v01(rope_scaling=[1]), "rope_scaling must be an object"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str) -> None:
    data, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as caught:
        read(data)
    assert "folder/config.json" in str(caught.value)


@pytest.mark.parametrize(
    "harmless",
    [
        {"router_jitter_noise": 0.1, "router_aux_loss_coef": 0.02, "output_router_logits": True},
        {"attention_dropout": 0.1, "max_length": 20, "temperature": 0.7, "id2label": {"0": "A"}},
        {"auto_map": None, "quantization_config": None, "pruned_heads": {}, "attn_logit_softcapping": None},
        {"dtype": "bfloat16", "torch_dtype": ..., "_name_or_path": "x", "unsloth_version": "2025.1"},
    ],
)
def test_what_does_not_change_the_model_is_accepted(harmless: dict[str, Any]) -> None:
    assert read(mixtral(**harmless)) == read(mixtral())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*LLAMA3, "x"]), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted(llama() | mixtral() | {"rope_parameters": 0, "layer_types": 0})), value=JSON)
def test_any_value_is_read_or_refused(key: str, value: Any) -> None:
    for data in (mistral_v01(), llama(), mixtral()):
        try:
            read(data | {key: value}, generation={"eos_token_id": value})
        except ConfigError:
            pass
