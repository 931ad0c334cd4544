"""What is measured, and what measures it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

PROMPT = 512
"""Tokens of the prompt whose prefill is measured."""
CONTEXT = 128
"""Tokens before the first token that a decode measurement makes: what `ostro bench` has by default."""
NEW_TOKENS = 64
"""Tokens that a decode measurement makes for each answer."""

ROWS = {"prefill": f"prefill, {PROMPT} tokens", "decode": "decode, batch 1", "decode8": "decode, batch 8"}
"""The rows by their keys; every value is in tokens per second, of all answers together."""

Rates = dict[str, float]


class PeerError(Exception):
    """An engine cannot be built or run; the message says which, why, and what to do."""


class Engine(Protocol):
    """One engine in one setting."""

    @property
    def name(self) -> str:
        """The engine, e.g. llama.cpp."""

    @property
    def setting(self) -> str:
        """What tells it from the engine's other settings, e.g. Q4_0, repacked."""

    @property
    def rows(self) -> tuple[str, ...]:
        """The rows that it can measure."""

    def measure(self, rows: Sequence[str]) -> Rates:
        """Tokens per second of some of its rows, measured once. PeerError where it fails."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that prints what it measured on its standard output."""

    name: str
    arguments: tuple[str, ...]
    timeout: float = 3600.0

    def run(self) -> str:
        """Its standard output. PeerError with the end of its error output where it fails."""
        try:
            done = subprocess.run(self.arguments, capture_output=True, text=True, timeout=self.timeout, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PeerError(f"{self.name}: {error}") from error
        if done.returncode:
            last = " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
            raise PeerError(f"{self.name} ended with status {done.returncode}: {last or 'it printed nothing'}")
        return done.stdout
