"""What becomes of a job, in nobody's dialect: the events that a streamed answer shows and a whole one gathers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ostro.chat.messages import ToolCall
from ostro.engine.outputs import Logprob

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token of the answer, and as many of the likeliest at its place as were asked for, by their ids."""

    token_id: int
    logprob: Logprob
    likeliest: tuple[tuple[int, Logprob], ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """More text of answer `index`, and the tokens that came since the last, if log-probabilities were asked for."""

    index: int
    text: str
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """Call `number` of answer `index`, whole."""

    index: int
    number: int
    call: ToolCall


@dataclass(frozen=True, slots=True)
class Finish:
    """Answer `index` has ended; `stop_reason` is the stop string or id that ended it, if one did."""

    index: int
    reason: FinishReason
    stop_reason: int | str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens: of the prompt, those of them found in the prefix cache, and of all answers, their ends included."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and answers."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


Event: TypeAlias = Text | Call | Finish | Usage
"""`Usage` is the last event of a job, behind the `Finish` of every answer."""


@dataclass(slots=True)
class Choice:
    """One whole answer: the events of its index, put together."""

    text: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish: Finish | None = None

    def add(self, event: Text | Call | Finish) -> None:
        """Take the next event."""
        match event:
            case Text():
                self.text += event.text
                self.logprobs += event.logprobs
            case Call():
                self.calls.append(event.call)
            case Finish():
                self.finish = event


async def gather(events: AsyncIterator[Event]) -> tuple[list[Choice], Usage]:
    """The whole answers, by their index, and the usage."""
    choices: dict[int, Choice] = {}
    usage = Usage(0, 0)
    async for event in events:
        if isinstance(event, Usage):
            usage = event
        else:
            choices.setdefault(event.index, Choice()).add(event)
    return [choices[index] for index in sorted(choices)], usage
