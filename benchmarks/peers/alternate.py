"""The order of the measurements: every setting once, then the best ones in rounds, all engines in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from peers.rows import ROWS, Engine, PeerError, Rates

Key: TypeAlias = tuple[str, str]
"""Engine and setting."""
Samples: TypeAlias = dict[Key, dict[str, list[float]]]
"""The values of every row, in the order of the rounds."""
Say: TypeAlias = Callable[[str], None]


def key_of(engine: Engine) -> Key:
    """What the results of an engine in its setting stand under."""
    return engine.name, engine.setting


Looks: TypeAlias = dict[Key, dict[str, list[dict[str, float]]]]
"""What the machine could do at the time of each of the samples, by the names of `ostro.ops.cpu.ceilings`."""


class Session:
    """Measures engines and keeps what was found: `surveyed` once each, `samples` of the rounds, `notes` of failures.

    `look` measures the machine's ceilings, before and after every measurement of the rounds; the mean goes to `looks`.
    """

    def __init__(self, say: Say, look: Callable[[], dict[str, float]] = dict) -> None:
        self.surveyed: dict[Key, Rates] = {}
        self.samples: Samples = {}
        self.looks: Looks = {}
        self.notes: list[str] = []
        self._say = say
        self._look = look

    def survey(self, engines: Iterable[Engine]) -> None:
        """Measure each once. What fails is noted and takes no further part."""
        for engine in engines:
            rates = self._measure(engine, engine.rows)
            if rates:
                self.surveyed[key_of(engine)] = rates

    def rounds(self, engines: Iterable[Engine], wanted: Mapping[Key, tuple[str, ...]], repeats: int) -> None:
        """Measure the wanted rows of every engine in turn, `repeats` times."""
        running = [engine for engine in engines if wanted.get(key_of(engine))]
        for number in range(1, repeats + 1):
            self._say(f"round {number} of {repeats}")
            for row in ROWS:
                for engine in running:
                    if row in wanted[key_of(engine)]:
                        self._sample(engine, row)

    def _sample(self, engine: Engine, row: str) -> None:
        """One row of one engine, and what the machine could do before and after."""
        before = self._look()
        rates = self._measure(engine, (row,))
        after = self._look()
        if row in rates:
            self.samples.setdefault(key_of(engine), {}).setdefault(row, []).append(rates[row])
            looks = self.looks.setdefault(key_of(engine), {}).setdefault(row, [])
            looks.append({name: (before[name] + after[name]) / 2 for name in before})

    def _measure(self, engine: Engine, rows: tuple[str, ...]) -> Rates:
        start = time.monotonic()
        try:
            rates = engine.measure(rows)
        except PeerError as error:
            note = f"{engine.name} ({engine.setting}): {error}"
            self._say(f"  left out: {note}")
            if note not in self.notes:
                self.notes.append(note)
            return {}
        numbers = ", ".join(f"{ROWS[row]} {value:.2f}" for row, value in rates.items())
        self._say(f"  {engine.name}, {engine.setting}: {numbers} tokens/s ({time.monotonic() - start:.0f} s)")
        return rates


def finalists(surveyed: Mapping[Key, Rates], count: int) -> dict[Key, tuple[str, ...]]:
    """For every engine and row the `count` best settings: which rows of which settings go into the rounds.

    >>> finalists({("a", "x"): {"decode": 1.0}, ("a", "y"): {"decode": 2.0}}, 1)
    {('a', 'y'): ('decode',)}
    """
    chosen: dict[Key, tuple[str, ...]] = {}
    for row in ROWS:
        for name in dict.fromkeys(name for name, _ in surveyed):
            keys = [key for key, rates in surveyed.items() if key[0] == name and row in rates]
            for key in sorted(keys, key=lambda key: -surveyed[key][row])[:count]:
                chosen[key] = (*chosen.get(key, ()), row)
    return chosen
