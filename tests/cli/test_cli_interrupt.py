"""Ctrl-C: at once inside the arithmetic, after the step elsewhere, and the program goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ostro import SamplingParams
from ostro.chat import Prompt, Segment
from ostro.cli import chat_session
from ostro.cli.chat_commands import run_line
from ostro.cli.interrupt import LostPatience, StopOnInterrupt


def press(times: int = 1) -> None:
    """Ctrl-C."""
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)


def in_arithmetic(function: Any) -> Any:
    """The function as if `ostro.models.llama` had called it."""
    scope: dict[str, Any] = {"__name__": "ostro.models.llama", "function": function}
    exec("def forward():\n    function()\n    return 'not reached'", scope)
    return scope["forward"]


def test_elsewhere_it_is_a_wish() -> None:
    before = signal.getsignal(signal.SIGINT)
    with StopOnInterrupt() as stop:
        assert not stop.wanted
        press()
        assert stop.wanted
    assert signal.getsignal(signal.SIGINT) is before


def test_in_the_arithmetic_the_block_is_left() -> None:
    reached = False
    with StopOnInterrupt() as stop:
        in_arithmetic(press)()
        reached = True
    assert stop.wanted
    assert not reached


def test_the_third_time_is_meant() -> None:
    with pytest.raises(LostPatience), StopOnInterrupt():
        press(times=3)
    assert issubclass(LostPatience, KeyboardInterrupt)


def test_other_errors_pass() -> None:
    with pytest.raises(ValueError, match="mine"), StopOnInterrupt():
        raise ValueError("mine")


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_an_engine_that_was_interrupted_gives_the_same_answers(chat_model: Any, backend: str) -> None:
    """Interrupt the forward pass of every early step in turn; afterwards the answer is that of a fresh engine."""
    from ostro import LLM, SamplingParams

    params = SamplingParams(seed=3, max_tokens=5)
    prompt = [1, *np.random.default_rng(0).integers(1000, 30000, 60).tolist()]
    expected = LLM(chat_model, backend=backend).generate([prompt], params)[0].outputs[0].token_ids
    llm = LLM(chat_model, backend=backend, max_num_batched_tokens=16, max_num_seqs=1)
    ops = llm._engine._runner._ops
    attention = ops.attention
    for call in (1, 2, 4, 7, 9):
        calls = 0

        def counted(*args: Any, limit: int = call) -> Any:
            nonlocal calls
            calls += 1
            if calls == limit:
                press()
            return attention(*args)

        ops.attention = counted  # type: ignore[method-assign]
        with StopOnInterrupt() as stop, llm.stream(prompt, params) as chunks:
            for _ in chunks:
                if stop.wanted:
                    break
        assert stop.wanted
        ops.attention = attention  # type: ignore[method-assign]
        assert llm.generate([prompt], params)[0].outputs[0].token_ids == expected


def test_a_question_stopped_before_the_first_word_can_be_asked_again(
    chat_model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from ostro import LLM, SamplingParams
    from ostro.cli.chat_session import Session

    llm = LLM(chat_model, max_num_seqs=1)
    session = Session(llm, SamplingParams(seed=3, max_tokens=4), system=None, rendering={}, quiet=True)
    assert run_line(session, "Hello")
    kept = list(session.messages)
    ops = llm._engine._runner._ops
    logits = ops.logits

    def interrupted(x: Any, weight: Any) -> Any:
        press()
        return logits(x, weight)

    ops.logits = interrupted  # type: ignore[method-assign]
    assert run_line(session, "And then?")
    ops.logits = logits  # type: ignore[method-assign]
    assert session.messages == kept
    assert "stopped before the first word" in capsys.readouterr().err
    assert run_line(session, "/retry")
    assert [message["content"] for message in session.messages][:3] == [*(m["content"] for m in kept), "And then?"]


class Talker:
    """Stands in for a model: always the same answer."""

    max_model_len = 100

    def __init__(self, *words: str) -> None:
        self.words = words

    def render(self, *_args: Any, **_options: Any) -> Prompt:
        return Prompt((Segment("control", (1,), "<s>", "bos"),), "mistral-v3")

    @contextmanager
    def stream(self, *_args: Any) -> Iterator[Any]:
        yield Said(self.words)


class Said(list[Any]):
    """The pieces of an answer that nothing was drafted for."""

    output = None

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(SimpleNamespace(text=word, token_ids=[5], finish_reason=None) for word in words)


def talk(*words: str) -> chat_session.Session:
    """A conversation with a `Talker`."""
    return chat_session.Session(Talker(*words), SamplingParams(), system=None, rendering={}, quiet=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [(), ("Well", ", hello.")])
def test_ctrl_c_just_after_an_answer_ends_nothing(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was meant to stop the answer, and came when the notes after it were printed."""
    session = talk(*words)
    monkeypatch.setattr(chat_session, "print_note", lambda _text: press())
    assert run_line(session, "Hello")
    captured = capsys.readouterr()
    assert "Ctrl-D or /exit leaves" in captured.err
    assert captured.out == "".join(words) + "\n" * bool(words)
    assert [message["content"] for message in session.messages] == (["Hello", "Well, hello."] if words else [])


def test_ctrl_c_again_and_again_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_session, "write", lambda _text: press(times=3))
    with pytest.raises(LostPatience):
        run_line(talk("Well", ", hello."), "Hello")


def test_ctrl_c_in_a_command_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostro.cli.chat_commands.print_error", lambda _text: press())
    assert run_line(talk(), "/nothing")
