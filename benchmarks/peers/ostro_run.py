"""ostro's own side: `ostro bench` in a process of its own, and what it prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.rows import CONTEXT, PROMPT, Command, PeerError, Rates

_PLACES = {
    "prefill": ("prefill_tokens_per_s", str(PROMPT)),
    "decode": ("decode_tokens_per_s", "1"),
    "decode8": ("decode_tokens_per_s", "8"),
}
"""Where each row stands in the output."""
_TWIN = Path(__file__).with_name("dense_twin.py")


class Ostro:
    """ostro with packed weights. `reports` has the whole output of every measurement, in order."""

    def __init__(self, shape: str, layers: int, bits: int, threads: int) -> None:
        self.name = "ostro"
        self.setting = f"{bits} bits"
        self.rows: tuple[str, ...] = tuple(_PLACES)
        self.reports: list[dict[str, Any]] = []
        self._options = ("--layers", layers, "--bits", bits, "--threads", threads)
        self._shape = shape

    def measure(self, rows: Sequence[str]) -> Rates:
        """One process measures all rows."""
        report = parse(Command(self.name, self.command()).run())
        self.reports.append(report)
        return {row: report[key][size] for row, (key, size) in _PLACES.items() if row in rows}

    def command(self) -> tuple[str, ...]:
        """The command that measures all rows."""
        arguments = (
            "bench", "--shape", self._shape, *self._options, "--prefill", PROMPT, "--batch", "1,8",
            "--context", CONTEXT, "--json",
        )  # fmt: skip
        return (sys.executable, "-m", "ostro", *map(str, arguments))


class DenseTwin(Ostro):
    """ostro with the dense model that has as many weights as one token of the mixture of experts passes through."""

    def __init__(self, shape: str, layers: int, bits: int, threads: int) -> None:
        super().__init__(shape, layers, bits, threads)
        self.name = "ostro, dense"
        self.setting = f"the same active parameters, {bits} bits"
        self.rows = ("decode",)

    def command(self) -> tuple[str, ...]:
        """The command that measures its row."""
        return (sys.executable, str(_TWIN), self._shape, *map(str, self._options), "--context", str(CONTEXT))


def parse(output: str) -> dict[str, Any]:
    """The JSON object that `ostro bench --json` prints. PeerError where a key is missing that is needed here.

    >>> parse('{"decode_tokens_per_s": {"1": 5.2}}')
    Traceback (most recent call last):
    ...
    peers.rows.PeerError: ostro bench printed no prefill_tokens_per_s['512'].
    """
    start = output.find("{")
    if start < 0:
        raise PeerError(f"ostro bench printed no JSON but {output.strip()[-200:]!r}.")
    report: dict[str, Any] = json.loads(output[start:])
    if "dense" not in report:
        for key, size in _PLACES.values():
            if size not in report.get(key, {}):
                raise PeerError(f"ostro bench printed no {key}[{size!r}].")
    return report
