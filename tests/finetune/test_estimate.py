"""What a run says that it will take: weights, what is trained, and what the backward pass keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import save_tiny
from tiny_chat import save_chat_model

from ostro.finetune import DpoConfig, TrainConfig
from ostro.finetune.dry_run import look_at
from ostro.finetune.estimate import estimate
from ostro.finetune.model import tokenizer_of, trainable_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("Once upon a time there was a queen. " * 20)
    return tmp_path


def values(model: Path, data: str, **more: Any) -> dict[str, Any]:
    return {
        "model": str(model), "output_dir": "run", "data": {"train": data, "max_length": 32}, "steps": 2,
        "learning_rate": 1e-2, "dtype": "float32", **more,
    }  # fmt: skip


@pytest.mark.parametrize("variant", ["mistral-7b-v0.3", "mixtral", "llama-3.2"])
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_sizes_are_those_of_the_loaded_model(variant: str, method: str, model: Path, tmp_path: Path) -> None:
    numbers = {"hidden_size": 128, "intermediate_size": 192, "head_dim": 32, "vocab_size": 512}
    shape = save_tiny(variant, tmp_path / "shape", **numbers)
    lora = None if method == "full" else {"r": 4, "target_modules": ["q_proj", "o_proj"]}
    config = TrainConfig.from_dict(values(shape, "book.txt", method=method, dtype="bfloat16", lora=lora))
    found = estimate(config, tokenizer_of(model))
    loaded = trainable_model(config, torch.device("cpu"))
    assert found.num_weights == loaded.num_parameters()
    trained = [p for p in loaded.parameters() if p.requires_grad]
    assert found.num_trained == sum(p.numel() for p in trained)
    assert found.weight_bytes == pytest.approx(loaded.get_memory_footprint(), rel=0.01)
    each = 2 + 4 + 8 if method == "full" else 4 + 8
    assert found.training_bytes == each * found.num_trained
    if method == "full":
        config = TrainConfig.from_dict(values(shape, "book.txt", dtype="bfloat16", optimizer="muon"))
        matrices = sum(p.numel() for p in loaded.model.layers.parameters() if p.dim() == 2)
        assert estimate(config, tokenizer_of(model)).training_bytes == each * found.num_trained - 4 * matrices


def test_checkpointing_and_pairs_change_the_activations(model: Path, folder: Path) -> None:
    pair = {"prompt": "Hi", "chosen": "Hello.", "rejected": "What?"}
    (folder / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    base = look_at(TrainConfig.from_dict(values(model, "book.txt"))).estimate
    light = look_at(TrainConfig.from_dict(values(model, "book.txt", gradient_checkpointing=True))).estimate
    pairs = look_at(DpoConfig.from_dict(values(model, "pairs.jsonl")))
    assert light.activation_bytes < base.activation_bytes < pairs.estimate.activation_bytes
    assert len(pairs.samples) == 2
    assert "chosen" in pairs.samples[0].plain


def kept_bytes(model: Any, length: int) -> int:
    """What the layers of a loaded model keep of one row for the backward pass, weights left out."""
    weights = {weight.untyped_storage().data_ptr() for weight in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(input_ids=torch.arange(length)[None], use_cache=False)
    return sum(storage.nbytes() for place, storage in kept.items() if place not in weights)


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("length", [64, 600])
def test_what_a_layer_keeps_is_what_was_reckoned(method: str, length: int, model: Path, tmp_path: Path) -> None:
    lora = None if method == "full" else {"r": 2, "target_modules": ["q_proj", "v_proj", "down_proj"]}
    numbers = {"hidden_size": 128, "intermediate_size": 448, "head_dim": 32, "vocab_size": 640}
    kept, reckoned = [], []
    for layers in (2, 3):
        shape = save_tiny("mistral-7b-v0.3", tmp_path / str(layers), num_hidden_layers=layers, **numbers)
        given = values(shape, "book.txt", method=method, dtype="bfloat16", lora=lora, gradient_checkpointing=False)
        given["data"]["max_length"] = length
        config = TrainConfig.from_dict(given)
        loaded = trainable_model(config, torch.device("cpu")).train()
        kept.append(kept_bytes(loaded, length))
        reckoned.append(estimate(config, tokenizer_of(model)).activation_bytes)
    layer = reckoned[1] - reckoned[0]
    if length == 64:  # short: attention weights are kept
        assert kept[1] - kept[0] == pytest.approx(layer, rel=0.1)
    else:  # longer than what keeps them, which shorter sequences of such a row might
        weights = length * 512 * 2 * loaded.numbers.num_attention_heads
        assert layer - weights < kept[1] - kept[0] < layer
