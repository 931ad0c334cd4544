"""Drafts on the command line: the same answer, and numbers for who wants them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]
GREEDY = ("--temperature", "0", "--max-tokens", "48")
# Three tokens that the answer is made of, so that it repeats itself.
LOOP = ("--logit-bias", "20000=100", "--logit-bias", "20001=100", "--logit-bias", "20002=100")


def test_generate(run: Run, chat_model: Path) -> None:
    def answer(*options: object) -> Any:
        return run("generate", "-m", chat_model, "Once upon a time", *GREEDY, *LOOP, "--json", *options).json

    plain = answer("--speculation", "off")
    assert plain["speculation"] == {"draft_tokens": 0, "accepted_tokens": 0}
    lookup = answer("--speculation", "prompt-lookup", "--max-draft-tokens", "4")
    draft = answer("--draft-model", chat_model, "--speculation", "draft-model")
    for found in (lookup, draft, answer()):
        assert found["outputs"] == plain["outputs"]
    assert 0 < lookup["speculation"]["accepted_tokens"] <= lookup["speculation"]["draft_tokens"]


def test_chat_tells_how_many_were_right(run: Run, chat_model: Path) -> None:
    args = ("chat", chat_model, *GREEDY, "--speculation", "draft-model", "--draft-model", chat_model)
    result = run(*args, stdin="Hello\n")
    found = re.search(r"48 tokens, .* tokens/s, (\d+) of (\d+) drafted right; prompt", result.err)
    assert found is not None
    assert 0 < int(found[1]) <= int(found[2])
    plain = run("chat", chat_model, *GREEDY, "--speculation", "off", stdin="Hello\n")
    assert plain.out == result.out
    assert "drafted" not in plain.err


def test_what_cannot_be_had_is_told_in_options(run: Run, chat_model: Path, llama_model: Path) -> None:
    result = run("run", "-m", chat_model, "Hi", "--speculation", "draft-model")
    assert result.code == 1
    assert "--speculation is 'draft-model', but no such model was given: name one with --draft-model." in result.err
    result = run("run", "-m", chat_model, "Hi", "--draft-model", llama_model)
    assert result.code == 1
    assert "vocabulary of 263 tokens and the model one of 32768" in result.err
    assert run("run", "-m", chat_model, "Hi", "--speculation", "never").code == 2
    assert run("run", "-m", chat_model, "Hi", "--max-draft-tokens", "0").code == 2
