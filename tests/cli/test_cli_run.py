"""`ostro run`: one chat turn, from the command line and from a pipe."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ostro import LLM, SamplingParams

Run = Callable[..., Any]
OPTIONS = ("--seed", "1", "--max-tokens", "8")
PARAMS = SamplingParams(seed=1, max_tokens=8)


def test_the_answer_is_that_of_chat(run: Run, chat_model: Path) -> None:
    expected = LLM(chat_model).chat([{"role": "user", "content": "Hello"}], PARAMS)[0].outputs[0].text + "\n"
    assert run("run", "-m", chat_model, "Hello", *OPTIONS).out == expected
    assert run("run", "-m", chat_model, "Hello", *OPTIONS, "--no-stream").out == expected
    assert run("run", "-m", chat_model, *OPTIONS, stdin="Hello\n").out == expected


def test_json(run: Run, chat_model: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Sum it up.\n\nA letter."}]
    output = LLM(chat_model).chat(messages, PARAMS)[0]
    args = ("run", "-m", chat_model, "Sum it up.", "--system", "Be brief.", *OPTIONS, "--json")
    found = run(*args, stdin="A letter.\n").json
    assert found["outputs"][0]["text"] == output.outputs[0].text
    assert found["prompt_token_ids"] == output.prompt_token_ids
    assert found["prompt"] == output.prompt
    assert found["model"] == str(chat_model)


def test_what_is_put_around_the_question(run: Run, chat_model: Path) -> None:
    def prompt(*args: str) -> str:
        return str(run("run", "-m", chat_model, "Hello", *OPTIONS, "--json", *args).json["prompt"])

    assert "with care, respect, and truth" in prompt("--safe-prompt")
    assert prompt() == "<s>[INST] Hello[/INST]"
    assert prompt("--chat-format", "mistral-v1") == "<s> [INST] Hello [/INST]"


def test_no_question(run: Run, chat_model: Path) -> None:
    result = run("run", "-m", chat_model)
    assert (result.code, result.out) == (2, "")
    assert "no question" in result.err


def test_too_long(run: Run, chat_model: Path) -> None:
    result = run("run", "-m", chat_model, "word " * 40, "--max-model-len", "32")
    assert (result.code, result.out) == (1, "")
    assert "maximum context length is 32 tokens" in result.err


def test_the_date_of_a_llama_prompt_is_todays(run: Run, llama_model: Path, chat_model: Path) -> None:
    def prompt(model: Path, *args: str) -> str:
        return str(run("run", "-m", model, "Hello", *OPTIONS, "--json", *args).json["prompt"])

    assert "Today Date: 31 Mar 2026\n" in prompt(llama_model, "--today", "2026-03-31")
    before, shown, after = datetime.date.today(), prompt(llama_model), datetime.date.today()
    assert any(f"Today Date: {day:%d %b %Y}\n" in shown for day in (before, after))
    assert prompt(chat_model, "--today", "2026-03-31") == "<s>[INST] Hello[/INST]"  # Mistral's states none


def test_tools_stand_in_the_prompt(run: Run, chat_model: Path, tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}}
    (tmp_path / "list.json").write_text(json.dumps([tool]))
    (tmp_path / "object.json").write_text(json.dumps({"tools": [tool]}))
    (tmp_path / "wrong.json").write_text('{"messages": []}')
    expected = LLM(chat_model).render([{"role": "user", "content": "Hello"}], tools=[tool]).text
    for name in ("list", "object"):
        result = run("run", "-m", chat_model, "Hello", *OPTIONS, "--json", "--tools", tmp_path / f"{name}.json")
        assert result.json["prompt"] == expected
    result = run("run", "-m", chat_model, "Hello", "--tools", tmp_path / "wrong.json")
    assert (result.code, result.out) == (1, "")
    assert "wrong.json must hold a list of tool definitions" in result.err
    assert "must come from a file" in run("run", "-m", chat_model, "Hello", "--tools", "-").err
