"""Clients that ask again and again, leave when they like, and compare what they get with what they should."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from http_load.jobs import Answer, Job, streamed_answer, whole_answer

_TIMEOUT = 300.0


class Refused(Exception):  # noqa: N818 - a status that the protocol allows for
    """The server answered with a status other than 200."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


@dataclass
class Tally:
    """What became of the requests. `wrong` holds the job's number, what was expected and what came."""

    finished: int = 0
    left: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    wrong: list[tuple[int, Answer, Answer]] = field(default_factory=list)


async def ask(client: httpx.AsyncClient, job: Job) -> Answer:
    """One answer. Refused for a status other than 200; ValueError for a stream that ends too soon."""
    if not job.streams:
        response = await client.post(job.path, json=job.body)
        if response.status_code != 200:
            raise Refused(response.status_code, response.text)
        return whole_answer(response.json())
    async with client.stream("POST", job.path, json=job.body) as response:
        if response.status_code != 200:
            raise Refused(response.status_code, (await response.aread()).decode())
        chunks: list[dict[str, Any]] = []
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                return streamed_answer(chunks)
            if line:
                chunks.append(json.loads(line.removeprefix("data: ")))
    raise ValueError("the stream ended without [DONE]")


def client_for(address: str, key: str | None, connections: int) -> httpx.AsyncClient:
    """A client with so many connections and no others waiting."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(base_url=address, headers=headers, limits=limits, timeout=_TIMEOUT, trust_env=False)


async def alone(address: str, key: str | None, jobs: Sequence[Job]) -> dict[int, Answer]:
    """The answer to each job, asked one after the other."""
    async with client_for(address, key, 1) as client:
        return {number: await ask(client, job) for number, job in enumerate(jobs)}


async def load(
    address: str,
    key: str | None,
    jobs: Sequence[Job],
    expected: Mapping[int, Answer],
    *,
    clients: int,
    seconds: float,
    leaving: float = 0.25,
    seed: int = 0,
) -> Tally:
    """So many clients at once, each asking for random jobs until the time is over.

    The share `leaving` of the requests is given up at a random moment, before the first byte or amid the answer.
    """
    tally = Tally()
    end = time.monotonic() + seconds
    async with client_for(address, key, clients) as client:
        tasks = [
            _behave(client, jobs, expected, tally, random.Random(f"{seed}/{number}"), end, leaving)
            for number in range(clients)
        ]
        await asyncio.gather(*tasks)
    return tally


async def _behave(
    client: httpx.AsyncClient,
    jobs: Sequence[Job],
    expected: Mapping[int, Answer],
    tally: Tally,
    rng: random.Random,
    end: float,
    leaving: float,
) -> None:
    typical = 0.2  # seconds that an answer takes, as far as this client has seen
    while time.monotonic() < end:
        number = rng.randrange(len(jobs))
        patience = rng.uniform(0, 1.5 * typical) if rng.random() < leaving else None
        began = time.monotonic()
        try:
            async with asyncio.timeout(patience):
                answer = await ask(client, jobs[number])
        except TimeoutError:
            tally.left += 1
        except Refused as error:
            tally.refused[error.status] += 1
            if error.status not in (429, 503):
                tally.failed.append(str(error))
            await asyncio.sleep(rng.uniform(0.1, 1))
        except (httpx.HTTPError, ValueError, KeyError) as error:
            tally.failed.append(f"{type(error).__name__}: {error}")
        else:
            typical = 0.9 * typical + 0.1 * (time.monotonic() - began)
            tally.finished += 1
            if answer != expected[number]:
                tally.wrong.append((number, expected[number], answer))
