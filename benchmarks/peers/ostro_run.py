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
_KEYS = ("prefill_tokens_per_s", "decode_tokens_per_s")
SECONDS = 6
"""Of each measurement, about."""
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
        """One process measures the rows."""
        report = parse(Command(self.name, self.command(rows)).run(), rows)
        self.reports.append(report)
        return {row: report[key][size] for row, (key, size) in _PLACES.items() if row in rows}

    def command(self, rows: Sequence[str]) -> tuple[str, ...]:
        """The command that measures the rows."""
        sizes = {key: [size for row, (k, size) in _PLACES.items() if k == key and row in rows] for key in _KEYS}
        prefill, batch = (",".join(sizes[key]) or "none" for key in _KEYS)
        arguments = (
            "bench", "--shape", self._shape, *self._options, "--prefill", prefill, "--batch", batch,
            "--context", CONTEXT, "--seconds", SECONDS, "--json",
        )  # fmt: skip
        return (sys.executable, "-m", "ostro", *map(str, arguments))


class DenseTwin(Ostro):
    """ostro with the dense model that has as many weights as one token of the mixture of experts passes through."""

    def __init__(self, shape: str, layers: int, bits: int, threads: int) -> None:
        super().__init__(shape, layers, bits, threads)
        self.name = "ostro, dense"
        self.setting = f"the same active parameters, {bits} bits"
        self.rows = ("decode",)

    def command(self, rows: Sequence[str]) -> tuple[str, ...]:
        """The command that measures its row."""
        assert tuple(rows) == self.rows
        return (sys.executable, str(_TWIN), self._shape, *map(str, self._options), "--context", str(CONTEXT))


def parse(output: str, rows: Sequence[str]) -> dict[str, Any]:
    """The JSON object that `ostro bench --json` prints. PeerError where a row is missing in it.

    >>> parse('{"decode_tokens_per_s": {"1": 5.2}}', ["prefill"])
    Traceback (most recent call last):
    ...
    peers.rows.PeerError: ostro bench printed no prefill_tokens_per_s['512'].
    """
    start = output.find("{")
    if start < 0:
        raise PeerError(f"ostro bench printed no JSON but {output.strip()[-200:]!r}.")
    report: dict[str, Any] = json.loads(output[start:])
    for key, size in (_PLACES[row] for row in rows):
        if size not in report.get(key, {}):
            raise PeerError(f"ostro bench printed no {key}[{size!r}].")
    return report
