"""What a task makes: a conversation, the answer that is wanted, and how an answer is judged."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from recipes.ostro_mini.split import Language, Split

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """A call of a tool."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the assistant says, or calls."""

    content: str = ""
    tool_calls: tuple[Call, ...] = ()

    def message(self) -> dict[str, Any]:
        """The answer as a message. Calls have the ids `ostrocal1`, `ostrocal2`, ... that the model learns to write.

        >>> Answer("Hello!").message()
        {'role': 'assistant', 'content': 'Hello!'}
        """
        if not self.tool_calls:
            return {"role": "assistant", "content": self.content}
        calls = [
            {
                "id": f"ostrocal{n}",
                "type": "function",
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for n, call in enumerate(self.tool_calls, 1)
        ]
        return {"role": "assistant", "content": self.content, "tool_calls": calls}


@dataclass(frozen=True)
class Sample:
    """A conversation up to the answer.

    `messages` ends with a user's or a tool's message; assistants' messages before are trained where their `weight` is
    1, which is the default. `rejected` is a worse answer, for preference
    training. `safe_prompt` says that Mistral's guardrail belongs in front of the system text;
    `messages` does not hold it. `facts` is what the task's checker wants to know beyond the answer.
    """

    task: str
    language: Language
    messages: tuple[Message, ...]
    answer: Answer
    tools: tuple[Mapping[str, Any], ...] = ()
    rejected: Answer | None = None
    safe_prompt: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    def prompt(self) -> list[dict[str, Any]]:
        """The messages as a client sends them: without the training weights."""
        return [{key: value for key, value in message.items() if key != "weight"} for message in self.messages]


@dataclass(frozen=True)
class Task:
    """A skill. `weight` is its share of the conversations, before they are divided by the sum of all weights."""

    name: str
    weight: float
    generate: Callable[[random.Random, Split], Sample]
    check: Callable[[Sample, Answer], bool]


def user(content: str) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": content}


def assistant(content: str, *, trained: bool = True) -> dict[str, Any]:
    """An assistant's message inside a conversation."""
    message = {"role": "assistant", "content": content}
    return message if trained else {**message, "weight": 0}


def system(content: str) -> dict[str, Any]:
    """A system message."""
    return {"role": "system", "content": content}


def same_text(sample: Sample, answer: Answer) -> bool:
    """Whether an answer is the wanted one but for spaces around it."""
    return not answer.tool_calls and answer.content.strip() == sample.answer.content.strip()
