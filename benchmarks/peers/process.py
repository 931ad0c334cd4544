"""What a command's process does from the outside: when it first prints, and how much memory it holds."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peers.rows import PeerError

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(?P<path>.*)$")
_EVERY = 0.02  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Observed:
    """`first_output` seconds from the command's start to its first byte; `weights` and `other` are the most bytes that
    were resident of the watched files, and of everything else, at any look (0 where it was not watched).
    """

    first_output: float
    weights: int
    other: int


def observe(command: Sequence[str], watched: Path | None = None) -> Observed:
    """Run a command to its end. With `watched`, pages of files in that folder are told from all other memory.

    PeerError where it fails or prints nothing.
    """
    looks: list[tuple[int, int]] = []
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        errors: list[bytes] = []
        reader = threading.Thread(target=lambda pipe: errors.append(pipe.read()), args=(process.stderr,))
        reader.start()
        watcher = threading.Thread(target=_watch, args=(process, watched, looks)) if watched else None
        if watcher:
            watcher.start()
        first = process.stdout.read(1)
        seconds = time.perf_counter() - start
        process.stdout.read()
        status = process.wait()
        reader.join()
        if watcher:
            watcher.join()
    if status or not first:
        last = b"".join(errors).decode(errors="replace").strip().splitlines()[-3:]
        raise PeerError(f"{' '.join(command[:4])} ended with status {status} and printed {first!r}: {' / '.join(last)}")
    weights, other = (max(sizes) for sizes in zip(*looks, strict=True)) if looks else (0, 0)
    return Observed(seconds, weights, other)


def _watch(process: subprocess.Popen[bytes], watched: Path, looks: list[tuple[int, int]]) -> None:
    """Look at the process's memory until it is gone."""
    folder = str(watched.resolve())
    while process.poll() is None:
        try:
            text = Path(f"/proc/{process.pid}/smaps").read_text(encoding="utf-8", errors="replace")
        except OSError:  # it has just ended
            return
        if sizes := split_memory(text, folder):
            looks.append(sizes)
        time.sleep(_EVERY)


def split_memory(smaps: str, folder: str) -> tuple[int, int]:
    """Resident bytes of a /proc/PID/smaps: of the files in `folder`, and of everything else.

    >>> split_memory("00-10 r--p 00 fe:00 7 /m/a.safetensors\\nRss: 8 kB\\n20-30 rw-p 00 00:00 0 \\nRss: 4 kB\\n", "/m")
    (8192, 4096)
    """
    inside = other = 0
    is_inside = False
    for line in smaps.splitlines():
        if line.startswith("Rss:"):
            size = int(line.split()[1]) * 1024
            inside, other = (inside + size, other) if is_inside else (inside, other + size)
        elif mapping := _MAPPING.match(line):
            is_inside = mapping["path"].startswith(folder + "/")
    return inside, other


def read_through(folder: Path) -> int:
    """Read every file of a folder once, so that the page cache has it; returns the bytes."""
    total = 0
    for path in sorted(folder.iterdir()):
        if path.is_file():
            with path.open("rb") as file:
                while piece := file.read(1 << 24):
                    total += len(piece)
    return total
