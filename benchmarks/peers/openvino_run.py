"""OpenVINO GenAI, which reads the same GGUF files; it is installed into an environment of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers.llama_build import installed, virtual_environment
from peers.rows import CONTEXT, NEW_TOKENS, PROMPT, Command, PeerError, Rates

PACKAGE = "openvino-genai"
KINDS = ("Q4_0", "Q4_1", "Q4_K")
"""The 4-bit types that it reads and keeps in 4 bits."""
_WORKER = Path(__file__).with_name("openvino_worker.py")
_SETTINGS: dict[str, dict[str, str]] = {
    "": {},
    "activations in groups of 128": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "128"},
    "SDPA": {"ATTENTION_BACKEND": "SDPA"},
}


@dataclass(frozen=True, slots=True)
class OpenVino:
    """OpenVINO GenAI with one file in one setting; `properties` are the CPU device's and the pipeline's."""

    python: Path
    model: Path
    kind: str
    threads: int
    vocab: int
    label: str = ""
    properties: dict[str, str] = field(default_factory=dict)
    name: str = "OpenVINO GenAI"
    rows: tuple[str, ...] = ("prefill", "decode", "decode8")

    @property
    def setting(self) -> str:
        """As the table shows it."""
        return f"{self.kind}, {self.label}" if self.label else self.kind

    def measure(self, rows: Sequence[str]) -> Rates:
        """One process for all rows: loading takes long."""
        found = parse(Command(self.name, self.command(rows)).run())
        return {row: float(found[row]) for row in rows}

    def command(self, rows: Sequence[str]) -> tuple[str, ...]:
        """The command that measures the rows."""
        numbers = {"threads": self.threads, "prompt": PROMPT, "context": CONTEXT, "vocab": self.vocab}
        options = [part for name, value in numbers.items() for part in (f"--{name}", str(value))]
        return (
            str(self.python), str(_WORKER), str(self.model), *options, "--new-tokens", str(NEW_TOKENS),
            "--properties", json.dumps(self.properties), "--rows", *rows,
        )  # fmt: skip


def openvino_settings(python: Path, models: dict[str, Path], threads: int, vocab: int) -> Iterator[OpenVino]:
    """Every setting that is tried."""
    for kind, model in models.items():
        if kind in KINDS:
            for label, properties in _SETTINGS.items():
                yield OpenVino(python, model, kind, threads, vocab, label, properties)


def install(work: Path, say: Callable[[str], None]) -> Path:
    """The interpreter of an environment below `work` that has the package. PeerError where it does not install."""
    home = work / "openvino"
    python = virtual_environment(home / "venv", say)
    if not (home / "installed").is_file():
        say(f"installing {PACKAGE}")
        if not installed(python, (PACKAGE,), home / "install.log"):
            raise PeerError(f"{PACKAGE} does not install here; see {home / 'install.log'}.")
        (home / "installed").touch()
    return python


def version(python: Path) -> str:
    """The installed version."""
    code = f"import importlib.metadata as m; print(m.version({PACKAGE!r}))"
    return Command("OpenVINO GenAI", (str(python), "-c", code)).run().strip()


def parse(output: str) -> dict[str, Any]:
    """What the worker printed: its last line.

    >>> parse('a message\\n{"decode": 5.5}')["decode"]
    5.5
    """
    lines = output.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise PeerError(f"OpenVINO GenAI printed no numbers but {output.strip()[-200:]!r}.")
    found: dict[str, Any] = json.loads(lines[-1])
    return found
