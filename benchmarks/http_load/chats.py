"""Bursts of chats that begin with the same tokens, as a service with one system prompt has them."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from http_load.clients import client_for

_FIRST_WORD = 1000
"""Ids from here on are plain words in every vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """`users` chats at once: `system` tokens in common, `question` of each one's own, `answer` to be written."""

    users: int = 8
    system: int = 1024
    question: int = 64
    answer: int = 128
    vocab_size: int = 32000

    def prompts(self, seed: int) -> list[list[int]]:
        """Token ids of each user's prompt; the common part is the same for all seeds."""
        common = self._ids(random.Random("system"), self.system)
        rng = random.Random(seed)
        return [common + self._ids(rng, self.question) for _ in range(self.users)]

    def _ids(self, rng: random.Random, count: int) -> list[int]:
        first = min(_FIRST_WORD, self.vocab_size // 2)
        return [rng.randrange(first, self.vocab_size) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Burst:
    """What one burst took: seconds until the last answer was complete, tokens of all answers, and each one's wait for
    its first token.
    """

    seconds: float
    tokens: int
    waits: tuple[float, ...]

    @property
    def tokens_per_second(self) -> float:
        """Of all users together."""
        return self.tokens / self.seconds

    @property
    def median_wait(self) -> float:
        """Seconds to the first token, for the user in the middle."""
        return statistics.median(self.waits)


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a server is asked for a streamed, greedy answer of exactly so many tokens, and how its events are read.

    `read` gives, for an event, whether it brought text or tokens, and the number of all tokens where it says that.
    """

    path: str
    body: Callable[[Sequence[int], int], dict[str, Any]]
    read: Callable[[dict[str, Any]], tuple[bool, int | None]]


def _ostro_read(event: dict[str, Any]) -> tuple[bool, int | None]:
    usage = event.get("usage")
    return bool(event["choices"]), usage["completion_tokens"] if usage else None


def _llama_read(event: dict[str, Any]) -> tuple[bool, int | None]:
    return True, event["tokens_predicted"] if event.get("stop") else None


OSTRO = Protocol(
    "/v1/completions",
    lambda prompt, length: {
        "prompt": list(prompt),
        "max_tokens": length,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    _ostro_read,
)
LLAMA = Protocol(
    "/completion",
    lambda prompt, length: {
        "prompt": list(prompt),
        "n_predict": length,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": True,
        "stream": True,
    },
    _llama_read,
)


async def _events(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    async with client.stream("POST", path, json=body) as response:
        if response.status_code != 200:
            text = (await response.aread()).decode(errors="replace")
            raise ValueError(f"{path} answered {response.status_code}: {text[:300]}")
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))


async def _one(client: httpx.AsyncClient, protocol: Protocol, prompt: Sequence[int], length: int) -> tuple[float, int]:
    began, wait, tokens = time.perf_counter(), None, 0
    async for event in _events(client, protocol.path, protocol.body(prompt, length)):
        is_news, counted = protocol.read(event)
        if is_news and wait is None:
            wait = time.perf_counter() - began
        tokens = counted if counted is not None else tokens
    if wait is None or tokens != length:
        raise ValueError(f"an answer of {tokens} tokens came where {length} were asked for")
    return wait, tokens


def burst(address: str, protocol: Protocol, workload: Workload, seed: int) -> Burst:
    """All users ask at once. ValueError where an answer is not of the length that was asked for."""

    async def run() -> Burst:
        async with client_for(address, None, workload.users) as client:
            began = time.perf_counter()
            asked = (_one(client, protocol, prompt, workload.answer) for prompt in workload.prompts(seed))
            found = await asyncio.gather(*asked)
            seconds = time.perf_counter() - began
        return Burst(seconds, sum(tokens for _, tokens in found), tuple(wait for wait, _ in found))

    return asyncio.run(run())
