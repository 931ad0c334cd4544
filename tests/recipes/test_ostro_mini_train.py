"""The recipe of ostro-mini from data to a folder that runs, with few records and steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ostro import LLM
from ostro.checkpoint.open import open_checkpoint
from ostro.config.hf import from_hf
from ostro.finetune.trainer import TrainingInterrupted
from ostro.transformers import MistralConfig, MistralForCausalLM
from recipes.ostro_mini import data, export, initial, train

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """All stages with two steps each."""
    out = tmp_path_factory.mktemp("mini")
    counts = {"pretrain": 40, "short": 30, "sft": 30, "dense": 20, "long": 2, "dpo": 10, "heldout": 0}
    data.main(["--out", str(out / "data" / "00"), *(f"--{name}={count}" for name, count in counts.items())])
    (out / "data" / "00" / "done").touch()
    train.tokenizer.main(
        ["--out", str(out / "tokenizer"), "--size", "1800", "--documents", "500", "--conversations=300"]
    )
    stages = _small_stages(out / "stages")
    shape = {**json.loads((train.HERE / "sizes" / "small.json").read_text()), **SHAPE, "vocab_size": 1800}
    shape["num_key_value_heads"] = 1
    (out / "tiny.json").write_text(json.dumps(shape))
    notes = train.train(out, stages=stages, config=out / "tiny.json", shards=1)
    return out, notes


def _small_stages(folder: Path) -> Path:
    folder.mkdir()
    for name in train.STAGES:
        read = yaml.safe_load((train.HERE / "stages" / "cpu" / f"{name}.yaml").read_text())
        overlong = {} if name == "pretrain" else {"overlong": "drop"}
        read |= {"steps": 2, "micro_batch_size": 2, "warmup_steps": 1, "num_threads": 1, "device": "cpu"}
        read |= {"data": {"max_length": 256 if name != "long" else 1024, **overlong}, "save_every": 1}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(read))
    return folder


def test_every_stage_has_run(trained: tuple[Path, dict[str, Any]]) -> None:
    out, notes = trained
    assert [stage["name"] for stage in notes["stages"]] == list(train.STAGES)
    assert all(stage["steps"] == 2 and stage["tokens"] > 0 and stage["seconds"] > 0 for stage in notes["stages"])
    assert json.loads((out / "training.json").read_text()) == notes
    assert open_checkpoint(Path(notes["path"])).config.num_hidden_layers == 2


def test_what_is_done_is_not_done_again(trained: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    out, notes = trained
    for name in ("sft", "dpo"):
        monkeypatch.setattr(train, name, lambda *_, **__: pytest.fail("it trains again"))
    monkeypatch.setattr(train.tokenizer, "main", lambda *_: pytest.fail("it learns the vocabulary again"))
    again = train.train(out, stages=out / "stages", config=out / "tiny.json", shards=1)
    assert again["stages"] == notes["stages"]


def test_an_interrupted_command_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise TrainingInterrupted(7, tmp_path / "step-00000007", 2)

    monkeypatch.setattr(train, "train", stopped)
    with pytest.raises(SystemExit, match=r"Stopped after step 7;.* Give the same command again\."):
        train.main(["--out", str(tmp_path)])


def test_a_stage_that_was_interrupted_goes_on(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out, notes = trained
    folder = out / "sft"
    (folder / "stage.json").unlink()
    newest = max((folder / "checkpoints").iterdir())
    newest.rename(tmp_path / newest.name)
    again = train.run_stage("sft", out / "stages", out, notes["stages"][1]["path"], ())
    assert (again["steps"], again["tokens"]) == (notes["stages"][2]["steps"], notes["stages"][2]["tokens"])


@pytest.mark.parametrize("bits", [16, 8])
def test_export(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, notes = trained
    monkeypatch.setattr(export, "check_runs", lambda _folder: None)  # it has learnt nothing, and so does not end
    size = export.export(Path(notes["path"]), out / "tokenizer", tmp_path / "shipped", bits=bits)
    assert size == sum(path.stat().st_size for path in (tmp_path / "shipped").iterdir())
    llm = LLM(tmp_path / "shipped")
    assert llm.default_params.temperature == 0
    assert llm.tokenizer.version == "v3"


def test_what_is_too_large_or_does_not_end_is_not_exported(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, notes = trained
    with pytest.raises(ValueError, match="does not end"):
        export.export(Path(notes["path"]), out / "tokenizer", tmp_path / "shipped")
    monkeypatch.setattr(export, "check_runs", lambda _folder: None)
    monkeypatch.setattr(export, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="1,000 are allowed"):
        export.export(Path(notes["path"]), out / "tokenizer", tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()


@pytest.mark.parametrize("size", ["small", "large"])
def test_sizes_fit(size: str) -> None:
    path = train.HERE / "sizes" / f"{size}.json"
    config = from_hf(json.loads(path.read_text()), source=size)
    bits = 16 if size == "small" else 8.5
    assert config.num_parameters() * bits / 8 < export.MAX_BYTES - 500_000
    assert config.max_position_embeddings == 8192


@pytest.mark.parametrize("machine", ["cpu", "gpu"])
def test_stages_are_configurations(machine: str) -> None:
    from ostro.finetune import DpoConfig, TrainConfig

    given = ["output_dir=x", "model=x", 'data.train=["x"]']
    for name in train.STAGES:
        kind = DpoConfig if name == "dpo" else TrainConfig
        assert kind.from_yaml(train.HERE / "stages" / machine / f"{name}.yaml", given).dtype == "bfloat16"


def test_new_weights_look_back(tmp_path: Path) -> None:
    """What was said once is gone on with, before any training; plain random weights say nothing of the kind."""
    shape = json.loads((train.HERE / "sizes" / "small.json").read_text())
    shape |= {"num_hidden_layers": 3, "intermediate_size": 64, "vocab_size": 900}
    (tmp_path / "config.json").write_text(json.dumps(shape))
    ids = torch.randint(3, 900, (2, 40), generator=torch.Generator().manual_seed(1)).repeat(1, 3)
    shares = []
    for model in (initial.initial_model(tmp_path / "config.json"), MistralForCausalLM(MistralConfig.from_dict(shape))):
        with torch.no_grad():
            found = model.eval()(ids).logits[:, :-1].argmax(-1) == ids[:, 1:]
        shares.append(float(found[:, 42:].float().mean()))
    assert shares[0] > 0.9
    assert shares[1] < 0.1
