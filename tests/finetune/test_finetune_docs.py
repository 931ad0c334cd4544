"""Every recipe of docs/finetuning.md runs, on a tiny model: its files are written, its commands run, its Python too."""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_chat import save_chat_model

from ostro.cli.app import run
from ostro.finetune.metrics import read_metrics
from ostro.transformers import AutoModelForCausalLM

PAGE = Path(__file__).parents[2] / "docs" / "finetuning.md"
TEXT = PAGE.read_text(encoding="utf-8")
FILE = re.compile(r"^`([\w.-]+)`[^\n]*:\n\n```\w+\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^    ((?:ostro (?:finetune|pretrain)|torchrun) .*)$", re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
MODEL = re.compile(r"mistralai/Mistral-7B-[\w.-]+")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page, in which a tiny model has the name of the real one."""
    made = tmp_path_factory.mktemp("recipes")
    save_chat_model(made / "tiny")
    for name, content in FILE.findall(TEXT):
        (made / name).write_text(MODEL.sub("tiny", content), encoding="utf-8")
    (made / "book.txt").write_text("It was a dark and stormy night, and the rain fell in torrents. " * 40)
    return made


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    logger = logging.getLogger("ostro")
    before = logger.handlers, logger.propagate, logger.level
    monkeypatch.chdir(folder)
    yield
    logger.handlers, logger.propagate, logger.level = before


COMMANDS = [shlex.split(line) for line in COMMAND.findall(TEXT)]
HERE = [words for words in COMMANDS if words[0] == "ostro"]


def test_the_page_has_all_tasks() -> None:
    assert len(FILE.findall(TEXT)) >= 10
    assert {tuple(words[1:3]) for words in HERE} >= {
        ("finetune", "sft"), ("finetune", "dpo"), ("finetune", "classify"), ("pretrain", "pretrain.yaml"),
    }  # fmt: skip
    assert any(words[0] == "torchrun" for words in COMMANDS)


@pytest.mark.parametrize("words", HERE, ids=" ".join)
def test_commands_run(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if words == ["ostro", "finetune", "sft", "support.yaml"]:
        shutil.rmtree(folder / "runs" / "support", ignore_errors=True)
    assert run(words[1:]) == 0, capsys.readouterr().err
    shown = capsys.readouterr()
    if "--dry-run" in words:
        assert "[INST]" in shown.out
        assert "memory" in shown.out
    elif "--resume" not in words:
        assert "metrics.jsonl" in shown.err


@pytest.mark.parametrize("block", PYTHON.findall(TEXT), ids=lambda block: block.splitlines()[0])
def test_python_blocks_run(block: str) -> None:
    exec(compile(MODEL.sub("tiny", block), str(PAGE), "exec"), {})


def test_it_runs_in_two_processes(folder: Path) -> None:
    (words,) = [words for words in COMMANDS if words[0] == "torchrun"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "runs" / "two" / "model" / "model.safetensors").is_file()
    model = AutoModelForCausalLM.from_pretrained(folder / "runs" / "two" / "model")
    before = AutoModelForCausalLM.from_pretrained(folder / "tiny")
    for (name, after), weight in zip(model.named_parameters(), before.parameters(), strict=True):
        assert after.shape == weight.shape
        if weight.dim() == 2:  # so small a step does not move the norms, which are 1, in 16 bits
            assert not torch.equal(after.float(), weight.float()), f"{name} was not trained, or not gathered"
    assert len(list(read_metrics(folder / "runs" / "two" / "metrics.jsonl"))) >= 1


def test_every_key_of_the_configuration_is_on_the_page() -> None:
    import dataclasses

    from ostro.finetune import ClassifyConfig, DpoConfig, PretrainConfig
    from ostro.finetune.config import DataConfig

    names = {field.name for kind in (DpoConfig, ClassifyConfig, PretrainConfig) for field in dataclasses.fields(kind)}
    data = {f"data.{field.name}" for field in dataclasses.fields(DataConfig)}
    missing = {name for name in (names - {"data"}) | data if f"`{name}`" not in TEXT}
    assert not missing
