"""`Report`: what was measured, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ostro.bench.runs import Rates

Ceiling: TypeAlias = Literal["dram_gb_per_s", "int8_gops", "fma_gflops"]

CEILINGS: Mapping[Ceiling, tuple[str, str]] = {
    "dram_gb_per_s": ("DRAM", "GB/s"),
    "int8_gops": ("int8", "GOPS"),
    "fma_gflops": ("float32", "GFLOPS"),
}
"""What each ceiling is one of, and its unit."""


@dataclass(frozen=True, slots=True)
class Point:
    """Tokens per second: of a prompt of `size` tokens, or of `size` answers together.

    `share` is the part of the machine's ceiling, as it was at the time, that this comes to; None where the ceiling was
    not measured.
    """

    size: int
    rates: Rates
    share: float | None

    @property
    def ceiling(self) -> float | None:
        """Tokens per second at the ceiling."""
        return self.rates.median / self.share if self.share else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of one run.

    `subject` says what was run (name, layers, bits, parameters, ...), `setup` how (backend, isa, threads, ...),
    `machine` and `versions` on what. `kv_cache_bytes` is the pool of K/V, which is just as large as the run needs.
    `load_seconds` is the time to load a model, or to make the weights of a shape; `first_token_seconds` that from a
    first short prompt to its first token. `ceiling_looks` are the ceilings as they were found before, between and after
    the runs, nothing where the backend is not the cpu's; `prefill_ceiling` is the one that prompts are held
    against: int8 for packed weights, else float32.
    """

    subject: Mapping[str, Any]
    setup: Mapping[str, Any]
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    context: int
    prefill: tuple[Point, ...]
    decode: tuple[Point, ...]
    weight_bytes: int
    kv_cache_bytes: int
    peak_rss_bytes: int
    load_seconds: float
    first_token_seconds: float
    ceiling_looks: Mapping[Ceiling, tuple[float, ...]]
    prefill_ceiling: Ceiling

    @property
    def ceilings(self) -> dict[Ceiling, float]:
        """The look in the middle at each, as the rates are the runs in the middle."""
        return {name: float(np.median(looks)) for name, looks in self.ceiling_looks.items()}

    @property
    def was_disturbed(self) -> bool:
        """Whether a ceiling was a fifth lower than at other times for a tenth of the looks or more."""
        return any(np.percentile(looks, 10) < 0.8 * np.percentile(looks, 90) for looks in self.ceiling_looks.values())

    @property
    def beyond_bytes(self) -> int:
        """What was resident beyond weights and K/V at the peak."""
        return self.peak_rss_bytes - self.weight_bytes - self.kv_cache_bytes

    def as_json(self) -> dict[str, Any]:
        """One object of plain numbers and strings."""
        return {
            **self.subject,
            **self.setup,
            "prefill_tokens_per_s": _medians(self.prefill),
            "decode_tokens_per_s": _medians(self.decode),
            "decode_context": self.context,
            "prefill_share": {str(point.size): point.share for point in self.prefill},
            "prefill_share_of": self.prefill_ceiling,
            "decode_share": {str(point.size): point.share for point in self.decode},
            "decode_share_of": "dram_gb_per_s",
            "runs": {"prefill": _runs(self.prefill), "decode": _runs(self.decode)},
            "weight_bytes": self.weight_bytes,
            "kv_cache_bytes": self.kv_cache_bytes,
            "peak_rss_bytes": self.peak_rss_bytes,
            "beyond_bytes": self.beyond_bytes,
            "load_seconds": self.load_seconds,
            "first_token_seconds": self.first_token_seconds,
            **{name: self.ceilings.get(name) for name in CEILINGS},
            "ceiling_looks": {name: list(looks) for name, looks in self.ceiling_looks.items()},
            "machine": dict(self.machine),
            "versions": dict(self.versions),
        }


def _medians(points: tuple[Point, ...]) -> dict[str, float]:
    return {str(point.size): point.rates.median for point in points}


def _runs(points: tuple[Point, ...]) -> dict[str, dict[str, float]]:
    """How many runs, and the bounds of the middle half of them."""
    return {
        str(point.size): dict(
            zip(("count", "low", "high"), (len(point.rates.values), *point.rates.middle_half), strict=True)
        )
        for point in points
    }
