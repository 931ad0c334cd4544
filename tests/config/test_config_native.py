"""params.json of Mistral and Meta, and the published models whose files leave numbers out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostro.config import Llama3Rope, from_params
from ostro.config.published import PUBLISHED
from ostro.errors import ConfigError


def params(**changes: Any) -> dict[str, Any]:
    """A file of Mistral's manner that is no published model's; a change to `...` takes the key out."""
    data = {
        "dim": 64, "n_layers": 4, "head_dim": 16, "hidden_dim": 128, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5,
        "vocab_size": 100, "rope_theta": 1e6, "max_seq_len": 512,
    } | changes  # fmt: skip
    return {key: value for key, value in data.items() if value is not ...}


def read(data: dict[str, Any], **options: Any) -> Any:
    return from_params(data, source="folder/params.json", **options)


MISTRAL = {
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "norm_eps": 1e-5,
}


def meta(dim: int, layers: int, heads: int, multiplier: float, multiple_of: int, **changes: Any) -> dict[str, Any]:
    """A file of Meta's manner."""
    sizes = {"dim": dim, "n_layers": layers, "n_heads": heads, "n_kv_heads": 8, "vocab_size": 128256}
    feed_forward = {"ffn_dim_multiplier": multiplier, "multiple_of": multiple_of}
    return sizes | feed_forward | {"norm_eps": 1e-5, "rope_theta": 500000.0, "use_scaled_rope": True} | changes


FACTOR_8, FACTOR_32 = (Llama3Rope(factor, 1.0, 4.0, 8192) for factor in (8.0, 32.0))

# As published; the numbers that they leave out are what the hub's config.json files state.
FILES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Mistral 7B v0.1": (
        MISTRAL | {"vocab_size": 32000, "sliding_window": 4096},
        {"rope_theta": 1e4, "max_position_embeddings": 32768, "max_window": 4096, "intermediate_size": 14336},
    ),
    "Mistral 7B v0.2": (
        MISTRAL | {"vocab_size": 32000, "rope_theta": 1e6},
        {"rope_theta": 1e6, "max_position_embeddings": 32768, "max_window": None},
    ),
    "Mistral 7B v0.3": (
        MISTRAL | {"vocab_size": 32768, "rope_theta": 1e6},
        {"rope_theta": 1e6, "max_position_embeddings": 32768, "vocab_size": 32768},
    ),
    "Mixtral 8x7B": (
        MISTRAL | {"vocab_size": 32000, "moe": {"num_experts": 8, "num_experts_per_tok": 2}},
        {"rope_theta": 1e6, "num_local_experts": 8, "num_experts_per_tok": 2, "family": "mixtral"},
    ),
    "Mistral NeMo": (
        MISTRAL | {"dim": 5120, "n_layers": 40, "vocab_size": 131072, "rope_theta": 1e6},
        {"head_dim": 128, "max_position_embeddings": 131072},
    ),
    "Llama 3.1 8B": (
        meta(4096, 32, 32, 1.3, 1024),
        {"intermediate_size": 14336, "rope_scaling": FACTOR_8, "max_position_embeddings": 131072, "family": "llama"},
    ),
    "Llama 3.1 70B": (
        meta(8192, 80, 64, 1.3, 4096),
        {"intermediate_size": 28672, "rope_scaling": FACTOR_8, "tie_word_embeddings": False},
    ),
    "Llama 3.1 405B": (meta(16384, 126, 128, 1.2, 4096), {"intermediate_size": 53248, "head_dim": 128}),
    "Llama 3.2 1B": (
        meta(2048, 16, 32, 1.5, 256),
        {"intermediate_size": 8192, "rope_scaling": FACTOR_32, "tie_word_embeddings": True, "head_dim": 64},
    ),
    "Llama 3.2 3B": (
        meta(3072, 28, 24, 1.0, 256),
        {"intermediate_size": 8192, "rope_scaling": FACTOR_32, "tie_word_embeddings": True},
    ),
    "Llama 3 8B": (
        meta(4096, 32, 32, 1.3, 1024, use_scaled_rope=False),
        {"rope_scaling": None, "max_position_embeddings": 8192},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_published_files(name: str) -> None:
    data, expected = FILES[name]
    config = read(data)
    assert {key: getattr(config, key) for key in expected} == expected


PARAMETERS = {  # billions, of the models' cards
    "Mistral 7B v0.1": 7.24, "Mistral 7B v0.3": 7.25, "Mixtral 8x7B": 46.7, "Mistral NeMo": 12.2, "Llama 3.1 8B": 8.03,
    "Llama 3.1 70B": 70.6, "Llama 3.1 405B": 405.9, "Llama 3.2 1B": 1.24, "Llama 3.2 3B": 3.21,
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_sizes(name: str) -> None:
    assert read(FILES[name][0]).num_parameters() / 1e9 == pytest.approx(PARAMETERS[name], rel=0.005)


def test_no_two_published_models_are_mistaken_for_each_other() -> None:
    marks = [
        (
            m.dim,
            m.layers,
            m.heads,
            m.kv_heads,
            m.head_dim,
            m.hidden,
            m.vocab,
            m.window,
            m.experts,
            m.rope_factor is None,
        )
        for m in PUBLISHED
        if m.name != "Mistral 7B v0.2"
    ]
    assert len(set(marks)) == len(marks)


@pytest.mark.parametrize(
    ("name", "change", "key"),
    [
        ("Mistral 7B v0.1", {"hidden_dim": 14337}, "max_seq_len"),
        ("Mistral 7B v0.1", {"sliding_window": 2048, "max_seq_len": 99}, "rope_theta"),
        ("Mistral 7B v0.1", {"sliding_window": None, "max_seq_len": 99}, "rope_theta"),
        ("Mistral 7B v0.3", {"rope_theta": 2e6}, "max_seq_len"),
        ("Mixtral 8x7B", {"moe": {"num_experts": 4, "num_experts_per_tok": 2}, "max_seq_len": 9}, "rope_theta"),
        ("Llama 3.1 8B", {"vocab_size": 128257, "max_seq_len": 9}, "rope_scaling_factor"),
        ("Llama 3.2 1B", {"tied_embeddings": False, "max_seq_len": 9}, "rope_scaling_factor"),
    ],
)
def test_a_file_that_differs_in_one_number_gets_nothing(name: str, change: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf'folder/params\.json has no "{key}".*add "{key}"'):
        read(FILES[name][0] | change)


def test_stated_numbers_win() -> None:
    assert read(FILES["Mistral 7B v0.1"][0] | {"max_seq_len": 8192}).max_position_embeddings == 8192
    scaled = params(use_scaled_rope=True, rope_scaling_factor=16)
    assert read(scaled).rope_scaling == Llama3Rope(16.0, 1.0, 4.0, 8192)
    own = scaled | {"low_freq_factor": 2, "high_freq_factor": 3, "original_max_position_embeddings": 64}
    assert read(own).rope_scaling == Llama3Rope(16.0, 2.0, 3.0, 64)


def test_windows_may_be_a_pattern() -> None:
    assert read(params(sliding_window=[8, None])).sliding_windows == (8, None, 8, None)
    assert read(params(sliding_window="16")).sliding_windows == (16,) * 4
    assert read(params(sliding_window=None)).sliding_windows == (None,) * 4


def test_vocab_size_of_old_files_is_that_of_the_embeddings() -> None:
    for absent in (..., -1):
        assert read(params(vocab_size=absent), vocab_rows=77).vocab_size == 77
        with pytest.raises(ConfigError, match='has no "vocab_size"'):
            read(params(vocab_size=absent))


def test_head_dim_and_families() -> None:
    assert read(params(head_dim=32)).head_dim == 32
    assert read(params(head_dim=...)).head_dim == 16
    assert read(params()).family == "mistral"
    assert read(params(hidden_dim=..., multiple_of=32)).family == "llama"
    assert read(params(hidden_dim=..., multiple_of=32)).intermediate_size == 192
    assert read(params(moe={"num_experts": 4, "num_experts_per_tok": 1})).family == "mixtral"
    assert read(params(bos_token_id=1, eos_token_id=[2, 3])).eos_token_ids == (2, 3)
    assert (read(params()).bos_token_id, read(params()).eos_token_ids) == (None, ())
    assert read(params(tied_embeddings=True)).tie_word_embeddings
    assert not read(params()).tie_word_embeddings


@pytest.mark.parametrize(
    "key", ["dim", "n_layers", "n_heads", "n_kv_heads", "norm_eps", "hidden_dim", "rope_theta", "max_seq_len"]
)
def test_nothing_that_changes_the_model_is_guessed(key: str) -> None:
    with pytest.raises(ConfigError, match=rf'folder/params\.json has no "{key}"'):
        read(params(**{key: ...}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_encoder": {"image_size": 1024}}, "states vision_encoder.*take the text model"),
        ({"vision_chunk_size": 560}, "states vision_chunk_size"),
        ({"quantization": {"qformat_weight": "fp8_e4m3"}}, "states quantization"),
        ({"lora": {"rank": 8}}, "states lora.*Merge"),
        ({"yarn": {"factor": 8}}, "states yarn"),
        ({"model_type": "mamba"}, "model_type is 'mamba'"),
        ({"use_biases": True}, "use_biases is true"),
        ({"causal": False}, "causal is false"),
        ({"qk_rope_head_dim": 64}, "states qk_rope_head_dim = 64, which ostro does not know"),
        ({"moe": {"num_experts": 8}}, 'moe of folder/params.json has no "num_experts_per_tok"'),
        ({"moe": {"num_experts": 8, "num_experts_per_tok": 2, "num_shared_experts": 1}}, "states num_shared_experts"),
        ({"moe": 8}, "moe must be an object"),
        ({"rope_scaling_factor": 8}, "rope_scaling_factor but not"),
        ({"use_scaled_rope": True, "rope_scaling_factor": 8, "low_freq_factor": 9}, "must be greater than low_freq"),
        ({"use_scaled_rope": True, "rope_scaling_factor": 8, "low_freq_factor": 0}, "must be greater than 0"),
        ({"low_freq_factor": 9}, "states low_freq_factor"),
        ({"sliding_window": [8, 8, 8]}, r"a pattern whose length divides n_layers \(4\)"),
        ({"sliding_window": []}, "a pattern whose length divides"),
        ({"sliding_window": "wide"}, "sliding_window must be a whole number"),
        ({"tied_embeddings": True, "tie_word_embeddings": False}, "contradict each other"),
        ({"hidden_dim": ..., "multiple_of": 0}, "multiple_of must be at least 1"),
        ({"n_layers": 10**15}, "n_layers must be between"),
    ],
)  # fmt: skip
def test_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(params(**change))
    assert "folder/params.json" in str(caught.value)


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.integers(), max_size=4)
)


@given(
    key=st.sampled_from([*params(), "sliding_window", "multiple_of", "ffn_dim_multiplier", "moe", "use_scaled_rope"]),
    value=VALUES,
)
def test_any_value_is_read_or_refused(key: str, value: Any) -> None:
    for data in (params(), params(hidden_dim=..., multiple_of=32), FILES["Llama 3.1 8B"][0]):
        try:
            read(data | {key: value})
        except ConfigError:
            pass
