"""`ostro merge`, and `--adapter` of the commands that run a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from tiny_adapters import write_random_adapter

from ostro import LLM, SamplingParams
from ostro.cli.serve_options import Serving

Run = Callable[..., Any]
PARAMS = SamplingParams(seed=1, max_tokens=8)
OPTIONS = ("--seed", "1", "--max-tokens", "8")
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def adapter(chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_adapter(tmp_path_factory.mktemp("adapters") / "sql", chat_model)


@pytest.fixture(scope="module")
def text(chat_model: Path, adapter: Path) -> str:
    llm = LLM(chat_model, adapters={"sql": adapter})
    own, base = (llm.chat(HELLO, PARAMS, adapter=name)[0].outputs[0].text for name in ("sql", None))
    assert own != base
    return own


def test_run(run: Run, chat_model: Path, adapter: Path, text: str) -> None:
    assert run("run", "-m", chat_model, "--adapter", adapter, "Hello", *OPTIONS).out == text + "\n"
    assert run("run", "--adapter", adapter, "Hello", *OPTIONS).out == text + "\n"  # whose base it names itself


def test_chat(run: Run, chat_model: Path, adapter: Path, text: str) -> None:
    found = run("chat", chat_model, "--adapter", adapter, "--quiet", *OPTIONS, stdin="Hello\n")
    assert text in found.out


def test_generate(run: Run, chat_model: Path, adapter: Path) -> None:
    llm = LLM(chat_model, adapters={"sql": adapter}).with_adapter("sql")
    expected = llm.generate("Once", PARAMS)[0].outputs[0].text
    assert run("generate", "-m", chat_model, "--adapter", adapter, "Once", *OPTIONS).out == expected + "\n"


def test_no_adapter(run: Run, chat_model: Path, tmp_path: Path) -> None:
    found = run("run", "-m", chat_model, "--adapter", tmp_path, "Hello")
    assert (found.code, found.out) == (1, "")
    assert "adapter_config.json" in found.err


def test_merge(run: Run, chat_model: Path, adapter: Path, text: str, tmp_path: Path) -> None:
    found = run("merge", adapter, "--out", tmp_path / "merged")
    assert found.code == 0, found.err
    assert "8 tensors" in found.out
    assert str(chat_model) in found.out
    assert run("run", "-m", tmp_path / "merged", "Hello", *OPTIONS).out == text + "\n"


def test_merge_json(run: Run, chat_model: Path, adapter: Path, tmp_path: Path) -> None:
    stated = run(
        "merge", adapter, "--base", chat_model, "--out", tmp_path / "merged", "--dtype", "bfloat16", "--json"
    ).json
    assert stated["dtype"] == "bfloat16"
    assert stated["base"] == str(chat_model)
    assert stated["changed_tensors"] == 8
    assert 0 < stated["rounding_error"] < 0.1


def test_merge_refusals(run: Run, chat_model: Path, llama_model: Path, adapter: Path, tmp_path: Path) -> None:
    found = run("merge", adapter, "--out", chat_model)
    assert found.code == 1
    assert "--out" not in found.out
    assert "exists already" in found.err
    found = run("merge", adapter, "--base", llama_model, "--out", tmp_path / "merged")
    assert found.code == 1
    assert "weights" in found.err


def test_names_of_served_adapters(adapter: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert Serving(adapter=[str(adapter), f"law={adapter}", str(odd)]).adapters() == {
        "sql": adapter, "law": adapter, "a=b": odd,
    }  # fmt: skip
    with pytest.raises(typer.BadParameter, match="is given to"):
        Serving(adapter=[str(adapter), str(adapter)]).adapters()


def test_serve_takes_one_model_with_adapters(run: Run, chat_model: Path, llama_model: Path, adapter: Path) -> None:
    found = run("serve", chat_model, llama_model, "--port", "0", "--adapter", adapter)
    assert found.code == 2
    assert "An adapter lies over one model" in found.err
