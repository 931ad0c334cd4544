"""Configs: HF's names and defaults, both generations of rope fields, and random models made from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import COMMON, VARIANTS

import ostro.transformers as ours
from ostro.config import Llama3Rope
from ostro.errors import ConfigError, RequestError
from ostro.transformers import AutoConfig, LlamaConfig, MistralConfig, MistralForCausalLM, MixtralConfig

NAMES = [f"{family}Config" for family in ("Mistral", "Mixtral", "Llama")]


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_those_of_transformers(name: str) -> None:
    mine, other = getattr(ours, name)(), getattr(transformers, name)()
    for field in mine.default_values:
        if field not in ("rope_theta", "rope_scaling"):
            assert getattr(mine, field) == getattr(other, field), field
    assert mine.rope_theta == other.rope_parameters["rope_theta"]
    for field in ("vocab_size", "hidden_size", "num_attention_heads", "initializer_range", "use_cache", "num_labels"):
        assert getattr(mine, field) == getattr(other, field), field
    assert mine.head_dim == 128


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_config_goes_there_and_back(variant: str, tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(tiny_checkpoint(variant))
    config.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path) == config
    assert type(config).from_dict(config.to_dict()) == config
    theirs = transformers.AutoConfig.from_pretrained(tmp_path)
    original = transformers.AutoConfig.from_pretrained(tiny_checkpoint(variant))
    assert theirs.rope_parameters == original.rope_parameters
    for field in ("hidden_size", "head_dim", "num_key_value_heads", "tie_word_embeddings", "eos_token_id"):
        assert getattr(theirs, field) == getattr(original, field)


def test_both_generations_of_rope_fields() -> None:
    llama3 = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    old = LlamaConfig(rope_theta=5e5, rope_scaling=llama3)
    new = LlamaConfig(rope_parameters={"rope_theta": 5e5, **llama3})
    assert old == new
    assert new.rope_parameters == {"rope_theta": 5e5, **llama3}
    assert old.to_model_config().rope_scaling == Llama3Rope(32.0, 1.0, 4.0, 8192)
    with pytest.raises(ConfigError, match="keep the right one"):
        LlamaConfig(rope_theta=1e4, rope_parameters={"rope_theta": 5e5, "rope_type": "default"})


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"num_experts": 4}, "num_experts"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"num_attention_heads": 6, "num_key_value_heads": 4, "head_dim": 8}, "multiple"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ({"num_labels": 3, "id2label": {0: "a"}}, "must agree"),
    ],
)
def test_unknown_and_impossible_numbers_are_refused_at_once(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        MistralConfig(**values)


def test_a_refusal_of_arguments_speaks_of_arguments() -> None:
    with pytest.raises(ConfigError, match=r"\(4\) must be a multiple of num_key_value_heads \(8\)") as caught:
        MistralConfig(num_attention_heads=4, hidden_size=64)
    assert "damaged" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"MistralConfig states foo = 1, .*leave the key out"):
        MistralConfig(foo=1)
    with pytest.raises(ConfigError, match="vocab_size must be greater than 0, not 0") as caught:
        MistralConfig(vocab_size=0)
    assert "damaged" not in str(caught.value)


def test_router_training_switches_are_refused() -> None:
    with pytest.raises(ConfigError, match="output_router_logits"):
        MixtralConfig(output_router_logits=True)
    with pytest.raises(ConfigError, match="router_jitter_noise"):
        MixtralConfig(router_jitter_noise=0.1)


def test_labels() -> None:
    config = MistralConfig(id2label={"0": "no", "1": "yes", "2": "maybe"}, torch_dtype=torch.bfloat16)
    assert config.num_labels == 3
    assert config.label2id == {"no": 0, "yes": 1, "maybe": 2}
    assert config.dtype == config.torch_dtype == "bfloat16"
    config.num_labels = 2
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"}


def test_a_random_model_from_a_config() -> None:
    torch.manual_seed(0)
    model = MistralForCausalLM(MistralConfig(**{**COMMON, "initializer_range": 0.02}))
    assert model.training
    assert model.model.embed_tokens.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(model.model.norm.weight, torch.ones(32))
    assert model.num_parameters() == model.numbers.num_parameters()
    assert model.can_generate()
    assert model.get_output_embeddings() is model.lm_head
    assert model.model.get_output_embeddings() is None
    assert AutoConfig.for_model("mistral", **COMMON) == MistralConfig(**COMMON)
    half = ours.AutoModelForCausalLM.from_config(MistralConfig(**COMMON), dtype=torch.float16)
    assert half.dtype == torch.float16
    assert model(torch.ones(1, 4, dtype=torch.long)).logits.shape == (1, 4, 101)
    assert ours.AutoModelForCausalLM.from_config(MistralConfig(**COMMON), torch_dtype="float16").dtype == torch.float16
    with pytest.raises(RequestError, match="torch_dtype='float16' are one argument"):
        MistralForCausalLM.from_config(MistralConfig(**COMMON), dtype=torch.bfloat16, torch_dtype="float16")
