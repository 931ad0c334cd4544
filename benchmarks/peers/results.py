"""`Results`: everything that one run found, kept as JSON so that the table can be written again."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peers.alternate import Session

_SAME_STATE = 0.1
"""How far apart the ceilings around two runs may be that are compared."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An engine in a setting: `once` has a value for each row from the survey, `rounds` those of the rounds, and
    `looks` the machine's ceilings around each of these."""

    engine: str
    setting: str
    once: dict[str, float] = field(default_factory=dict)
    rounds: dict[str, list[float]] = field(default_factory=dict)
    looks: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def relative(self, row: str, ceiling: str) -> float | None:
        """The median over the rounds of the rate over the ceiling (in 10^9 a second) that was measured around it."""
        pairs = zip(self.rounds.get(row, []), self.looks.get(row, []), strict=False)
        found = [rate / (look[ceiling] * 1e9) for rate, look in pairs if look.get(ceiling)]
        return statistics.median(found) if found else None

    def times_as_fast(self, row: str, other: Entry, other_row: str, ceiling: str) -> float | None:
        """The median ratio of this rate to another over the pairs of runs that met the machine in the same state.

        A virtual machine's ceilings change within a minute, and an engine's share of them changes with them, so runs
        are compared where the ceilings around them differ by less than a tenth; None where no two do.
        """
        found = [
            rate / theirs
            for rate, look in zip(self.rounds.get(row, []), self.looks.get(row, []), strict=False)
            for theirs, seen in zip(other.rounds.get(other_row, []), other.looks.get(other_row, []), strict=False)
            if look.get(ceiling) and seen.get(ceiling) and abs(look[ceiling] / seen[ceiling] - 1) < _SAME_STATE
        ]
        return statistics.median(found) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """One run. `decode_bytes` are what a step of batch 1 must read, by the type of a file's layers;
    `prefill_operations` what the matrices of a prompt need; `reports` is what `ostro bench` printed in every round.
    """

    shape: str
    layers: int
    all_layers: int
    threads: int
    repeats: int
    date: str
    command: str
    minutes: float
    load: float
    machine: dict[str, Any]
    versions: dict[str, str]
    decode_bytes: dict[str, float]
    prefill_operations: float
    entries: list[Entry]
    notes: list[str]
    reports: list[dict[str, Any]]

    def save(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load_from(cls, path: Path) -> Results:
        """What `save` wrote."""
        stated = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**stated, "entries": [Entry(**entry) for entry in stated["entries"]]})

    def best(self, engine: str, row: str) -> Entry | None:
        """The setting with the highest median in the rounds; None where the row was not measured."""
        found = [entry for entry in self.entries if entry.engine == engine and entry.rounds.get(row)]
        return max(found, key=lambda entry: statistics.median(entry.rounds[row]), default=None)

    def median(self, engine: str, row: str) -> float | None:
        """Of the best setting."""
        entry = self.best(engine, row)
        return None if entry is None else statistics.median(entry.rounds[row])

    def ceiling(self, name: str) -> float | None:
        """The median of a ceiling over the rounds, e.g. `dram_gb_per_s`."""
        values = [report[name] for report in self.reports if report.get(name)]
        return statistics.median(values) if values else None

    def own_share(self, key: str, size: int) -> float | None:
        """The median of what `ostro bench` says a row comes to, of the ceiling measured in the same round."""
        values = [report.get(key, {}).get(str(size)) for report in self.reports]
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None


def entries_of(session: Session) -> list[Entry]:
    """The entries of a session: what was measured in the rounds alone, then the others in the order of the survey."""
    keys = [*(key for key in session.samples if key not in session.surveyed), *session.surveyed]
    return [
        Entry(*key, session.surveyed.get(key, {}), session.samples.get(key, {}), session.looks.get(key, {}))
        for key in keys
    ]


def spread(values: Sequence[float]) -> str:
    """Median, and the lowest and highest value.

    >>> spread([5.0, 5.25, 4.5])
    '5.00 (4.50 to 5.25)'
    """
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
