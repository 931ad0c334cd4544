"""Tools named on a command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ostro.errors import ToolError
from ostro.tools import load_tools

MODULE = """
from __future__ import annotations
from dataclasses import dataclass
from ostro.tools import tool

@dataclass
class Place:
    city: str

@tool
def weather(place: Place) -> str:
    "The weather."
    return place.city

other = weather

def helper() -> None: ...
"""
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def test_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "mine.json").write_text(json.dumps({"tools": [LOOK]}))
    monkeypatch.setenv("BRAVE_API_KEY", "key")
    functions, definitions = load_tools(["brave_search", str(tmp_path / "mine.py"), str(tmp_path / "mine.json")])
    assert [each.name for each in functions] == ["brave_search", "weather"]
    assert [each.name for each in definitions] == ["look"]
    assert functions[1](**functions[1].read({"place": {"city": "Oslo"}}, "")) == "Oslo"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.py", "x = 1", "has no tools: put @tool"),
        ("a.py", "1 / 0", "cannot be run: ZeroDivisionError"),
        ("a.py", "def f(:", "cannot be run: SyntaxError"),
        ("a.py", "from ostro.tools import tool\n@tool\ndef f(a): ...", "has no type hint"),
        ("a.py", None, "There is no file"),
        ("a.json", None, "cannot be read"),
        ("a.json", "{", "is not valid JSON"),
        ("a.json", "3", "must hold a list"),
        ("a.json", '[{"a": 1}]', "a.json: "),
        ("a.json", json.dumps([LOOK, LOOK]), "Two tools are called 'look'"),
        ("a.txt", "", "is no source of tools"),
    ],
)
def test_sources_that_cannot_be_used(tmp_path: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ToolError, match=words):
        load_tools([str(tmp_path / name)])
