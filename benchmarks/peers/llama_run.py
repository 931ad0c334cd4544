"""llama.cpp and ik_llama.cpp: their settings, the commands that run them, and what those print."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peers.rows import CONTEXT, NEW_TOKENS, PROMPT, Command, PeerError, Rates

_BATCH = 8


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """llama.cpp with one file in one setting. `repack`: weights are rearranged for the kernels while they are loaded;
    `flash`: its fused attention; `mmap`: weights that are not rearranged stay in the mapped file, else they are copied;
    `ubatch`: rows of a prompt that are computed together.
    """

    folder: Path
    model: Path
    kind: str
    threads: int
    repack: bool
    flash: bool
    mmap: bool = True
    ubatch: int = 512
    name: str = "llama.cpp"

    @property
    def setting(self) -> str:
        """As the table shows it."""
        parts = [self.kind, "repacked" if self.repack else "as in the file"]
        parts += ["flash attention"] * self.flash + ["no mmap"] * (not self.mmap)
        parts += [f"ubatch {self.ubatch}"] * (self.ubatch != PROMPT)
        return ", ".join(parts)

    @property
    def rows(self) -> tuple[str, ...]:
        """Batches of answers need `llama-batched-bench`."""
        batched = (self.folder / "llama-batched-bench").is_file()
        return ("prefill", "decode", "decode8") if batched else ("prefill", "decode")

    def measure(self, rows: Sequence[str]) -> Rates:
        """One process for each row."""
        found: Rates = {}
        for row in rows:
            output = Command(self.name, self.command(row)).run()
            found[row] = batched_rate(output) if row == "decode8" else bench_rate(output)
        return found

    def command(self, row: str) -> tuple[str, ...]:
        """The command that measures a row."""
        if row == "decode8":
            return self._batched_command()
        tokens = ("-p", PROMPT, "-n", 0) if row == "prefill" else ("-p", 0, "-n", NEW_TOKENS, "-d", CONTEXT)
        return self._command(
            "llama-bench", *tokens, "-r", 1, "-o", "jsonl", "-b", max(PROMPT, self.ubatch), "-ub", self.ubatch,
            "-fa", "on" if self.flash else "off", "--repack", int(self.repack), "-lm", "mmap" if self.mmap else "none",
        )  # fmt: skip

    def _batched_command(self) -> tuple[str, ...]:
        tokens = _BATCH * (CONTEXT + NEW_TOKENS)
        return self._command(
            "llama-batched-bench", "-npp", CONTEXT, "-ntg", NEW_TOKENS, "-npl", _BATCH, "-c", 2 * tokens,
            "-b", PROMPT, "-ub", self.ubatch, "--output-format", "jsonl", "-fa", "on" if self.flash else "off",
            "--repack" if self.repack else "--no-repack", *(() if self.mmap else ("--load-mode", "none")),
        )  # fmt: skip

    def _command(self, program: str, *arguments: object) -> tuple[str, ...]:
        return (str(self.folder / program), "-m", str(self.model), "-t", str(self.threads), *map(str, arguments))


@dataclass(frozen=True, slots=True)
class IkLlama:
    """ik_llama.cpp with one file in one setting; the words mean what they do for `LlamaCpp`."""

    folder: Path
    model: Path
    kind: str
    threads: int
    repack: bool
    flash: bool
    name: str = "ik_llama.cpp"
    rows: tuple[str, ...] = ("prefill", "decode")

    @property
    def setting(self) -> str:
        """As the table shows it."""
        parts = [self.kind, "repacked" if self.repack else "as in the file"]
        return ", ".join(parts + ["flash attention"] * self.flash)

    def measure(self, rows: Sequence[str]) -> Rates:
        """One process for each row."""
        return {row: bench_rate(Command(self.name, self.command(row)).run()) for row in rows}

    def command(self, row: str) -> tuple[str, ...]:
        """The command that measures a row."""
        prefill = ("-p", PROMPT, "-n", 0)
        decode = ("-p", 0, "-n", 0, "-gp", f"{CONTEXT},{NEW_TOKENS}")
        arguments = (
            *(prefill if row == "prefill" else decode), "-r", 1, "-o", "json", "-b", PROMPT, "-ub", PROMPT,
            "-fa", int(self.flash), "-rtr", int(self.repack), "-mmp", int(not self.repack),
        )  # fmt: skip
        program, model = str(self.folder / "llama-bench"), str(self.model)
        return (program, "-m", model, "-t", str(self.threads), *map(str, arguments))


def llama_settings(folder: Path, models: dict[str, Path], threads: int) -> Iterator[LlamaCpp]:
    """Every setting of llama.cpp that is tried: repacking, flash attention, mapping, rows computed together."""
    for kind, model in models.items():
        repacked = LlamaCpp(folder, model, kind, threads, repack=True, flash=True)
        plain = replace(repacked, repack=False)
        for setting in (repacked, plain):
            yield setting
            yield replace(setting, flash=False)
        yield replace(plain, mmap=False)
        yield replace(repacked, ubatch=128)


def ik_settings(folder: Path, models: dict[str, Path], threads: int) -> Iterator[IkLlama]:
    """Every setting of ik_llama.cpp that is tried."""
    for kind, model in models.items():
        for repack in (True, False):
            for flash in (True, False):
                yield IkLlama(folder, model, kind, threads, repack, flash)


def bench_rate(output: str) -> float:
    """Tokens per second in what `llama-bench -o json` or `-o jsonl` prints for one test.

    >>> bench_rate('{"n_prompt": 512, "avg_ts": 20.5}')
    20.5
    """
    return _only(_records(output), "avg_ts", "llama-bench")


def batched_rate(output: str) -> float:
    """Tokens per second of all answers in what `llama-batched-bench --output-format jsonl` prints for one batch size.

    >>> batched_rate('{"pl": 8, "speed_tg": 30.25}')
    30.25
    """
    return _only(_records(output), "speed_tg", "llama-batched-bench")


def _records(output: str) -> list[dict[str, Any]]:
    """The JSON objects in the output: one a line, or an array; lines that are neither are messages."""
    text = output.strip()
    if text.startswith("["):
        return list(json.loads(text))
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def _only(records: list[dict[str, Any]], key: str, program: str) -> float:
    found = [float(record[key]) for record in records if key in record]
    if len(found) != 1 or not found[0] > 0:
        raise PeerError(f"{program} printed {found} for {key} where one number greater than 0 was expected.")
    return found[0]


def llama_version(folder: Path) -> str:
    """Version and commit of a build of llama.cpp, as it states them."""
    command = (str(folder / "llama-bench"), "--version")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    match = re.search(r"version:\s*(\S.*)", done.stdout + done.stderr)
    return match[1].strip() if match else "of unknown version"


def ik_version(folder: Path, model: Path) -> str:
    """The commit of a build of ik_llama.cpp, which says it with every measurement and not otherwise."""
    arguments = ("-m", str(model), "-p", "1", "-n", "0", "-r", "1", "-w", "0", "-o", "json")
    records = _records(Command("ik_llama.cpp", (str(folder / "llama-bench"), *arguments)).run())
    return f"commit {records[0]['build_commit']}" if records else "of unknown version"
