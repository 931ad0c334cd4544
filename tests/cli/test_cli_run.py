"""`ostro run`: one chat turn, from the command line and from a pipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ostro import LLM, SamplingParams

Run = Callable[..., Any]
OPTIONS = ("--seed", "1", "--max-tokens", "8")
PARAMS = SamplingParams(seed=1, max_tokens=8)


def test_the_answer_is_that_of_chat(run: Run, chat_model: Path) -> None:
    expected = LLM(chat_model).chat([{"role": "user", "content": "Hello"}], PARAMS).outputs[0].text + "\n"
    assert run("run", "-m", chat_model, "Hello", *OPTIONS).out == expected
    assert run("run", "-m", chat_model, "Hello", *OPTIONS, "--no-stream").out == expected
    assert run("run", "-m", chat_model, *OPTIONS, stdin="Hello\n").out == expected


def test_json(run: Run, chat_model: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Sum it up.\n\nA letter."}]
    output = LLM(chat_model).chat(messages, PARAMS)
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
