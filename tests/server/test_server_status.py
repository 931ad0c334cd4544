"""/health and /metrics, before, during and after the work of a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from served import answer, greedy, load, run

from ostro.errors import ContextLengthError, EngineError
from ostro.server.models import Models
from ostro.server.routes_status import status_router
from ostro.server.service import ModelService

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
def models(tiny_checkpoint: Callable[[str], Path]) -> Models:
    return Models.of([ModelService(load(tiny_checkpoint("mistral-7b-v0.3"), max_num_seqs=2), "tiny")])


def client(models: Models) -> httpx.AsyncClient:
    app = FastAPI()
    app.include_router(status_router(models))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def samples(http: httpx.AsyncClient) -> Samples:
    response = await http.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_requests_are_counted_and_timed(models: Models) -> None:
    async def work() -> None:
        service = await models.get()
        async with client(models) as http:
            await answer(service, list(range(3, 40)), greedy(5, n=2))
            again = await answer(service, list(range(3, 40)), greedy(4))
            with pytest.raises(ContextLengthError):
                await service.submit([1] * 300, greedy(4))
            found = await samples(http)
            await models.close()
        assert found["ostro_answers_total", ("length", "tiny")] == 3
        assert found["ostro_prompt_tokens_total", ("tiny",)] == 2 * 37
        assert found["ostro_cached_prompt_tokens_total", ("tiny",)] == again.num_cached_tokens == 32
        assert found["ostro_generated_tokens_total", ("tiny",)] == 14
        assert found["ostro_requests_refused_total", ("ContextLengthError", "tiny")] == 1
        for name in ("queue", "time_to_first_token", "time_per_output_token", "request"):
            assert found[f"ostro_{name}_seconds_count", ("tiny",)] == 2
        assert found["ostro_sequences_running", ("tiny",)] == found["ostro_sequences_waiting", ("tiny",)] == 0
        assert found["ostro_kv_blocks", ("tiny", "cached")] > 0
        assert found["ostro_model_bytes", ("tiny",)] == models_bytes(service)
        assert found["ostro_preemptions_total", ("tiny",)] == 0

    run(work())


def models_bytes(service: ModelService) -> int:
    return service.llm.weight_bytes + service.llm.kv_cache_bytes


def test_what_runs_and_waits_is_seen_while_a_step_is_taken(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither route waits for the engine."""
    import threading

    engine = models.services[0].llm.shared.engine
    forward = engine._runner.forward
    go_on, began = threading.Event(), threading.Event()

    def halting(batch: Any) -> Any:
        began.set()
        assert go_on.wait(60)
        return forward(batch)

    monkeypatch.setattr(engine._runner, "forward", halting)

    async def work() -> None:
        service = await models.get()
        tasks = [asyncio.create_task(answer(service, [1, 5, 9], greedy(3))) for _ in range(3)]
        await asyncio.to_thread(began.wait)
        async with client(models) as http:
            assert (await http.get("/health")).json() == {"status": "ok"}
            found = await samples(http)
            assert found["ostro_sequences_running", ("tiny",)] + found["ostro_sequences_waiting", ("tiny",)] >= 1
            assert found["ostro_kv_blocks", ("tiny", "used")] >= 1
        go_on.set()
        await asyncio.gather(*tasks)
        await models.close()

    run(work())


def test_health_tells_failure_recovery_and_the_end(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        service = await models.get()
        async with client(models) as http:
            with monkeypatch.context() as patch:
                patch.setattr(service.llm.shared.engine.scheduler, "schedule", None)
                with pytest.raises(EngineError):
                    await answer(service, [1, 5, 9], greedy(3))
            failed = await http.get("/health")
            assert (failed.status_code, failed.json()) == (503, {"status": "failed"})
            assert (await samples(http))["ostro_requests_failed_total", ("EngineError", "tiny")] == 1
            await answer(service, [1, 5, 9], greedy(3))
            assert (await http.get("/health")).status_code == 200
            await models.close()
            stopping = await http.get("/health")
            assert (stopping.status_code, stopping.json()) == (503, {"status": "stopping"})

    run(work())
