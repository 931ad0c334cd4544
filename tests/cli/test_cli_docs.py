"""docs/commands.md names every command and every option, and its example is the source document's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from test_cli_tokenize import WEATHER

from ostro.cli.app import COMMANDS, _app

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", [name for name, _, _ in COMMANDS])
def test_every_option_is_documented(name: str) -> None:
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    command: Any = typer.main.get_command(_app())
    for word in name.split():
        command = command.commands[word]
    options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    assert f"ostro {name}" in text
    assert [option for option in options if option not in text and option not in ("--bos", "--stream", "--model")] == []


def test_the_example_is_the_tool_prompt() -> None:
    assert json.loads((DOCS / "examples" / "weather-tool.json").read_text(encoding="utf-8")) == WEATHER
