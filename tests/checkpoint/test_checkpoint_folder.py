"""Which files of a folder are read, and the index followed to the letter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_forms import config_json, hf_tensors, native_tensors, params_json, write_safetensors, write_shards

from ostro.checkpoint.folder import read_weights
from ostro.checkpoint.open import open_checkpoint
from ostro.errors import CheckpointError, ModelNotFoundError

A, B, C = (np.full(2, value, np.float32) for value in (1, 2, 3))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_shards(tmp_path, {"a": A, "b": B, "c": C})
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def change_index(folder: Path, **weight_map: Any) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"] |= weight_map
    index["weight_map"] = {k: v for k, v in index["weight_map"].items() if v is not None}
    path.write_text(json.dumps(index))


def test_shards_are_found_through_the_index(sharded: Path) -> None:
    weights = read_weights(sharded)
    assert weights.naming == "hf"
    assert {name: file.path.name[:11] for name, file in weights.holder.items()} == {
        "a": "model-00001", "c": "model-00001", "b": "model-00002",
    }  # fmt: skip


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_a_shard_is_missing(sharded: Path) -> None:
    (sharded / TWO).unlink()
    with pytest.raises(CheckpointError, match=rf"index\.json names {TWO}, which is not in the folder"):
        read_weights(sharded)


def test_a_tensor_of_the_index_is_nowhere(sharded: Path) -> None:
    change_index(sharded, d=TWO)
    with pytest.raises(CheckpointError, match=rf"{TWO}: tensor d is not in this file, where .* says it is\. Index"):
        read_weights(sharded)


def test_a_tensor_is_in_another_shard(sharded: Path) -> None:
    change_index(sharded, a=TWO)
    with pytest.raises(CheckpointError, match=rf"{TWO}: tensor a is not in this file.*it is in {ONE}"):
        read_weights(sharded)


def test_a_shard_holds_more_than_the_index_says(sharded: Path) -> None:
    change_index(sharded, c=None)
    with pytest.raises(CheckpointError, match=rf"{ONE}: tensor c is in this file, but .* says nothing of it"):
        read_weights(sharded)


def test_a_tensor_is_in_two_shards(sharded: Path) -> None:
    write_safetensors(sharded / TWO, {"b": B, "a": A})
    with pytest.raises(CheckpointError, match=rf"{TWO}: tensor a is in this file, but .* says it is in {ONE}"):
        read_weights(sharded)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "x.bin", 7, "", ".."]
)
def test_an_index_may_not_point_elsewhere(sharded: Path, name: Any) -> None:
    change_index(sharded, a=name)
    with pytest.raises(CheckpointError, match=r"tensor a is said to be in"):
        read_weights(sharded)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "{", "\x00", '{"weight_map": {"a": "x", "a": "y"}}'],
)
def test_a_damaged_index(sharded: Path, text: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json"):
        read_weights(sharded)


def test_shards_without_an_index(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match=r"has shards .* but no model\.safetensors\.index\.json"):
        read_weights(sharded)


def test_a_single_file_beside_shards(sharded: Path) -> None:
    write_safetensors(sharded / "model.safetensors", {"a": A})
    with pytest.raises(CheckpointError, match="left over from another save"):
        read_weights(sharded)
    for name in (ONE, TWO):
        (sharded / name).unlink()
    with pytest.raises(CheckpointError, match=r"both model\.safetensors and model\.safetensors\.index\.json"):
        read_weights(sharded)


def test_both_sets_are_read_once(sharded: Path) -> None:
    write_safetensors(sharded / "consolidated.safetensors", {"n": A})
    (sharded / "params.json").write_text("{}")
    assert read_weights(sharded).naming == "hf"
    (sharded / "config.json").unlink()
    assert set(read_weights(sharded).holder) == {"n"}


def test_native_shards_with_and_without_an_index(tmp_path: Path) -> None:
    config = config_json()
    tensors = hf_tensors(config)
    write_shards(tmp_path, native_tensors(tensors, 4), stem="consolidated")
    (tmp_path / "params.json").write_text(json.dumps(params_json(config)))
    for has_index in (True, False):
        checkpoint = open_checkpoint(tmp_path)
        assert len(checkpoint.files) == 2
        assert all(np.array_equal(checkpoint.tensors[name], array) for name, array in tensors.items())
        if has_index:
            (tmp_path / "consolidated.safetensors.index.json").unlink()
    (tmp_path / "consolidated-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"1 native shards, but consolidated-00001-of-00002\.safetensors is one of 2"
    ):
        open_checkpoint(tmp_path)


def test_a_split_for_several_gpus_is_refused(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "consolidated.00.safetensors", {"tok_embeddings.weight": A})
    assert set(read_weights(tmp_path).holder) == {"tok_embeddings.weight"}
    write_safetensors(tmp_path / "consolidated.01.safetensors", {"tok_embeddings.weight": B})
    with pytest.raises(CheckpointError, match=r"tok_embeddings\.weight is in consolidated\.00\.safetensors too.*merge"):
        read_weights(tmp_path)


def test_native_weights_with_config_json_alone(tmp_path: Path) -> None:
    config = config_json()
    tensors = hf_tensors(config)
    write_safetensors(tmp_path / "consolidated.safetensors", native_tensors(tensors, 4))
    with pytest.raises(CheckpointError, match=r"no params\.json"):
        open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.form == "native"
    assert all(np.array_equal(checkpoint.tensors[name], array) for name, array in tensors.items())


@pytest.mark.parametrize("name", ["consolidated.00.pth", "pytorch_model.bin", "model.pt", "x.ckpt", "w.pkl"])
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    (tmp_path / "params.json").write_text("{}")
    with pytest.raises(CheckpointError, match=rf"only as pickles \({name}\).*safetensors or a GGUF") as caught:
        read_weights(tmp_path)
    assert not isinstance(caught.value, ModelNotFoundError)


def test_an_adapter_is_not_a_model(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "adapter_model.safetensors", {"a": A})
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is an adapter"):
        read_weights(tmp_path)
