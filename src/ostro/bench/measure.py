"""One run of the benchmark: get a model ready, measure it and the machine, and report."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ostro import __version__
from ostro import machine as this_machine
from ostro.bench.memory import PeakMemory
from ostro.bench.report import CEILINGS, Ceiling, Point, Report
from ostro.bench.runs import Meter, Plan, Rates
from ostro.bench.subject import Machine, Subject, Tell, from_model, from_shape
from ostro.bench.work import Work, work_of
from ostro.config import ModelConfig
from ostro.ops.base import Ops

FIRST_PROMPT = 16
"""Tokens of the prompt whose first token is waited for."""
_DEFAULT = Plan(flexible=frozenset({"prefill", "context"}))
_LEAST_BUFFER = 1 << 28
_CEILING_SECONDS = 0.02  # for each of the three, each time: some passes, of which the best counts


def bench_shape(
    shape: str | ModelConfig,
    plan: Plan | None = None,
    *,
    num_layers: int | None = None,
    bits: int = 4,
    codebook: str | None = None,
    machine: Machine | None = None,
    tell: Tell | None = None,
) -> Report:
    """Measure a published shape (`shape_names`), or any configuration, with random weights of 4, 8 or 16 bits.

    `num_layers` cuts it to its first layers, between its own embeddings and output head. `tell` hears what is done.
    RequestError for an unknown shape, impossible layers, or what does not fit into memory.

        bench_shape("mistral-7b", num_layers=8).as_json()["decode_tokens_per_s"]["1"]
    """
    plan, tell = plan or _DEFAULT, tell or _silent
    peak = PeakMemory()
    machine = machine or Machine()
    subject = from_shape(shape, plan, machine, num_layers=num_layers, bits=bits, codebook=codebook, tell=tell)
    return _bench(subject, peak, tell)


def bench_model(
    path: Path,
    plan: Plan | None = None,
    *,
    name: str | None = None,
    machine: Machine | None = None,
    tell: Tell | None = None,
) -> Report:
    """Measure a model from its folder or GGUF file, under that `name`; the errors are those of `ostro.LLM`."""
    plan, tell = plan or _DEFAULT, tell or _silent
    peak = PeakMemory()
    return _bench(from_model(path, plan, machine or Machine(), name=name, tell=tell), peak, tell)


def _silent(_: str) -> None:
    pass


def _bench(subject: Subject, peak: PeakMemory, tell: Tell) -> Report:
    plan = subject.plan
    ceilings = _Ceilings(subject.ops, peak)
    meter = Meter(subject.engine, ceilings.look)
    first_token_seconds = meter.first_token_seconds(min(FIRST_PROMPT, plan.longest - 1))
    work = _work(subject)
    against: Ceiling = "int8_gops" if _has_integer_weights(subject) else "fma_gflops"
    prefill: list[Point] = []
    for length in plan.prefill:
        tell(f"Prefill of {length} tokens")
        rates, looks = ceilings.around(against, partial(meter.prefill, length, plan.seconds))
        prefill.append(Point(length, rates, _share(rates, looks, work.prefill_operations(length) / length)))
    decode: list[Point] = []
    for batch in plan.batch:
        tell(f"Decode, batch {batch}")
        rates, looks = ceilings.around("dram_gb_per_s", partial(meter.decode, batch, plan))
        decode.append(Point(batch, rates, _share(rates, looks, work.decode_bytes(batch, rates.context) / batch)))
    return Report(
        subject=_subject(subject),
        setup=_setup(subject),
        machine=_machine(),
        versions=_versions(),
        context=plan.context,
        prefill=tuple(prefill),
        decode=tuple(decode),
        weight_bytes=work.weight_bytes,
        kv_cache_bytes=subject.engine.kv_cache_bytes,
        peak_rss_bytes=peak.num_bytes,
        load_seconds=subject.seconds,
        first_token_seconds=first_token_seconds,
        ceiling_looks=ceilings.looks,
        prefill_ceiling=against,
    )


class _Ceilings:
    """Many short looks at the machine, between the runs: what it can do changes while others use it, or a host moves
    a virtual machine from core to core."""

    def __init__(self, ops: Ops, peak: PeakMemory) -> None:
        self.looks: dict[Ceiling, tuple[float, ...]] = {}
        self._num_threads = getattr(ops, "num_threads", None) if ops.name == "cpu" else None
        self._peak = peak

    def look(self) -> None:
        """Look once more, if the backend is the one whose ceilings these are."""
        if self._num_threads is None:
            return
        from ostro.ops.cpu import ceilings

        buffer_bytes = max(_LEAST_BUFFER, 8 * (this_machine.largest_cache() or 0))
        buffer_bytes = max(1 << 26, min(buffer_bytes, this_machine.available_memory() // 4))
        with self._peak.paused():
            found = ceilings(self._num_threads, buffer_bytes=buffer_bytes, seconds=_CEILING_SECONDS)
        self.looks = {name: (*self.looks.get(name, ()), found[name]) for name in CEILINGS}

    def around(self, ceiling: Ceiling, measure: Callable[[], Rates]) -> tuple[Rates, tuple[float, ...]]:
        """What was measured, and the looks at a ceiling that were taken meanwhile."""
        before = len(self.looks.get(ceiling, ()))
        rates = measure()
        return rates, self.looks.get(ceiling, ())[before:]


def _share(rates: Rates, looks: Sequence[float], work_per_token: float) -> float | None:
    """The part of the ceiling that the runs came to, `work_per_token` being bytes or operations; None without looks.

    Each block is held against the looks before and after it; the block in the middle speaks for all.
    """
    if not looks:
        return None
    ceilings = [(before + after) / 2 * 1e9 for before, after in pairwise(looks)]
    shares = [rate * work_per_token / ceiling for rate, ceiling in zip(rates.block_medians, ceilings, strict=True)]
    return float(np.median(shares))


def _work(subject: Subject) -> Work:
    engine = subject.engine
    tokens = engine.sizes.num_blocks * engine.engine_config.block_size
    return work_of(subject.config, subject.weights, engine.kv_cache_bytes / tokens)


def _has_integer_weights(subject: Subject) -> bool:
    """Whether the cpu backend multiplies the layers' weights as integers: packed ones."""
    kind = getattr(subject.weights.layers[0].o_proj, "kind", "")
    return str(kind).startswith("P")


def _subject(subject: Subject) -> dict[str, Any]:
    config = subject.config
    return {
        "model": subject.name,
        "num_layers": config.num_hidden_layers,
        "num_layers_of_model": subject.num_layers_of_model,
        "bits": subject.bits,
        "codebook": subject.codebook,
        "num_parameters": config.num_parameters(),
        "num_active_parameters": config.num_parameters(active=True),
    }


def _setup(subject: Subject) -> dict[str, Any]:
    ops = subject.ops
    return {
        "backend": ops.name,
        "isa": getattr(ops, "isa", None),
        "threads": getattr(ops, "num_threads", None),
        "kv_dtype": subject.kv_dtype,
    }


def _machine() -> dict[str, Any]:
    return {
        "cpu": this_machine.cpu_model(),
        "physical_cores": this_machine.physical_cores(),
        "usable_cpus": this_machine.affinity_count(),
        "memory_bytes": this_machine.memory().total,
        "system": platform.platform(),
    }


def _versions() -> Mapping[str, str]:
    return {"ostro": __version__, "python": platform.python_version(), "numpy": metadata.version("numpy")}
