"""Numbers of encoders, as transformers writes them and as the hub has them."""

from __future__ import annotations

from typing import Any

import pytest

from ostro.config.encoder import FAMILIES, encoder_from_hf
from ostro.errors import ConfigError

MINILM: dict[str, Any] = {
    "_name_or_path": "nreimers/MiniLM-L6-H384-uncased", "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": False, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1, "hidden_size": 384, "initializer_range": 0.02, "intermediate_size": 1536,
    "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12,
    "num_hidden_layers": 6, "pad_token_id": 0, "position_embedding_type": "absolute", "transformers_version": "4.8.2",
    "type_vocab_size": 2, "use_cache": True, "vocab_size": 30522,
}  # fmt: skip
E5: dict[str, Any] = {
    **MINILM, "model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"], "bos_token_id": 0, "eos_token_id": 2,
    "max_position_embeddings": 514, "output_past": True, "pad_token_id": 1, "type_vocab_size": 1, "vocab_size": 250037,
}  # fmt: skip
DISTILBERT: dict[str, Any] = {
    "activation": "gelu", "attention_dropout": 0.1, "dim": 768, "dropout": 0.1, "hidden_dim": 3072,
    "initializer_range": 0.02, "max_position_embeddings": 512, "model_type": "distilbert", "n_heads": 12,
    "n_layers": 6, "pad_token_id": 0, "qa_dropout": 0.1, "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": False,
    "tie_weights_": True, "vocab_size": 30522,
}  # fmt: skip


def test_published_files() -> None:
    minilm = encoder_from_hf(MINILM, source="config.json")
    assert (minilm.hidden_size, minilm.num_hidden_layers, minilm.max_tokens) == (384, 6, 512)
    assert (minilm.has_token_types, minilm.has_position_bias) == (True, False)
    e5 = encoder_from_hf(E5, source="config.json")
    assert (e5.family, e5.first_position, e5.max_tokens) == ("roberta", 2, 512)
    distilbert = encoder_from_hf(DISTILBERT, source="config.json")
    assert (distilbert.hidden_size, distilbert.layer_norm_eps, distilbert.has_token_types) == (768, 1e-12, False)
    mpnet = encoder_from_hf({**MINILM, "model_type": "mpnet", "max_position_embeddings": 514}, source="c")
    assert (mpnet.max_tokens, mpnet.has_position_bias, mpnet.has_token_types) == (512, True, False)


@pytest.mark.parametrize("key", ["hidden_size", "layer_norm_eps", "hidden_act", "num_attention_heads", "vocab_size"])
def test_nothing_is_guessed(key: str) -> None:
    with pytest.raises(ConfigError, match=f'config.json has no "{key}"'):
        encoder_from_hf({**MINILM, key: None}, source="config.json")
    with pytest.raises(ConfigError, match='has no "pad_token_id"'):
        encoder_from_hf({**E5, "pad_token_id": None}, source="config.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "modernbert"}, "model_type is 'modernbert', and embedding models of the types bert, roberta"),
        ({"model_type": None}, "model_type is None"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu', and only 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, "is_decoder is true"),
        ({"num_attention_heads": 5}, "must be a multiple of num_attention_heads"),
        ({"hidden_size": 0}, "must be at least 1"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be between 1 and 10000"),
        ({"rope_theta": 1e4}, "states rope_theta"),
        ({"model_type": "roberta", "max_position_embeddings": 1}, "leaves no room"),
        ({"model_type": "mpnet", "relative_attention_num_buckets": 64}, "relative_attention_num_buckets is 64"),
    ],
)
def test_what_cannot_be_run(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        encoder_from_hf({**MINILM, **changes}, source="config.json")


def test_every_family_has_its_oracle() -> None:
    from tiny_encoders import FAMILIES as TESTED

    assert set(FAMILIES.values()) <= {FAMILIES[name] for name in TESTED}
