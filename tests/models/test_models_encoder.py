"""The encoder over `Ops`: every hidden state against transformers, and weights that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_encoders import FAMILIES, hidden_states, make_encoder

from ostro.checkpoint.folder import read_weights
from ostro.checkpoint.text import read_json
from ostro.config.encoder import EncoderConfig, encoder_from_hf
from ostro.errors import CheckpointError
from ostro.models.encoder import encode, position_bias
from ostro.models.load_encoder import load_encoder
from ostro.ops import get_ops

TEXTS = [[0, 5, 9, 17, 2], [0, 2], [0, *([7, 30, 12, 39] * 70), 2]]


def load(folder: Path) -> tuple[EncoderConfig, dict[str, Any]]:
    holder = read_weights(folder).holder
    return (
        encoder_from_hf(read_json(folder / "config.json"), source="config.json"),
        {name: file.tensor(name) for name, file in holder.items()},
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_every_hidden_state(family: str, tmp_path: Path) -> None:
    model = make_encoder(family)
    model.save_pretrained(tmp_path)
    config, tensors = load(tmp_path)
    ops = get_ops("cpu", num_threads=2)
    weights = load_encoder(ops, config, list(tensors), tensors.__getitem__, source="model")
    ours = ops.to_numpy(encode(ops, config, weights, TEXTS))
    expected = np.concatenate([hidden_states(model, ids) for ids in TEXTS])
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_position_bias_has_the_buckets_of_transformers() -> None:
    import torch
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    length = 700
    places = torch.arange(length)
    buckets = MPNetEncoder.relative_position_bucket(places[None, :] - places[:, None])
    ours = position_bias(np.arange(32, dtype=np.float32)[None], length)[0]
    for row in (0, 1, 350, 699):
        assert ours[length - 1 - row : 2 * length - 1 - row].astype(int).tolist() == buckets[row].tolist()


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    make_encoder("bert", num_hidden_layers=1).save_pretrained(tmp_path)
    config, tensors = load(tmp_path)
    ops = get_ops("reference")

    def attempt(changed: dict[str, Any]) -> None:
        load_encoder(ops, config, list(changed), changed.__getitem__, source="model")

    attempt(tensors)
    attempt({f"bert.{name}": values for name, values in tensors.items()})
    query = "encoder.layer.0.attention.self.query"
    with pytest.raises(CheckpointError, match=f"model has no tensor {query}.bias"):
        attempt({name: values for name, values in tensors.items() if name != f"{query}.bias"})
    with pytest.raises(CheckpointError, match=r"query.weight has the shape \(24, 23\)"):
        attempt({**tensors, f"{query}.weight": tensors[f"{query}.weight"][:, :23]})
    with pytest.raises(CheckpointError, match=r"token_type_embeddings\.weight has the shape"):
        attempt({**tensors, "embeddings.token_type_embeddings.weight": np.ones(24, np.float32)})
    with pytest.raises(CheckpointError, match=r"model has encoder\.layer\.0\.adapter\.weight"):
        attempt({**tensors, "encoder.layer.0.adapter.weight": np.ones(24, np.float32)})
