"""Exit codes, the one line of an error, and what never reaches a user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ostro import LLM, __version__
from ostro.cli import info
from ostro.cli.app import COMMANDS
from ostro.cli.options import LoadOptions

Run = Callable[..., Any]


def test_version(run: Run) -> None:
    assert run("--version").out == f"ostro {__version__}\n"


def test_no_command_shows_the_help_as_wrong_usage(run: Run) -> None:
    result = run()
    assert result.code == 2
    assert all(name.split()[0] in result.out + result.err for name, _, _ in COMMANDS)


@pytest.mark.parametrize("args", [["nope"], ["info", "--nope"], ["generate", "-m", "x", "--max-tokens", "many"]])
def test_wrong_usage_is_2(run: Run, args: list[str]) -> None:
    result = run(*args)
    assert (result.code, result.out) == (2, "")
    assert "Error" in result.err


@pytest.mark.parametrize("command", ["chat", "run", "generate", "info"])
def test_without_a_model_usage_is_explained(run: Run, no_bundled_model: None, command: str) -> None:
    result = run(command, stdin="hi")
    words = " ".join(result.err.replace("│", " ").split())
    assert result.code == 2
    assert "No model was given" in words
    assert "OSTRO_MODEL" in words
    assert "ostro list" in words


def test_an_error_is_one_line_on_stderr(run: Run) -> None:
    result = run("info", "no-such-model")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: 'no-such-model' is no folder")
    assert result.err.count("\n") == 1


def test_an_unexpected_error_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(info, "model_or_default", fail)
    result = run("info")
    assert result.code == 1
    assert result.err.startswith("error: ZeroDivisionError: division by zero")
    assert "--debug" in result.err
    assert "Traceback" not in result.err
    assert result.err.count("\n") == 1
    with pytest.raises(ZeroDivisionError):
        run("--debug", "info")


def test_debug_shows_the_traceback(ostro: Run) -> None:
    done = ostro("--debug", "info", "no-such-model")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ModelNotFoundError" in done.stderr


@pytest.mark.parametrize(
    "args", [["-v", "generate"], ["--verbose", "generate"], ["generate", "-v"], ["generate", "--verbose"]]
)
def test_verbose_shows_what_is_done(
    run: Run, chat_model: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    from ostro.log import logger

    def load(self: LoadOptions, model: str, **more: object) -> LLM:
        logger.info("%s is being loaded", "it")
        return LLM(model)

    monkeypatch.setattr(LoadOptions, "load", load)
    options = ["-m", chat_model, "a", "--max-tokens", "1", "--seed", "1"]
    shown = run(*args, *options)
    assert "ostro: it is being loaded\n" in shown.err
    quiet = run("generate", *options)
    assert (quiet.err, quiet.out) == ("", shown.out)


def test_debug_after_the_command(ostro: Run) -> None:
    assert "Traceback" in ostro("info", "no-such-model", "--debug").stderr


def test_help_shows_no_types(ostro: Run) -> None:
    for name, _, _ in COMMANDS:
        text = ostro(*name.split(), "--help").stdout
        assert "--debug" in text
        assert not any(word in text for word in ("<bool>", "<str>", "list[", "<int>", "<path>", "BOOLEAN", "None"))


@pytest.mark.parametrize("where", ["ostro.cli.app", "ostro.cli.console", "typer"])
def test_ctrl_c_while_starting_is_130_without_a_traceback(environment: dict[str, str], where: str) -> None:
    code = (
        "import builtins, sys\n"
        "real = builtins.__import__\n"
        "def interrupted(name, *args, **kwargs):\n"
        f"    if name == {where!r}: raise KeyboardInterrupt\n"
        "    return real(name, *args, **kwargs)\n"
        "builtins.__import__ = interrupted\n"
        "from ostro.cli import main\n"
        "main(['--version'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, b"")


def test_a_pipe_gets_no_colours(ostro: Run) -> None:
    for args in (["info", "no-such-model"], ["doctor"], ["list"]):
        done = ostro(*args)
        assert "\x1b" not in done.stdout + done.stderr


def test_a_reader_that_leaves_is_no_error(environment: dict[str, str]) -> None:
    command = f"{sys.executable} -m ostro list --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{", "")


def test_ctrl_c_is_130_without_a_traceback(chat_model: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "ostro", "run", "-m", str(chat_model), "hi", "--seed", "1"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)  # the answer has begun
        os.kill(process.pid, signal.SIGINT)
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            process.stdout.read1(1 << 16)
        assert process.wait() == 130
        assert process.stderr.read() == b""


def test_another_encoding_stops_nothing(ostro: Run) -> None:
    done = ostro("tokenize", "--tokenizer", "v3", "안녕", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "text" in done.stdout
    done = ostro("tokenize", "--tokenizer", "v3", "안녕", "--json", PYTHONIOENCODING="ascii")
    assert r"\uc548" in done.stdout


def test_python_m_and_the_script_are_one(ostro: Run) -> None:
    assert ostro("--version").stdout == f"ostro {__version__}\n"
