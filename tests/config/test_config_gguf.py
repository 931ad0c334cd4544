"""GGUF metadata: every key of architecture llama is read or refused."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostro.config import FrequencyFactors, from_gguf
from ostro.errors import ConfigError

SHAPES = {"token_embd.weight": (50, 64), "output.weight": (50, 64)}


def f32(value: float) -> float:
    """A float32 as GGUF stores and a reader returns it."""
    result: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return result


def metadata(**changes: Any) -> dict[str, Any]:
    """Keys of a file; `changes` are without the prefix `llama.`, dots as double underscores, `...` takes one out."""
    numbers = {
        "block_count": 3, "context_length": 128, "embedding_length": 64, "feed_forward_length": 96,
        "attention__head_count": 4, "attention__head_count_kv": 2, "attention__layer_norm_rms_epsilon": f32(1e-5),
        "rope__freq_base": 1e6, "rope__dimension_count": 16, "vocab_size": 50,
    } | changes  # fmt: skip
    keys = {"llama." + key.replace("__", "."): value for key, value in numbers.items() if value is not ...}
    general = {"general.architecture": "llama", "general.file_type": 1, "tokenizer.ggml.tokens": ["a"] * 50}
    return general | {"tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2} | keys


def read(data: dict[str, Any], rope_freqs: list[float] | None = None, shapes: Any = SHAPES) -> Any:
    return from_gguf(data, shapes, rope_freqs, source="model.gguf")


def test_all_numbers() -> None:
    config = read(metadata())
    assert (config.family, config.num_hidden_layers, config.max_position_embeddings) == ("llama", 3, 128)
    assert (config.hidden_size, config.intermediate_size, config.head_dim, config.vocab_size) == (64, 96, 16, 50)
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)
    assert (config.rms_norm_eps, config.rope_theta, config.rope_scaling) == (1e-5, 1e6, None)
    assert (config.bos_token_id, config.eos_token_ids, config.torch_dtype) == (1, (2,), "float16")
    assert config.sliding_windows == (None,) * 3


@pytest.mark.parametrize("value", [1e-5, 1e-6, 5e5, 1e6, 10000.0, 1e8, 9.5e-6, 500000.5])
def test_float32_numbers_mean_their_decimals(value: float) -> None:
    assert read(metadata(rope__freq_base=f32(value))).rope_theta == value
    assert read(metadata(attention__layer_norm_rms_epsilon=f32(value))).rms_norm_eps == value


@given(value=st.floats(2.0**-100, 2.0**100, width=32))
def test_a_shortened_number_is_the_same_float32(value: float) -> None:
    assert f32(read(metadata(rope__freq_base=value)).rope_theta) == value


def test_absence_that_has_a_meaning() -> None:
    assert read(metadata(attention__head_count_kv=...)).num_key_value_heads == 4
    assert read(metadata(rope__freq_base=...)).rope_theta == 10000.0
    assert read(metadata(rope__dimension_count=...)).head_dim == 16
    assert read(metadata(vocab_size=...)).vocab_size == 50
    assert not read(metadata()).tie_word_embeddings
    assert read(metadata(), shapes={"token_embd.weight": (50, 64)}).tie_word_embeddings


def test_explicit_head_dim() -> None:
    sizes = {"attention__key_length": 24, "attention__value_length": 24, "rope__dimension_count": 24}
    assert read(metadata(**sizes)).head_dim == 24


def test_arrays_of_equal_numbers() -> None:
    data = metadata(attention__head_count=[4] * 3, attention__head_count_kv=[2] * 3, feed_forward_length=[96] * 3)
    assert read(data) == read(metadata())


def test_experts_window_and_frequencies() -> None:
    config = read(metadata(expert_count=8, expert_used_count=2, attention__sliding_window=32))
    assert (config.family, config.num_local_experts, config.num_experts_per_tok) == ("mixtral", 8, 2)
    assert config.sliding_windows == (32,) * 3
    assert read(metadata(expert_count=0, expert_used_count=0)).family == "llama"
    factors = [1.0] * 4 + [8.0] * 4
    assert read(metadata(), factors).rope_scaling == FrequencyFactors(tuple(factors))


def test_ids_that_end_text() -> None:
    data = metadata() | {"tokenizer.ggml.eot_token_id": 9, "tokenizer.ggml.eom_token_id": 2}
    assert read(data).eos_token_ids == (2, 9)


NEEDED = ["block_count", "context_length", "embedding_length", "feed_forward_length", "attention__head_count"]


@pytest.mark.parametrize("key", [*NEEDED, "attention__layer_norm_rms_epsilon"])
def test_nothing_that_changes_the_model_is_guessed(key: str) -> None:
    with pytest.raises(ConfigError, match=f"model.gguf has no .*{key.replace('__', '.')}"):
        read(metadata(**{key: ...}))


def test_vocabulary_must_be_known() -> None:
    data = metadata(vocab_size=...)
    del data["tokenizer.ggml.tokens"]
    with pytest.raises(ConfigError, match=r"has no \"llama\.vocab_size\" \(nor tokenizer\.ggml\.tokens\)"):
        read(data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general.architecture": "mistral3"}, "general.architecture is 'mistral3', and only 'llama'"),
        ({"general.architecture": None}, 'has no "general.architecture"'),
        ({"general.type": "adapter"}, "of type 'adapter'"),
        ({"llama.rope.scaling.type": "yarn"}, "rope.scaling.type is 'yarn', and only 'none'"),
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}, "rope.scaling.type is 'linear'"),
        ({"llama.rope.scale_linear": 4.0}, "rope.scale_linear is 4.0"),
        ({"llama.attention.head_count_kv": [2, 2, 1]}, "the same in every layer"),
        ({"llama.attention.head_count_kv": 0}, "at least 1"),
        ({"llama.attention.value_length": 8}, "llama.attention.value_length is 8 and the head dimension 16"),
        ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count is 8"),
        ({"llama.tensor_data_layout": "reference"}, "tensor_data_layout is 'reference'"),
        ({"llama.expert_count": 8}, 'has no "llama.expert_used_count"'),
        ({"llama.expert_weights_scale": 2.5}, "expert_weights_scale is 2.5"),
        ({"llama.attention.scale": 0.015}, "attention.scale is 0.015"),
        ({"llama.attn_logit_softcapping": 30.0}, "states attn_logit_softcapping = 30.0"),
        ({"llama.block_count": 2**40}, "block_count must be between"),
        ({"llama.block_count": "3"}, "block_count must be a whole number"),
        ({"llama.rope.freq_base": 0.0}, "rope_theta must be greater than 0"),
        ({"llama.rope.freq_base": float("nan")}, "freq_base must be a finite number"),
    ],
)
def test_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(metadata() | changes)
    assert "model.gguf" in str(caught.value)


@pytest.mark.parametrize("factors", [[1.0] * 7, [0.0] * 8, [float("nan")] * 8, [float("inf")] * 8, []])
def test_frequencies_that_cannot_be(factors: list[float]) -> None:
    with pytest.raises(ConfigError, match="rope_freqs"):
        read(metadata(), factors)


def test_neutral_values_are_accepted() -> None:
    neutral = {
        "llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 0.0, "llama.rope.scaling.finetuned": False,
        "llama.tensor_data_layout": "Meta AI original pth", "llama.logit_scale": 0.0, "general.type": "model",
        "quantize.imatrix.file": "x.dat", "split.count": 0,
    }  # fmt: skip
    assert read(metadata() | neutral) == read(metadata())


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.integers(), max_size=4)
)


@given(key=st.sampled_from(sorted(metadata())), value=VALUES)
def test_any_value_is_read_or_refused(key: str, value: Any) -> None:
    try:
        read(metadata() | {key: value})
    except ConfigError:
        pass
