"""Commands that are given no model take the one that comes with ostro."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
OPTIONS = ("--max-tokens", "4", "--temperature", "0")


@pytest.mark.parametrize(
    "command", [("run", "Hello"), ("generate", "Hello"), ("chat", "--quiet")], ids=lambda words: str(words[0])
)
def test_no_model_is_the_bundled_one(run: Run, bundled_model: Path, command: tuple[str, ...]) -> None:
    stdin = "Hello\n" if command[0] == "chat" else ""
    named = run(
        command[0],
        *(("ostro-mini",) if command[0] == "chat" else ("-m", "ostro-mini")),
        *command[1:],
        *OPTIONS,
        stdin=stdin,
    )
    unnamed = run(*command, *OPTIONS, stdin=stdin)
    assert (unnamed.code, unnamed.err) == (named.code, named.err) == (0, named.err)
    assert unnamed.out == named.out != ""


def test_the_variable_goes_before_it(run: Run, bundled_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRO_MODEL", "no-such-model")
    assert "'no-such-model' is no folder" in run("run", "Hello").err


def test_info_and_tokenize_know_its_name(run: Run, bundled_model: Path) -> None:
    assert run("info", "--json").json["path"] == str(bundled_model)
    assert run("info", "ostro-mini", "--json").json["name"] == "ostro-mini"
    assert run("tokenize", "-m", "ostro-mini", "Hello").code == 0


def test_list_shows_it(run: Run, bundled_model: Path) -> None:
    size = sum(path.stat().st_size for path in bundled_model.iterdir())
    assert run("list", "--json").json["bundled"] == {"name": "ostro-mini", "path": str(bundled_model), "bytes": size}
    assert run("list").out.splitlines()[1].startswith("ostro-mini ")


def test_list_of_an_installation_without_it(run: Run, no_bundled_model: None) -> None:
    assert run("list", "--json").json["bundled"] is None
    assert "ostro-mini" not in run("list").out


@pytest.mark.parametrize("command", ["bench", "quantize"])
def test_what_is_meant_for_a_model_of_ones_own_wants_its_name(run: Run, bundled_model: Path, command: str) -> None:
    result = run(command, *(("--bits", "4", "--out", "x") if command == "quantize" else ()))
    assert result.code == 2
    assert "No model was given" in " ".join(result.err.replace("│", " ").split())
