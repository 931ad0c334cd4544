"""Requests whose answers do not depend on who else asks: greedy or seeded, short and long, whole and streamed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SYLLABLES = ("ka", "lo", "mi", "ner", "sta", "vi", "tor", "el", "서", "울", "😀", "ön")
_SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green", "blue"]}, "dark": {"type": "boolean"}},
    "required": ["colour", "dark"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Job:
    """One request: where it goes, its body, and whether the answer is a stream of events."""

    name: str
    path: str
    body: dict[str, Any]

    @property
    def streams(self) -> bool:
        """Whether the answer comes as events."""
        return bool(self.body.get("stream"))


def text(rng: random.Random, num_words: int) -> str:
    """Words that no vocabulary knows, several scripts among them."""
    return " ".join("".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))) for _ in range(num_words))


def make_jobs(count: int, seed: int, *, longest: int = 600, guided: bool = True) -> list[Job]:
    """So many different jobs: a third with a long prompt of up to `longest` words, half behind one system prompt."""
    rng = random.Random(seed)
    system = {"role": "system", "content": text(rng, longest // 4)}
    return [_job(number, rng, system, longest, guided) for number in range(count)]


def _job(number: int, rng: random.Random, system: dict[str, str], longest: int, guided: bool) -> Job:
    is_long = number % 3 == 0
    words = rng.randint(longest // 2, longest) if is_long else rng.randint(1, 30)
    limits = {"max_tokens": rng.choice((1, 8, 24, 48)), "stream": rng.random() < 0.6}
    if number % 5 == 4:
        return Job("completion", "/v1/completions", {"prompt": text(rng, words), **_sampling(rng), **limits})
    user = {"role": "user", "content": text(rng, words)}
    body = {"messages": [system, user] if number % 2 else [user], **_sampling(rng), **limits}
    if guided and number % 7 == 6:
        schema = {"type": "json_schema", "json_schema": {"name": "colour", "schema": _SCHEMA}}
        body |= {"response_format": schema, "max_tokens": 60}
    return Job("chat", "/v1/chat/completions", body)


def _sampling(rng: random.Random) -> dict[str, Any]:
    choices = (
        {"temperature": 0},
        {"temperature": 1.0, "seed": rng.randrange(1000)},
        {"temperature": 0.8, "top_p": 0.9, "seed": rng.randrange(1000), "n": 2},
        {"temperature": 0, "frequency_penalty": 0.5, "stop": ["ka", "e"]},
    )
    return dict(rng.choice(choices))


Answer = tuple[tuple[str, str | None], ...]
"""Text and reason of the end of each choice."""


def whole_answer(body: dict[str, Any]) -> Answer:
    """The answer in a body that came at once."""
    return tuple((_said(choice, "message"), choice["finish_reason"]) for choice in _ordered(body["choices"]))


def streamed_answer(chunks: Sequence[dict[str, Any]]) -> Answer:
    """The answer in the chunks of a stream."""
    texts: dict[int, str] = {}
    reasons: dict[int, str | None] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        index = choice["index"]
        texts[index] = texts.get(index, "") + _said(choice, "delta")
        reasons[index] = choice["finish_reason"] or reasons.get(index)
    return tuple((texts[index], reasons[index]) for index in sorted(texts))


def _ordered(choices: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(choices, key=lambda choice: int(choice["index"]))


def _said(choice: dict[str, Any], where: str) -> str:
    return str(choice["text"] if "text" in choice else choice[where].get("content") or "")
