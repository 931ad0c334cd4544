"""Configurations of training: every key is known or refused, and errors name file, line, key and remedy."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostro.errors import ConfigError
from ostro.finetune.config import LoraSection, PretrainConfig, TrainConfig

GOOD = """\
model: some/folder
output_dir: runs/a
data:
  train: train.jsonl
  max_length: 128
method: lora
lora:
  r: 8
steps: 100
learning_rate: 2e-4
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "train.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str, *options: str, cls: type[Any] = TrainConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        cls.from_yaml(write(folder, text), options)
    return str(caught.value)


def test_a_file_is_read_with_its_types(tmp_path: Path) -> None:
    config = TrainConfig.from_yaml(write(tmp_path, GOOD))
    assert config.output_dir == Path("runs/a")
    assert config.data.train == ("train.jsonl",)  # a single path stands for a list of one
    assert config.learning_rate == 2e-4  # which YAML 1.1 would read as text
    assert config.lora == LoraSection(r=8)
    assert config.dtype == "bfloat16"


def test_options_replace_keys(tmp_path: Path) -> None:
    options = ["learning_rate=1e-3", "data.train=[a.jsonl, b.jsonl]", "data.packing=false", "steps=null", "epochs=2"]
    config = TrainConfig.from_yaml(write(tmp_path, GOOD), options)
    assert (config.learning_rate, config.steps, config.epochs) == (1e-3, None, 2.0)
    assert config.data.train == ("a.jsonl", "b.jsonl")
    assert not config.data.packing


def test_to_dict_and_back(tmp_path: Path) -> None:
    config = TrainConfig.from_yaml(write(tmp_path, GOOD))
    assert TrainConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("steps: 100", "stepps: 100", "line 9: stepps is not a key that is known here. Did you mean steps?"),
        ("  r: 8", "  rank: 8", "line 8: lora.rank is not a key that is known here"),
        ("steps: 100", "steps: many", "line 9: steps must be a whole number, not 'many'."),
        ("steps: 100", "steps: 0", "line 9: steps must be at least 1, not 0."),
        ("steps: 100", "steps: true", "line 9: steps must be a whole number, not true."),
        ("steps: 100", "steps: 100\nepochs: 2", "line 9: steps and epochs are both given: keep one"),
        ("steps: 100\n", "", "steps or epochs must be given."),
        ("learning_rate: 2e-4", "learning_rate: -1", "line 10: learning_rate must be greater than 0, not -1.0."),
        ("learning_rate: 2e-4", "learning_rate: .nan", "line 10: learning_rate must be a number, not nan."),
        ("learning_rate: 2e-4", "seed: 3", "learning_rate is missing, and has no default: add it."),
        ("method: lora", "method: lores", "line 6: method must be full or lora or qlora, not 'lores'."),
        ("method: lora", "method: full", "line 7: lora is given with method: full"),
        ("steps: 100", "steps: 1\noptimizer: sgd", "line 10: optimizer must be adamw or muon, not 'sgd'."),
        ("steps: 100", "steps: 1\noptimizer: muon", "line 10: optimizer muon is for whole matrices, not for adapters"),
        ("  r: 8", "  target_modules: []", "line 8: lora.target_modules is empty"),
        ("  max_length: 128", "  eval: e.jsonl\n  eval_split: 0.1", "line 6: data.eval_split and eval are both given"),
        ("  max_length: 128", "  packing: 1", "line 5: data.packing must be true or false, not 1."),
        ("steps: 100", "steps: 1\nbetas: [0.9]", "line 10: betas must be a list of 2 values, not [0.9]."),
        ("steps: 100", "steps: 1\nbatch_tokens: 200", "line 10: batch_tokens must be a multiple of"),
        ("steps: 100", "steps: 1\nwarmup_steps: 3\nwarmup_ratio: 0.1", "line 11: warmup_ratio and warmup_steps are"),
        ("method: lora", "model: twice", "line 6: model stands here a second time."),
        ("data:\n  train: train.jsonl\n  max_length: 128", "data: x", "line 3: data must be a section with keys"),
        ("model: some/folder", "model: [", "this is not YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in GOOD
    message = refusal(tmp_path, GOOD.replace(old, new))
    assert str(tmp_path / "train.yaml") in message
    assert says in message


def test_an_option_that_is_wrong_is_named_as_one(tmp_path: Path) -> None:
    assert refusal(tmp_path, GOOD, "steps=0").startswith("--set steps: steps must be at least 1")
    assert "must be of the form key=value" in refusal(tmp_path, GOOD, "steps")
    assert "steps is a value and has no keys below it" in refusal(tmp_path, GOOD, "steps.x=1")
    assert "is no value of YAML" in refusal(tmp_path, GOOD, "steps=[")


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "must hold keys and values" in refusal(tmp_path, "- a\n- b\n")
    assert "model is missing" in refusal(tmp_path, GOOD.replace("model: some/folder", ""))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        TrainConfig.from_yaml(tmp_path / "absent.yaml")
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        TrainConfig.from_yaml(path)


def test_batch_tokens_are_another_way_to_say_accumulation(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    config = TrainConfig.from_yaml(path, ["batch_tokens=1024", "micro_batch_size=2"])
    assert config.micro_batches == 4
    assert TrainConfig.from_yaml(path, ["gradient_accumulation=3"]).micro_batches == 3
    assert TrainConfig.from_yaml(path).micro_batches == 1


def test_a_model_is_a_path_or_its_numbers(tmp_path: Path) -> None:
    text = GOOD.replace("method: lora\nlora:\n  r: 8\n", "tokenizer: t\n")
    assert PretrainConfig.from_yaml(write(tmp_path, text)).model == "some/folder"
    numbers = text.replace("model: some/folder", "model:\n  model_type: mistral\n  hidden_size: 64")
    config = PretrainConfig.from_yaml(write(tmp_path, numbers))
    assert config.model == {"model_type": "mistral", "hidden_size": 64}
    assert "model must be text, not 3." in refusal(
        tmp_path, text.replace("model: some/folder", "model: 3"), cls=PretrainConfig
    )


@given(st.text(max_size=20), st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just([])))
def test_any_value_is_taken_or_refused_by_name(key: str, value: Any) -> None:
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    key = names[len(key) % len(names)]
    good = {"model": "m", "output_dir": "o", "data": {"train": "t"}, "steps": 1, "learning_rate": 1.0}
    said = key
    try:
        config = TrainConfig.from_dict({**good, key: value})
    except ConfigError as error:
        said = str(error)
    else:
        assert TrainConfig.from_dict(config.to_dict()) == config
    assert key in said or "steps" in said  # epochs are refused beside steps, by the name of the first
