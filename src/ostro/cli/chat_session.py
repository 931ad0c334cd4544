"""A conversation: what was said, and how the next answer is had and shown."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ostro.cli.console import print_note, write
from ostro.cli.interrupt import StopOnInterrupt
from ostro.errors import PromptError

if TYPE_CHECKING:
    from ostro import LLM, SamplingParams
    from ostro.chat import Prompt

Message = dict[str, str]


class Session:
    """One conversation with a model. `messages` are what was said, without the system message.

    `rendering` are further arguments of `LLM.render`.
    """

    def __init__(
        self, llm: LLM, params: SamplingParams, *, system: str | None, rendering: Mapping[str, Any], quiet: bool
    ) -> None:
        self.llm = llm
        self.system = system
        self.messages: list[Message] = []
        self._params = params
        self._rendering = rendering
        self._quiet = quiet
        self._question: str | None = None
        self._answered = False
        self.has_failed = False

    def with_system(self, messages: Sequence[Message] | None = None) -> list[Message]:
        """The messages as the model gets them."""
        said = self.messages if messages is None else messages
        return [*([{"role": "system", "content": self.system}] if self.system else []), *said]

    def reset(self) -> None:
        """Forget what was said."""
        self.messages = []
        self._question = None

    def retry(self) -> None:
        """Ask the last question again; the answer that it had is forgotten."""
        if self._question is None:
            raise PromptError("There is no question to ask again.")
        if self._answered:
            del self.messages[-2:]
        self.ask(self._question)

    def ask(self, text: str) -> None:
        """Stream the answer to `text` and keep both. Where there is no answer, only /retry remembers the question."""
        self._question, self._answered = text, False
        question = {"role": "user", "content": text}
        prompt = self._render([*self.messages, question])
        pace = Pace(num_prompt_tokens=len(prompt))
        texts: list[str] = []
        stopped = self._stream(prompt, pace, texts)
        answer = "".join(texts)
        if answer:  # kept before anything more is printed: there Ctrl-C may leave this method
            self.messages += [question, {"role": "assistant", "content": answer}]
            self._answered = True
            write("" if answer.endswith("\n") else "\n")
        self._note(pace, stopped=stopped)

    def _stream(self, prompt: Prompt, pace: Pace, texts: list[str]) -> bool:
        """Print the answer while it comes, and add it to `texts`; True if Ctrl-C cut it short."""
        with StopOnInterrupt() as stop, self.llm.stream(prompt, self._params) as stream:
            for chunk in stream:
                pace.count(len(chunk.token_ids))
                pace.finish_reason = chunk.finish_reason
                texts.append(chunk.text)
                write(chunk.text)
                if stop.wanted:
                    break
        return stop.wanted

    def _render(self, messages: list[Message]) -> Prompt:
        return self.llm.render(self.with_system(messages), **self._rendering)

    def _note(self, pace: Pace, *, stopped: bool) -> None:
        if stopped:
            print_note("(stopped)" if pace.num_tokens else "(stopped before the first word; /retry asks again)")
        elif not pace.num_tokens:
            print_note("(the model has nothing to say; /retry asks again)")
        if not self._quiet and pace.num_tokens:
            print_note(str(pace))


class Pace:
    """Counts tokens and time of one answer. `finish_reason` is that of the engine."""

    def __init__(self, num_prompt_tokens: int) -> None:
        self.num_prompt_tokens = num_prompt_tokens
        self.num_tokens = 0
        self.finish_reason: str | None = None
        self._begin = time.perf_counter()
        self._first = self._last = self._begin

    def count(self, num_tokens: int) -> None:
        """Some tokens have come just now."""
        if not num_tokens:
            return
        self._last = time.perf_counter()
        if not self.num_tokens:
            self._first = self._last
            self._with_first = num_tokens
        self.num_tokens += num_tokens

    def __str__(self) -> str:
        """ "128 tokens, 12.3 tokens/s; prompt 45 tokens, 0.8 s to the first"; speed is that after the first token."""
        words = f"{self.num_tokens} token{'s' * (self.num_tokens != 1)}"
        if self._last > self._first:
            words += f", {(self.num_tokens - self._with_first) / (self._last - self._first):.1f} tokens/s"
        words += f"; prompt {self.num_prompt_tokens} tokens, {self._first - self._begin:.2f} s to the first"
        return words + ("; cut off by the limit of tokens" if self.finish_reason == "length" else "")
