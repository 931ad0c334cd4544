"""Reference log-probabilities: those of the model before training, computed once, found again, never mistaken."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from preference_pairs import pairs, theirs_logprob
from tiny import make_model

from ostro.finetune import reference
from ostro.finetune.config import TrainConfig
from ostro.finetune.example_sets import ExampleSet
from ostro.finetune.examples import Example
from ostro.finetune.metrics import read_metrics
from ostro.finetune.packing import PackedBatches
from ostro.finetune.preference import DirectPreference
from ostro.finetune.reference import cached_path, reference_logprobs
from ostro.finetune.row_batches import preference_batch
from ostro.finetune.trainer import Trainer
from ostro.transformers import AutoModelForCausalLM, LoraConfig, apply_lora

DATA = pairs(7)
DROPPED = 4


def encode(number: int) -> tuple[Example, ...]:
    if number == DROPPED:
        return ()
    prompt, *answers = DATA[number]
    marks = [np.array([0] * len(prompt) + [1] * len(answer), bool) for answer in answers]
    return tuple(
        Example(np.array(prompt + answer, np.int32), mark, f"pair {number}")
        for answer, mark in zip(answers, marks, strict=True)
    )


def examples(fingerprint: str = "these pairs") -> ExampleSet:
    numbers: Any = range(len(DATA))
    return ExampleSet(numbers, encode, fingerprint=fingerprint, are_pairs=True)


@pytest.fixture(scope="module")
def theirs() -> Any:
    return make_model("mistral-7b-v0.3", num_hidden_layers=2, initializer_range=0.1)


@pytest.fixture
def ours(theirs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("OSTRO_CACHE", str(tmp_path / "cache"))
    theirs.save_pretrained(tmp_path / "model")
    return AutoModelForCausalLM.from_pretrained(tmp_path / "model")


def computed(model: Any, data: ExampleSet | None = None) -> torch.Tensor:
    return reference_logprobs(model, data or examples(), rows_per_batch=2, max_length=64)


def refuse(*_: object, **__: object) -> Any:
    raise AssertionError("the reference was computed again")


def test_they_are_transformers_and_are_found_again(theirs: Any, ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    table = computed(ours)
    assert table.shape == (7, 2)
    for number, (prompt, *answers) in enumerate(DATA):
        with torch.no_grad():
            wanted = [float(theirs_logprob(theirs, prompt, answer)) for answer in answers]
        assert table[number].tolist() == ([0, 0] if number == DROPPED else pytest.approx(wanted, rel=1e-5))
    monkeypatch.setattr(reference, "answer_logprobs", refuse)
    assert torch.equal(computed(ours), table)


def test_other_data_and_other_weights_have_others(ours: Any) -> None:
    paths = {cached_path(ours, examples()), cached_path(ours, examples("other pairs"))}
    ours.model.layers[1].mlp.down_proj.weight.data[3, 5] += 0.01
    paths.add(cached_path(ours, examples()))
    paths.add(cached_path(ours.to(torch.bfloat16), examples()))
    assert len(paths) == 4


def test_an_adapter_is_off_for_them(ours: Any) -> None:
    plain = computed(ours)
    apply_lora(ours, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.5, target_modules=["q_proj", "up_proj"]))
    for name, parameter in ours.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    ours.train()
    for path in (Path(reference.env.cache_folder()) / "reference").iterdir():
        path.unlink()
    assert torch.allclose(computed(ours), plain, rtol=1e-6)
    assert ours.training


@pytest.mark.parametrize("damage", [b"", b"no numbers at all"])
def test_a_damaged_file_is_made_again(ours: Any, damage: bytes) -> None:
    table = computed(ours)
    path = cached_path(ours, examples())
    path.write_bytes(damage)
    assert torch.equal(computed(ours), table)
    np.save(path, np.full((7, 2), np.nan, np.float32))
    assert torch.equal(computed(ours), table)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_training_begins_at_ln_2_and_rewards_grow(ours: Any, method: str, tmp_path: Path) -> None:
    if method == "lora":
        apply_lora(ours, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    table = computed(ours)
    train = PackedBatches(examples(), lambda rows: preference_batch(rows, table), rows_per_batch=3, max_length=64)
    config = TrainConfig.from_dict(
        {
            "model": "tiny", "output_dir": str(tmp_path / "run"), "data": {"train": ["-"]}, "epochs": 6,
            "learning_rate": 5e-3, "schedule": "constant", "dtype": "float32",
        }
    )  # fmt: skip
    Trainer(config, ours, DirectPreference(), train).run()
    lines = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in line]
    assert len(lines) == 12
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[0]["rewards_margin"] == pytest.approx(0, abs=1e-5)
    assert lines[0]["grad_norm"] > 0
    assert lines[-1]["loss"] < 0.5
    assert lines[-1]["rewards_accuracy"] == 1
    assert lines[-1]["rewards_chosen"] > lines[-1]["rewards_rejected"]
