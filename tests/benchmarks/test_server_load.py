"""The load of benchmarks/server_load.py in small, and the proof that it would see what it looks for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_chat import save_chat_model

import server_load
from http_load.clients import Tally, alone, load
from http_load.jobs import make_jobs, streamed_answer, whole_answer
from http_load.processes import ServerError, ServerProcess, ostro_server
from http_load.pulse import Pulse, watched
from http_load.state import State, idle_state, state_of

KEY = "the-key-of-the-load-test"
OPTIONS = (
    "--api-key",
    KEY,
    "--threads",
    "1",
    "--kv-cache",
    "32MiB",
    "--embedding-model",
    "none",
    "--max-num-seqs",
    "8",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("load") / "tiny-chat")


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[ServerProcess]:
    with ostro_server(model, *OPTIONS) as server:
        yield server


def test_many_clients_that_come_and_go(server: ServerProcess) -> None:
    """64 clients: every answer is that of the same request alone, and everything is given back."""
    jobs = make_jobs(24, 1, longest=200)
    expected = asyncio.run(alone(server.address, KEY, jobs))
    before = idle_state(server, KEY)
    with watched(server.address) as pulse:
        tally = asyncio.run(load(server.address, KEY, jobs, expected, clients=64, seconds=4))
    after = idle_state(server, KEY)
    assert tally.wrong == []
    assert tally.failed == []
    assert tally.finished > 64
    assert tally.left > 0
    assert pulse.failures == 0
    assert pulse.milliseconds
    assert before.is_idle
    assert after.is_idle
    assert after.free_blocks + after.cached_blocks == before.free_blocks + before.cached_blocks


def test_a_wrong_answer_would_be_seen(server: ServerProcess) -> None:
    jobs = make_jobs(3, 2, longest=20, guided=False)
    expected = asyncio.run(alone(server.address, KEY, jobs))
    forged = {number: ((*answer[:-1], ("something else", "stop"))) for number, answer in expected.items()}
    tally = asyncio.run(load(server.address, KEY, jobs, forged, clients=2, seconds=0.2, leaving=0))
    assert tally.wrong
    assert tally.wrong[0][2] == expected[tally.wrong[0][0]]
    refused = asyncio.run(load(server.address, "another", jobs, expected, clients=1, seconds=0.1, leaving=0))
    assert set(refused.refused) == {401}
    assert refused.failed


def test_the_state_while_something_runs(server: ServerProcess) -> None:
    async def look() -> State:
        jobs = make_jobs(1, 3, longest=20, guided=False)
        jobs[0].body.update(max_tokens=3000, temperature=0, stream=False, n=1, stop=[])
        from http_load.clients import ask, client_for

        async with client_for(server.address, KEY, 1) as client:
            asking = asyncio.create_task(ask(client, jobs[0]))
            await asyncio.sleep(0.3)
            seen = await asyncio.to_thread(state_of, server, KEY)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        return seen

    seen = asyncio.run(look())
    assert not seen.is_idle
    assert seen.used_blocks > 0
    assert seen.resident_bytes > 1 << 20
    assert idle_state(server, KEY).is_idle


def test_answers_are_read_from_bodies_and_chunks() -> None:
    body: dict[str, Any] = {
        "choices": [
            {"index": 1, "message": {"content": "b"}, "finish_reason": "stop"},
            {"index": 0, "message": {"content": "a"}, "finish_reason": "length"},
        ]
    }
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 1, "delta": {"content": "b"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "length"}]},
        {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {}},
    ]
    assert whole_answer(body) == streamed_answer(chunks) == (("a", "length"), ("b", "stop"))


def test_a_server_that_does_not_come_up(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="did not come up"), ostro_server(tmp_path / "nothing"):
        pass


def test_the_report_has_the_numbers() -> None:
    options = server_load.arguments(["model", "--minutes", "1", "--clients", "3"])
    pulse = Pulse([1.0] * 98 + [50.0, 150.0], failures=2)
    tally = Tally(finished=1234, left=5, refused=Counter({429: 2}), failed=["x"], wrong=[(0, (), ())])
    state = State(0, 0, 0, 1, 2, 1_000_000)
    text = "\n".join(server_load.report(options, tally, pulse, state, state))
    for words in (
        "1,234, of which 1 differ",
        "2 x 429",
        "longest 150.0 ms; 1 above 100 ms, 2 failed",
        "+0.0 MB",
        "- failed: x",
    ):
        assert words in text
