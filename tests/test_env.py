"""The variables that are read are those that the table and the documentation name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ostro import env

COMMANDS = Path(__file__).parents[1] / "docs" / "commands.md"
VARIABLE = re.compile(r"`((?:OSTRO|BRAVE|WOLFRAM|TIKTOKEN|HF)_[A-Z_]+)`")


def test_the_table_names_every_variable() -> None:
    assert env.__doc__
    rows = [line.split("|")[1] for line in env.__doc__.splitlines() if line.startswith("| `")]
    assert VARIABLE.findall("".join(rows)) == list(env.NAMES)


def test_so_does_the_documentation() -> None:
    section = COMMANDS.read_text(encoding="utf-8").split("\n## Variables\n")[1].split("\n## ")[0]
    assert set(VARIABLE.findall(section)) == set(env.NAMES)


def test_settings_are_those_that_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in env.NAMES:
        monkeypatch.setenv(name, f"value of {name}")
    expected = {name: f"value of {name}" for name in env.NAMES}
    secrets = ("OSTRO_API_KEY", "HF_TOKEN", "BRAVE_API_KEY", "WOLFRAM_APP_ID")
    assert env.settings() == expected | dict.fromkeys(secrets, "(set)")
    monkeypatch.setenv("HF_ENDPOINT", "")
    assert "HF_ENDPOINT" not in env.settings()
