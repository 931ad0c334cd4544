"""A conversation: what was said, and how the next answer is had and shown."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ostro.cli.console import plural, print_note, write
from ostro.cli.interrupt import StopOnInterrupt
from ostro.errors import PromptError

if TYPE_CHECKING:
    from ostro import LLM, SamplingParams
    from ostro.chat import Prompt

Message = dict[str, Any]


class Session:
    """One conversation with a model. `messages` are what was said, without the system message.

    `rendering` are further arguments of `LLM.render`. `has_failed`: a line could not be done; who reads lines notes it.
    """

    def __init__(
        self, llm: LLM, params: SamplingParams, *, system: str | None, rendering: Mapping[str, Any], quiet: bool
    ) -> None:
        self.llm = llm
        self.system = system
        self.messages: list[Message] = []
        self.has_failed = False
        self._params = params
        self._rendering = rendering
        self._quiet = quiet
        self._question: str | None = None
        self._before: list[Message] = []
        self._answered = False
        self._states_date = False

    @property
    def has_safe_prompt(self) -> bool:
        """Whether Mistral's guardrail stands in front of the system message."""
        return bool(self._rendering.get("safe_prompt"))

    def with_system(self, messages: Sequence[Message] | None = None) -> list[Message]:
        """The messages as the model gets them."""
        said = self.messages if messages is None else messages
        return [*([{"role": "system", "content": self.system}] if self.system else []), *said]

    def saved(self) -> dict[str, Any]:
        """The conversation as JSON, with all that `ostro tokenize --chat` needs to make the same prompt of it."""
        today = self._rendering.get("today")
        around = {
            "tools": self._rendering.get("tools"),
            "safe_prompt": self.has_safe_prompt,
            "chat_format": self._rendering.get("format"),
            "today": today.isoformat() if today is not None and self._states_date else None,
        }
        return {"messages": self.with_system(), **{key: value for key, value in around.items() if value}}

    def reset(self) -> None:
        """Forget what was said."""
        self.messages = []
        self._question, self._answered = None, False

    def retry(self) -> None:
        """Ask the last question again; the answer that it had is forgotten when the new one begins."""
        if self._question is None:
            raise PromptError("There is nothing to ask again.")
        self._turn(self._question, self._before)

    def ask(self, text: str) -> None:
        """Stream the answer to `text` and keep both. Where there is no answer, only /retry remembers the question."""
        self._question, self._before, self._answered = text, self.messages, False
        self._turn(text, self.messages)

    def _turn(self, text: str, before: list[Message]) -> None:
        question = {"role": "user", "content": text}
        prompt = self._render([*before, question])
        params = self._fitting(len(prompt), is_first=not before)
        pace = Pace(len(prompt), self.llm.max_model_len)
        texts: list[str] = []
        self.messages, self._before, self._answered = before, before, False
        stopped = self._stream(prompt, params, pace, texts)
        answer = "".join(texts)
        if answer:  # kept before anything more is printed: there Ctrl-C may leave this method
            self.messages = [*before, question, {"role": "assistant", "content": answer}]
            self._answered = True
            write("" if answer.endswith("\n") else "\n")
        self._note(pace, stopped=stopped)

    def _fitting(self, num_prompt_tokens: int, *, is_first: bool) -> SamplingParams:
        """The parameters for as much as there is room for; PromptError, with the way out, where there is none."""
        limit = self.llm.max_model_len
        room, wanted = limit - num_prompt_tokens, self._params.max_tokens
        if room < 1:
            numbers = f"{num_prompt_tokens} tokens, and the context holds {limit}, the answer included"
            possible = self.llm.config.max_position_embeddings
            more = f" This model can have up to {possible}: see --max-model-len." if limit < possible else ""
            if is_first:
                raise PromptError(f"The message is too long: its prompt has {numbers}. Send a shorter one.{more}")
            raise PromptError(
                f"The conversation is too long for this message: its prompt has {numbers}. /reset begins anew.{more}"
            )
        if wanted is None or wanted <= room:
            return self._params
        if not self._quiet:
            way_out = "" if is_first else "; /reset begins anew"
            print_note(f"(there is room for {plural(room, 'token')} more, not for {wanted}{way_out})")
        return replace(self._params, max_tokens=room, min_tokens=min(room, self._params.min_tokens))

    def _stream(self, prompt: Prompt, params: SamplingParams, pace: Pace, texts: list[str]) -> bool:
        """Print the answer while it comes, and add it to `texts`; True if Ctrl-C cut it short."""
        with StopOnInterrupt() as stop, self.llm.stream(prompt, params) as stream:
            for chunk in stream:
                pace.count(len(chunk.token_ids))
                pace.finish_reason = chunk.finish_reason
                texts.append(chunk.text)
                write(chunk.text)
                if stop.wanted:
                    break
            if stream.output is not None:
                pace.drafted, pace.accepted = stream.output.num_draft_tokens, stream.output.num_accepted_tokens
        return stop.wanted

    def _render(self, messages: list[Message]) -> Prompt:
        prompt = self.llm.render(self.with_system(messages), **self._rendering)
        self._states_date = not prompt.format_name.startswith("mistral")
        return prompt

    def _note(self, pace: Pace, *, stopped: bool) -> None:
        if stopped:
            print_note("(stopped)" if pace.num_tokens else "(stopped before the first word; /retry asks again)")
        elif not pace.num_tokens:
            print_note("(the model has nothing to say; /retry asks again)")
        if not self._quiet and pace.num_tokens:
            print_note(str(pace))


class Pace:
    """Counts tokens and time of one answer.

    `finish_reason`, and the numbers of tokens that were `drafted` and of those `accepted`, are those of the engine.
    """

    def __init__(self, num_prompt_tokens: int, max_model_len: int) -> None:
        self.num_prompt_tokens = num_prompt_tokens
        self.max_model_len = max_model_len
        self.num_tokens = 0
        self.finish_reason: str | None = None
        self.drafted = self.accepted = 0
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
        """ "128 tokens, 12.3 tokens/s, 40 of 52 drafted right; prompt 45 tokens, 0.8 s to the first".

        The speed is that after the first token.
        """
        words = plural(self.num_tokens, "token")
        if self._last > self._first:
            words += f", {(self.num_tokens - self._with_first) / (self._last - self._first):.1f} tokens/s"
        if self.drafted:
            words += f", {self.accepted} of {self.drafted} drafted right"
        words += f"; prompt {plural(self.num_prompt_tokens, 'token')}, {self._first - self._begin:.2f} s to the first"
        if self.finish_reason != "length":
            return words
        if self.num_prompt_tokens + self.num_tokens >= self.max_model_len:
            return words + "; cut off: the context is full (/reset begins anew)"
        return words + "; cut off by the limit of tokens"
