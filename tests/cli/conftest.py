"""A tiny chat model of random weights, and the command as a user runs it."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file
from tiny_chat import CONFIG, LLAMA_TOKENS, LLAMA_VOCAB, save_chat_model, tensors

from ostro.checkpoint import bundled


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Mistral's v3 tokenizer and a model that talks nonsense without an end."""
    folder = tmp_path_factory.mktemp("chat") / "tiny-chat"
    return save_chat_model(folder)


@pytest.fixture(scope="session")
def llama_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a vocabulary of bytes and Llama 3.1's control tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("llama") / "tiny-llama"
    folder.mkdir()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(LLAMA_TOKENS))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": LLAMA_TOKENS[0], "eos_token": "<|eot_id|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    own = {"model_type": "llama", "vocab_size": LLAMA_VOCAB, "bos_token_id": 256, "eos_token_id": 260}
    (folder / "config.json").write_text(json.dumps({**CONFIG, **own, "architectures": ["LlamaForCausalLM"]}))
    save_file(tensors(LLAMA_VOCAB), folder / "model.safetensors")
    return folder


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., Result]]:
    """`run("info", path, stdin="...")` in this process, as a user who has set nothing and has no terminal."""
    from ostro.cli.app import run as run_command

    for name in ("OSTRO_MODEL", "OSTRO_ISA", "OSTRO_NUM_THREADS", "HF_HOME", "HF_HUB_CACHE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    logger = logging.getLogger("ostro")
    before = logger.handlers, logger.propagate, logger.level

    def invoke(*args: object, stdin: str | bytes = "") -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        capsys.readouterr()
        code = run_command([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    yield invoke
    logger.handlers, logger.propagate, logger.level = before[0], before[1], before[2]


@pytest.fixture
def no_bundled_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An installation that was made without the bundled model."""
    monkeypatch.setattr(bundled, "_FOLDER", tmp_path / "no-bundled-model")


@pytest.fixture
def bundled_model(monkeypatch: pytest.MonkeyPatch, chat_model: Path) -> Path:
    """A tiny model in the place of the bundled one."""
    monkeypatch.setattr(bundled, "_FOLDER", chat_model)
    return chat_model


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of a user who has set nothing and downloaded nothing."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    home = {"HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return {**kept, **home, "LANG": "C.UTF-8", "TERM": "xterm", "COLUMNS": "200"}


@pytest.fixture
def ostro(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`ostro("info", path, stdin="...", OSTRO_MODEL="...")` as a process of its own; output as text."""

    def run(*args: object, stdin: str | bytes = "", **variables: str) -> subprocess.CompletedProcess[str]:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        command = [sys.executable, "-m", "ostro", *map(str, args)]
        done = subprocess.run(
            command, input=data, capture_output=True, env=environment | variables, timeout=60, check=False
        )
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run
