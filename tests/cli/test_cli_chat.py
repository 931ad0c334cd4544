"""`ostro chat`: through a pipe, and in a real terminal with its Ctrl-C."""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ostro import LLM, SamplingParams

Run = Callable[..., Any]
OPTIONS = ("--seed", "1", "--max-tokens", "6")
PARAMS = SamplingParams(seed=1, max_tokens=6)
ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>]|\][^\x07]*\x07)")


@pytest.fixture(scope="module")
def llm(chat_model: Path) -> LLM:
    return LLM(chat_model)


def said(llm: LLM, *turns: str, system: str | None = None) -> list[dict[str, str]]:
    """The conversation that the users' turns lead to."""
    messages: list[dict[str, str]] = []
    first = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        text = llm.chat([*first, *messages], PARAMS)[0].outputs[0].text
        messages.append({"role": "assistant", "content": text})
    return messages


def answers(messages: list[dict[str, str]]) -> str:
    """What is printed on stdout."""
    return "".join(message["content"] + "\n" for message in messages if message["role"] == "assistant")


def test_every_line_of_a_pipe_is_a_message(run: Run, chat_model: Path, llm: LLM) -> None:
    result = run("chat", chat_model, *OPTIONS, stdin="Hello\n\nAnd then?\n/exit\nnot this\n")
    assert result.code == 0
    assert result.out == answers(said(llm, "Hello", "And then?"))
    assert "context 8192 tokens" in result.err
    assert result.err.count("\n6 tokens, ") == 2
    assert "cut off by the limit of tokens" in result.err


def test_quiet(run: Run, chat_model: Path, llm: LLM) -> None:
    result = run("chat", chat_model, *OPTIONS, "--quiet", stdin="Hello")
    assert (result.out, result.err) == (answers(said(llm, "Hello")), "")


def test_system_reset_and_retry(run: Run, chat_model: Path, llm: LLM) -> None:
    lines = "One\n/system Be kind.\n/system\n/reset\nTwo\n/retry\n/system clear\n/reset\nThree\n"
    result = run("chat", chat_model, *OPTIONS, "--system", "Be brief.", stdin=lines)
    expected = [
        *said(llm, "One", system="Be brief."),
        *said(llm, "Two", system="Be kind."),
        *said(llm, "Two", system="Be kind."),
        *said(llm, "Three"),
    ]
    assert result.out == answers(expected)
    assert result.err.count("System message: Be kind.") == 2
    assert "There is no system message." in result.err


def test_save_and_history(run: Run, chat_model: Path, llm: LLM, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    result = run("chat", chat_model, *OPTIONS, stdin=f"One\nTwo\n/history\n/save {path}\n/save {path}\n/save\n")
    messages = said(llm, "One", "Two")
    assert result.out == answers(messages) + "".join(m["content"] + "\n" for m in messages)
    assert json.loads(path.read_text()) == {"messages": messages}
    assert f"error: {path} exists already" in result.err
    assert "/save FILE.json" in result.err
    assert run("tokenize", "-m", chat_model, "--chat", path).code == 0


def test_what_it_does_not_know(run: Run, chat_model: Path, llm: LLM) -> None:
    result = run("chat", chat_model, *OPTIONS, stdin="/nope\n/retry\n/help\n /nope\n")
    assert "error: There is no command /nope; there are /system, /reset, " in result.err
    assert "error: There is nothing to ask again." in result.err
    assert "begin a new conversation" in result.err
    assert result.out == answers(said(llm, "/nope"))  # a space before it makes it a message


def test_a_pipe_whose_lines_were_not_all_done_ends_with_1(run: Run, chat_model: Path) -> None:
    assert run("chat", chat_model, *OPTIONS, stdin="Hello\n/history\n").code == 0
    for line in ("/nope", "/save", "word " * 80):
        assert run("chat", chat_model, *OPTIONS, "--max-model-len", "48", stdin=f"{line}\nHello\n/exit\n").code == 1


@pytest.mark.parametrize("line", ["/reset please", "/exit now", "/QUIT 5", "/help me", "/retry\tit", "/history all"])
def test_a_command_without_an_argument_takes_none(run: Run, chat_model: Path, llm: LLM, line: str) -> None:
    result = run("chat", chat_model, *OPTIONS, stdin=f"Hello\n{line}\nAnd then?\n")
    assert "takes nothing after it" in result.err
    assert result.out == answers(said(llm, "Hello", "And then?"))


def test_commands_in_capitals_and_the_slash_alone(run: Run, chat_model: Path, llm: LLM) -> None:
    result = run("chat", chat_model, *OPTIONS, stdin="/System Be Kind.\n/\n/RESET\n/Retry\nOne\n/EXIT\nTwo\n")
    assert "System message: Be Kind." in result.err
    assert "begin a new conversation" in result.err
    assert "There is nothing to ask again." in result.err
    assert result.out == answers(said(llm, "One", system="Be Kind."))


def test_too_long_a_message_is_refused_and_forgotten(run: Run, chat_model: Path, llm: LLM) -> None:
    lines = "Hello\n" + "word " * 80 + "\nAnd then?\n/reset\n" + "word " * 80
    result = run("chat", chat_model, *OPTIONS, "--max-model-len", "48", stdin=lines)
    assert "error: The conversation is too long for this message: its prompt has " in result.err
    assert "the context holds 48, the answer included. /reset begins anew." in result.err
    assert "error: The message is too long: its prompt has " in result.err
    assert result.err.count("can have up to 8192: see --max-model-len") == 2
    assert result.out == answers(said(llm, "Hello", "And then?"))


def test_the_answer_may_have_what_is_left_of_the_context(run: Run, chat_model: Path, llm: LLM) -> None:
    first = len(llm.render([{"role": "user", "content": "Hello"}]))
    lines = f"Hello\n{'And then? ' * 3}\nMore?\n/reset\nHello\n"
    args = ("chat", chat_model, "--seed", "1", "--max-tokens", "30", "--max-model-len", str(first + 50))
    result = run(*args, stdin=lines)
    assert re.search(r"\(there is room for \d tokens more, not for 30; /reset begins anew\)", result.err)
    assert "; cut off: the context is full (/reset begins anew)" in result.err
    assert "error: The conversation is too long for this message" in result.err
    assert len(result.out.splitlines()) >= 3
    assert result.err.rstrip().endswith("cut off by the limit of tokens")  # after /reset there is room again
    assert "there is room" not in run(*args, "--quiet", stdin=lines).err


def test_retry_after_a_refusal_keeps_what_was_said(run: Run, chat_model: Path, llm: LLM) -> None:
    lines = "Hello\n" + "word " * 80 + "\n/retry\nAnd then?\n"
    result = run("chat", chat_model, *OPTIONS, "--max-model-len", "48", stdin=lines)
    assert result.err.count("is too long for this message") == 2
    assert result.out == answers(said(llm, "Hello", "And then?"))


def test_a_refused_retry_keeps_what_was_said(run: Run, chat_model: Path, llm: LLM) -> None:
    lines = "Hello\n/system " + "word " * 80 + "\n/retry\n/system clear\n/history\n"
    result = run("chat", chat_model, *OPTIONS, "--max-model-len", "48", stdin=lines)
    messages = said(llm, "Hello")
    assert result.code == 1
    assert result.out == answers(messages) + "".join(m["content"] + "\n" for m in messages)


def test_safe_prompt_is_told_and_saved(run: Run, chat_model: Path, llm: LLM, tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    lines = f"/system\n/system Be kind.\nHello\n/save {path}\n"
    result = run("chat", chat_model, *OPTIONS, "--safe-prompt", "--chat-format", "mistral-v2", stdin=lines)
    assert "The system message is Mistral's guardrail (--safe-prompt)." in result.err
    assert "System message: Be kind.\nMistral's guardrail (--safe-prompt) stands before it." in result.err
    saved = json.loads(path.read_text())
    assert (saved["safe_prompt"], saved["chat_format"]) == (True, "mistral-v2")
    assert "today" not in saved  # Mistral's formats state no date
    expected = llm.render(saved["messages"], safe_prompt=True, format="mistral-v2", add_generation_prompt=False)
    assert run("tokenize", "-m", chat_model, "--chat", path, "--json").json["token_ids"] == expected.token_ids


def test_tools_and_date_are_saved(run: Run, llama_model: Path, tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}}
    (tmp_path / "tools.json").write_text(json.dumps([tool]))
    options = ("--tools", tmp_path / "tools.json", "--today", "2026-03-31")
    run("chat", llama_model, *OPTIONS, *options, stdin=f"Hello\n/save {tmp_path}/talk.json\n")
    saved = json.loads((tmp_path / "talk.json").read_text())
    assert (saved["tools"], saved["today"]) == ([tool], "2026-03-31")
    day = datetime.date(2026, 3, 31)
    expected = LLM(llama_model).render(saved["messages"], tools=[tool], today=day, add_generation_prompt=False)
    assert "31 Mar 2026" in expected.text
    shown = run("tokenize", "-m", llama_model, "--chat", tmp_path / "talk.json", "--json").json
    assert shown["token_ids"] == expected.token_ids
    other = run("tokenize", "-m", llama_model, "--chat", tmp_path / "talk.json", "--today", "2026-04-01", "--json")
    assert other.json["num_tokens"] == shown["num_tokens"]
    assert other.json["token_ids"] != shown["token_ids"]


class Terminal:
    """`ostro chat` in a pseudo-terminal."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        import pexpect

        self.child = pexpect.spawn(
            command[0], command[1:], env={**environment, "PROMPT_TOOLKIT_NO_CPR": "1"}, encoding="utf-8", timeout=30,
            dimensions=(40, 120),
        )  # fmt: skip

    def expect(self, pattern: str) -> str:
        """Wait for a pattern; what came before it, without escape sequences."""
        self.child.expect(pattern)
        return ESCAPES.sub("", self.child.before)

    def type(self, text: str) -> None:
        """A line and Enter."""
        self.child.send(text + "\r")

    def prompt(self) -> str:
        """Wait until the line editor is ready."""
        return self.expect(r"\x1b\[\?2004h") + self.expect(r"\x1b\[\?25h")

    def answer_begins(self) -> None:
        """Wait until the line editor has let go of the terminal and some words have come."""
        self.expect(r"\x1b\[\?2004l")
        self.expect(r"\w{3}.*\w{3}")


@pytest.fixture
def terminal(chat_model: Path, environment: dict[str, str]) -> Iterator[Terminal]:
    pytest.importorskip("pexpect")
    pytest.importorskip("ostro._native")  # the timing of an interrupt needs a model that talks at some speed
    command = [sys.executable, "-m", "ostro", "chat", str(chat_model), "--seed", "1"]
    opened = Terminal(command, environment)
    yield opened
    opened.child.close(force=True)


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Terminal, tmp_path: Path) -> None:
    terminal.prompt()
    terminal.type("Tell me everything")
    terminal.answer_begins()  # it would be 8000 tokens long
    terminal.child.sendintr()
    terminal.expect(r"\(stopped\)")
    terminal.expect("tokens/s")
    terminal.prompt()
    terminal.type(f"/save {tmp_path}/talk.json")
    terminal.expect("Saved")
    question, answer = json.loads((tmp_path / "talk.json").read_text())["messages"]
    assert question == {"role": "user", "content": "Tell me everything"}
    assert answer["role"] == "assistant"
    assert answer["content"]
    terminal.prompt()
    terminal.type("Go on")  # the engine is whole: the next question is answered, and can be stopped too
    terminal.answer_begins()
    terminal.child.sendintr()
    terminal.expect(r"\(stopped\)")
    terminal.prompt()
    terminal.child.sendeof()
    terminal.child.wait()
    assert terminal.child.exitstatus == 0


def test_ctrl_c_at_the_prompt_only_empties_the_line(terminal: Terminal) -> None:
    terminal.prompt()
    terminal.child.send("never sent")
    terminal.child.sendintr()
    terminal.expect(r"Ctrl-D or /exit leaves")
    terminal.prompt()
    terminal.type("/history")
    terminal.expect("Nothing has been said yet")
    terminal.prompt()
    terminal.type("/exit")
    terminal.child.wait()
    assert terminal.child.exitstatus == 0


def test_lines_are_remembered_by_the_next_program(terminal: Terminal, environment: dict[str, str]) -> None:
    terminal.prompt()
    terminal.type("/system A well-known line")
    terminal.expect("System message")
    terminal.prompt()
    terminal.type("/exit")
    terminal.child.wait()
    history = Path(environment["HOME"], ".local/state/ostro/chat_history")
    assert "A well-known line" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
