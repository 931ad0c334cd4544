"""`ostro chat --tools`: calls are carried out under their policies, through a pipe and in a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_cli_chat import Terminal

from ostro import LLM

Run = Callable[..., Any]
OPTIONS = ("--seed", "1", "--max-tokens", "150", "--tool-choice", "look")
MODULE = '''
from typing import Literal
from ostro.tools import tool

@tool
def look(at: Literal["it", "that"]) -> str:
    """Look at it."""
    return f"saw {at}"
'''
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at it.",
        "parameters": {
            "type": "object",
            "properties": {"at": {"enum": ["it", "that"]}},
            "required": ["at"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path / "mine.py"


@pytest.fixture
def definitions(tmp_path: Path) -> Path:
    (tmp_path / "mine.json").write_text(json.dumps([LOOK]))
    return tmp_path / "mine.json"


@pytest.mark.parametrize("model", ["chat_model", "llama_model"])
def test_a_call_is_carried_out(run: Run, module: Path, model: str, request: pytest.FixtureRequest) -> None:
    folder, path = request.getfixturevalue(model), module.parent / "talk.json"
    options = (*OPTIONS, "--tools", module, "--tool-policy", "allow")
    result = run("chat", folder, *options, stdin=f"Hello\n/save {path}\n/history\n/tools\n")
    assert result.code == 0
    assert 'look({"at": "' in result.err
    assert "done in" in result.err
    assert "saw " in result.err
    assert "look (allow): Look at it." in result.err
    saved = json.loads(path.read_text())
    assert saved["tools"] == [LOOK]
    question, call, answer = saved["messages"][:3]
    assert (question["role"], call["tool_calls"][0]["function"]["name"]) == ("user", "look")
    assert answer["tool_call_id"] == call["tool_calls"][0]["id"]
    assert answer["content"].startswith("saw ")
    assert run("tokenize", "-m", folder, "--chat", path).code == 0


def test_nobody_can_be_asked_in_a_pipe(run: Run, chat_model: Path, module: Path) -> None:
    result = run("chat", chat_model, *OPTIONS, "--tools", module, stdin="Hello\n")
    assert "look was not run: nobody can be asked here; --tool-policy look=allow lets it run" in result.err
    assert "denied in" in result.err
    result = run("chat", chat_model, *OPTIONS, "--tools", module, "--tool-policy", "look=deny", stdin="Hello\n")
    assert "nobody can be asked" not in result.err
    assert "the user does not allow this call" in result.err


def test_a_tool_without_a_function_waits_for_its_result(run: Run, chat_model: Path, definitions: Path) -> None:
    path = definitions.parent / "talk.json"
    # A random model makes several calls at once; each waits for a result of its own.
    lines = "/result early\nHello\n" + "/result I saw it.\n" * 12 + f"/save {path}\n/tools\n"
    result = run("chat", chat_model, *OPTIONS, "--tools", definitions, stdin=lines)
    assert "There is no call that waits for a result" in result.err
    assert "look has no function here; /result TEXT" in result.err
    assert "look (no function): Look at it." in result.err
    messages = json.loads(path.read_text())["messages"]
    results = [message["content"] for message in messages if message["role"] == "tool"]
    assert set(results) == {"I saw it."}
    assert [message["role"] for message in messages].index("tool") < len(messages) - 1
    assert messages[-1]["role"] == "assistant"


def test_retry_forgets_calls_and_results(run: Run, chat_model: Path, module: Path) -> None:
    path = module.parent / "talk.json"
    options = (*OPTIONS, "--tools", module, "--tool-policy", "allow")
    run("chat", chat_model, *options, stdin=f"Hello\n/save {path}\n")
    once = json.loads(path.read_text())["messages"]
    path.unlink()
    run("chat", chat_model, *options, stdin=f"Hello\n/retry\n/save {path}\n")
    twice = json.loads(path.read_text())["messages"]
    assert [message["role"] for message in once] == [message["role"] for message in twice]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tool-policy", "allow"), "name some with --tools"),
        (("--tools", "google"), "is no source of tools"),
        (("--tools", "MODULE", "--tool-policy", "never"), "there are ask, allow, deny"),
        (("--tools", "MODULE", "--tool-policy", "x=allow"), "There is no tool 'x'"),
        (("--tools", "MODULE", "--tool-choice", "x"), "tool_choice names 'x'"),
        (("--tools", "MODULE", "--chat-format", "mistral-v1"), "has no tools"),
        (("--tools", "JSON", "--tool-policy", "look=allow"), "has no function that could run"),
        (("--tools", "brave_search"), "set the variable BRAVE_API_KEY"),
    ],
)
def test_wrong_options(
    run: Run, chat_model: Path, module: Path, definitions: Path, monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    monkeypatch.delenv("BRAVE_API_KEY", raising=False)
    paths = {"MODULE": str(module), "JSON": str(definitions)}
    result = run("chat", chat_model, *(paths.get(option, option) for option in options), stdin="Hello\n")
    assert result.code != 0
    assert words in result.err


def test_one_answer_carries_nothing_out(run: Run, chat_model: Path, module: Path, definitions: Path) -> None:
    assert "only `ostro chat` carries calls out" in run("run", "-m", chat_model, "--tools", module, "Hello").err
    assert run("run", "-m", chat_model, "--tools", definitions, "--max-tokens", "3", "Hello").code == 0


def test_a_person_is_asked(chat_model: Path, module: Path, environment: dict[str, str]) -> None:
    pytest.importorskip("pexpect")
    command = [sys.executable, "-m", "ostro", "chat", str(chat_model), *OPTIONS, "--tools", str(module)]
    terminal = Terminal(command, environment)
    try:
        terminal.prompt()
        terminal.type("Hello")
        terminal.expect("Run look. y: yes, n: no, a: always in this chat")
        terminal.child.send("perhaps\n")
        terminal.expect("Run look. y: yes, n: no, a: always in this chat")
        terminal.child.send("a\n")
        terminal.expect("done in")
        terminal.prompt()
        terminal.type("/exit")
        terminal.child.wait()
        assert terminal.child.exitstatus == 0
    finally:
        terminal.child.close(force=True)


def test_the_model_is_the_same_without_tools(run: Run, chat_model: Path) -> None:
    text = LLM(chat_model).render([{"role": "user", "content": "Hello"}]).text
    assert "[AVAILABLE_TOOLS]" not in text
    assert "This chat has no tools" in run("chat", chat_model, "--max-tokens", "2", stdin="/tools\n/result x\n").err
