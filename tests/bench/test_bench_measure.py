"""Whole runs on a tiny shape and a tiny checkpoint: what is reported, and what is refused. No time is judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_bench import quick_ceilings, tiny_mixture, tiny_shape

from ostro.bench import Machine, Plan, Point, bench_model, bench_shape
from ostro.bench import measure as measured
from ostro.bench.memory import PeakMemory
from ostro.bench.runs import Rates
from ostro.bench.work import Part, Work
from ostro.errors import BackendError, RequestError
from ostro.log import logger

PLAN = Plan(prefill=(4, 30), batch=(1, 2), context=8, seconds=1e-9)
KEYS = {
    "model", "num_layers", "num_layers_of_model", "bits", "codebook", "num_parameters", "num_active_parameters",
    "backend", "isa", "threads", "kv_dtype", "prefill_tokens_per_s", "decode_tokens_per_s", "decode_context",
    "prefill_share", "prefill_share_of", "decode_share", "decode_share_of", "runs", "weight_bytes", "kv_cache_bytes",
    "peak_rss_bytes", "beyond_bytes", "load_seconds", "first_token_seconds", "dram_gb_per_s", "int8_gops",
    "fma_gflops", "ceiling_looks", "machine", "versions",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_ceilings(monkeypatch)


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_a_shape_on_the_cpu(bits: int) -> None:
    pytest.importorskip("ostro._native")
    report = bench_shape(tiny_shape(), PLAN, num_layers=2, bits=bits, machine=Machine(num_threads=2))
    found = json.loads(json.dumps(report.as_json()))
    assert set(found) == KEYS
    assert (found["num_layers"], found["num_layers_of_model"]) == (2, 3)
    assert (found["bits"], found["codebook"]) == (bits, "int4" if bits == 4 else None)
    assert (found["backend"], found["threads"]) == ("cpu", 2)
    assert found["kv_dtype"] == ("bfloat16" if bits == 16 else "float16")
    assert list(found["prefill_tokens_per_s"]) == ["4", "30"]
    assert list(found["decode_tokens_per_s"]) == ["1", "2"]
    assert found["prefill_share_of"] == ("fma_gflops" if bits == 16 else "int8_gops")
    assert found["runs"]["decode"]["2"]["count"] >= 1
    for name in ("dram_gb_per_s", "int8_gops", "fma_gflops", "load_seconds", "first_token_seconds"):
        assert found[name] > 0
    assert found["peak_rss_bytes"] == found["weight_bytes"] + found["kv_cache_bytes"] + found["beyond_bytes"]


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert [key for key in sorted(KEYS) if f"`{key}`" not in text] == []


def test_a_mixture_tells_its_active_parameters() -> None:
    config = tiny_mixture()
    found = bench_shape(config, PLAN).as_json()
    assert found["num_parameters"] == config.num_parameters()
    assert found["num_active_parameters"] == config.num_parameters(active=True) < found["num_parameters"]


def test_other_backends_have_no_ceilings() -> None:
    report = bench_shape(tiny_shape(), PLAN, bits=4, machine=Machine(backend="reference"))
    found = report.as_json()
    assert (found["backend"], found["isa"], found["threads"]) == ("reference", None, None)
    assert found["dram_gb_per_s"] is None
    assert found["ceiling_looks"] == {}
    assert set(found["decode_share"].values()) == {None}
    assert min(found["prefill_tokens_per_s"].values()) > 0


def test_torch_runs_it_too() -> None:
    found = bench_shape(tiny_shape(), PLAN, bits=16, machine=Machine(backend="torch", device="cpu")).as_json()
    assert (found["backend"], found["kv_dtype"]) == ("torch", "bfloat16")
    assert min(found["decode_tokens_per_s"].values()) > 0


@pytest.mark.parametrize("variant", ["mixtral", "mistral-7b-v0.1"])
def test_a_model_from_its_files(variant: str, tiny_checkpoint: Callable[[str], Path]) -> None:
    heard: list[str] = []
    report = bench_model(tiny_checkpoint(variant), PLAN, tell=heard.append)
    found = report.as_json()
    assert found["model"] == variant
    assert (found["bits"], found["kv_dtype"]) == (None, "float32")
    assert found["prefill_share_of"] == "fma_gflops"
    assert heard[0] == "Loading the model"
    assert "Prefill of 30 tokens" in heard
    assert "Decode, batch 2" in heard


def test_shares_are_what_the_numbers_say() -> None:
    work = Work(
        layers=Part(500_000, 300_000), experts=Part(0, 0), head=Part(100_000, 60_000), embedding_bytes=0,
        num_experts=0, experts_per_token=0, kv_bytes=((100.0, None),),
    )  # fmt: skip
    rates = Rates((90.0, 100.0, 400.0), 50.0, (3,))
    # 100 tokens/s are 25 steps of 4 answers, each of 360,000 bytes of weights and 4 times 50 tokens of K/V.
    decoded = measured._share(rates, (1.0, 3.0), work.decode_bytes(4, rates.context) / 4)
    assert decoded == pytest.approx(25 * (360_000 + 4 * 5000) / 2e9)
    # ... and 10 prompts of 10 tokens, each of 2 * (10 * 500,000 + 100,000) operations.
    prefilled = measured._share(rates, (2.0, 2.0), work.prefill_operations(10) / 10)
    assert prefilled == pytest.approx(10 * 2 * 5_100_000 / 2e9)
    assert measured._share(rates, (), 1.0) is None
    assert Point(4, rates, 0.25).ceiling == pytest.approx(400)
    assert Point(4, rates, None).ceiling is None


def test_each_block_is_held_against_the_looks_around_it() -> None:
    """A machine that is half as fast for a while: the rates fall, the share does not."""
    rates = Rates((10.0, 11.0, 9.0, 5.0, 4.0, 6.0, 10.0), 50.0, (3, 3, 1))
    assert rates.block_medians == [10.0, 5.0, 10.0]
    assert measured._share(rates, (20.0, 20.0, 0.0, 20.0), 1e9) == pytest.approx(0.5)
    assert measured._share(rates, (20.0, 20.0, 20.0, 20.0), 1e9) == pytest.approx(0.5)
    assert measured._share(rates, (40.0, 0.0, 20.0, 40.0), 1e9) == pytest.approx(0.5)


def test_ceilings_are_the_middle_of_the_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ostro._native")
    monkeypatch.setattr("ostro.bench.runs._BLOCK_SECONDS", 1e9)  # a look before each measurement, and one after it
    assert (len(PLAN.prefill), len(PLAN.batch)) == (2, 2)
    looks = iter([(3.0, 1.0, 5.0), (1.0, 7.0, 5.0), (2.0, 2.0, 2.0), (2.0, 2.0, 5.0)] * 2)

    def ceilings(num_threads: int, *, buffer_bytes: int, seconds: float) -> dict[str, float]:
        assert num_threads == 1
        return dict(zip(("dram_gb_per_s", "int8_gops", "fma_gflops"), next(looks), strict=True))

    monkeypatch.setattr("ostro.ops.cpu.ceilings", ceilings)
    report = bench_shape(tiny_shape(), PLAN, machine=Machine(num_threads=1))
    assert report.ceilings == {"dram_gb_per_s": 2.0, "int8_gops": 2.0, "fma_gflops": 5.0}
    assert report.as_json()["ceiling_looks"]["int8_gops"] == [1.0, 7.0, 2.0, 2.0] * 2
    assert report.was_disturbed
    assert not replace(report, ceiling_looks={"int8_gops": (9.0, 10.0)}).was_disturbed
    assert not replace(report, ceiling_looks={}).was_disturbed
    assert next(looks, None) is None


def test_what_does_not_fit_into_memory_is_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostro.bench.subject.available_memory", lambda: 10_000_000_000)
    with pytest.raises(
        RequestError, match=r"take[s] 25\.\d GB for weights.*10\.0 GB.*available: give layers=12"
    ) as caught:
        bench_shape("mixtral-8x7b", PLAN)
    assert caught.value.param == "layers"
    with pytest.raises(RequestError, match=r"layers=20 or less, or bits=4, or bits=8\."):
        bench_shape("mistral-7b", PLAN, bits=16)
    with pytest.raises(RequestError, match=r"give a smaller shape\."):
        bench_shape("llama-3.1-405b", PLAN, bits=16)


def test_the_layers_that_are_named_do_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny_shape(hidden_size=1024, intermediate_size=4096)
    monkeypatch.setattr("ostro.bench.subject._WORKING_MEMORY", 0)
    monkeypatch.setattr("ostro.bench.subject.available_memory", lambda: 20_000_000)
    with pytest.raises(RequestError, match="layers=2 or less"):
        bench_shape(whole, PLAN)
    assert bench_shape(whole, PLAN, num_layers=2).weight_bytes < 20_000_000


def test_files_larger_than_memory_are_told(
    tiny_checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ostro.bench.subject.available_memory", lambda: 10)
    monkeypatch.setattr(logger, "propagate", True)
    bench_model(tiny_checkpoint("llama-3.2"), PLAN)
    assert "may be the disk" in caplog.text


def test_texts_beyond_the_context_are_refused(tiny_checkpoint: Callable[[str], Path]) -> None:
    for plan in (Plan(prefill=(600,)), replace(PLAN, context=500)):
        with pytest.raises(RequestError, match="does not fit into the context of custom, 512 tokens"):
            bench_shape(tiny_shape(), plan)
    with pytest.raises(RequestError, match=r"context of llama-3\.1, 256 tokens"):
        bench_model(tiny_checkpoint("llama-3.1"), Plan(prefill=(300,), batch=()))


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (Machine(backend="gpu"), "no backend"),
        (Machine(backend="torch", num_threads=2), "no option num_threads"),
        (Machine(backend="reference", device="cuda"), "no option device"),
    ],
)
def test_a_machine_that_is_not_there(machine: Machine, message: str) -> None:
    with pytest.raises(BackendError, match=message):
        bench_shape(tiny_shape(), PLAN, machine=machine)


def test_an_unknown_type_of_the_cache_is_refused() -> None:
    with pytest.raises(RequestError, match="kv_dtype must be"):
        bench_shape(tiny_shape(), PLAN, machine=Machine(kv_dtype="int3"))


def test_a_pause_hides_what_is_given_back_within() -> None:
    """100 MB inside a pause are not seen, 100 MB outside are."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux forgets a peak")
    peak = PeakMemory()
    before = peak.num_bytes
    with peak.paused():
        bytearray(100_000_000).count(1)
    assert peak.num_bytes < before + 50_000_000
    bytearray(100_000_000).count(1)
    assert peak.num_bytes > before + 50_000_000


def test_any_error_of_a_request_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> int:
        raise RequestError("no token can be chosen")

    monkeypatch.setattr("ostro.engine.sampler.choose", fail)
    with pytest.raises(RequestError, match="no token can be chosen"):
        bench_shape(tiny_shape(), PLAN)
