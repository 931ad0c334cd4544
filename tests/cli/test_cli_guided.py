"""The form of an answer on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["glad", "sad"]}, "size": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["mood", "size"],
    "additionalProperties": False,
}


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "mood.json"
    path.write_text(json.dumps(SCHEMA))
    return path


def test_generate_with_a_schema(run: Callable[..., Any], chat_model: Path, schema: Path) -> None:
    done = run("generate", "-m", chat_model, "--json-schema", schema, "How are you?")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["mood"] in ("glad", "sad")
    whole = run("generate", "-m", chat_model, "--json-schema", schema, "--json", "-n", 2, "How are you?").json
    assert [json.loads(each["text"])["size"] in range(10) for each in whole["outputs"]] == [True, True]


def test_run_and_chat_with_choices(run: Callable[..., Any], chat_model: Path) -> None:
    done = run("run", "-m", chat_model, "--choice", "yes", "--choice", "no", "Is it?")
    assert done.out in ("yes\n", "no\n")
    talk = run("chat", chat_model, "--quiet", "--regex", "[a-c]{3}", stdin="Hello\nAgain\n")
    assert talk.code == 0
    lines = talk.out.split()
    assert len(lines) == 2
    assert all(len(line) == 3 and set(line) <= set("abc") for line in lines)


def test_a_grammar_comes_from_a_file(run: Callable[..., Any], chat_model: Path, tmp_path: Path) -> None:
    grammar = tmp_path / "sum.lark"
    grammar.write_text('start: DIGIT "+" DIGIT\nDIGIT: /[0-9]/\n')
    done = run("generate", "-m", chat_model, "--grammar", grammar, "1+1 ")
    assert done.out[1] == "+"
    assert len(done.out) == 4


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--regex", "a", "--json-object"], 2, "only one of --json-object and --regex"),
        (["--regex", ""], 2, "not empty"),
        (["--regex", "(?=a)"], 1, "look-around"),
        (["--json-schema", "/no/such/file"], 1, "cannot be read: No such file"),
        (["--json-schema", "-"], 1, "must come from a file"),
        (["--grammar", "-"], 1, "must come from a file"),
    ],
)
def test_what_is_wrong_is_said(
    run: Callable[..., Any], chat_model: Path, options: list[str], code: int, words: str
) -> None:
    done = run("generate", "-m", chat_model, *options, "x")
    assert done.code == code
    assert words in " ".join(done.err.replace("│", " ").split())
    assert done.out == ""


def test_a_schema_that_is_no_json_or_no_schema(run: Callable[..., Any], chat_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text("{")
    assert "is not valid JSON" in run("run", "-m", chat_model, "--json-schema", path, "x").err
    path.write_text('{"properties": {"a": {"not": {}}}}')
    done = run("run", "-m", chat_model, "--json-schema", path, "x")
    assert done.code == 1
    assert "at #/properties/a: the keyword 'not' cannot be enforced" in done.err
