"""How long `/health` takes to answer, seen from a process of its own so that no other client delays the clock.

python -m http_load.pulse ADDRESS     # until stdin is closed; prints JSON
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_EVERY = 0.05


@dataclass
class Pulse:
    """`milliseconds` of each answer in the order of asking; `failures` are answers other than 200, or none."""

    milliseconds: list[float] = field(default_factory=list)
    failures: int = 0

    def quantile(self, share: float) -> float:
        """The time within which this share of the answers came; 0 where there are none."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@contextmanager
def watched(address: str) -> Iterator[Pulse]:
    """Watch a server during the block; the result is filled in at its end."""
    pulse = Pulse()
    folder = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "http_load.pulse", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": folder},
    )
    try:
        yield pulse
    finally:
        out, _ = process.communicate()
        found = json.loads(out)
        pulse.milliseconds, pulse.failures = found["milliseconds"], found["failures"]


def _measure(address: str, is_over: threading.Event) -> dict[str, Any]:
    parts = urlsplit(address)
    found: dict[str, Any] = {"milliseconds": [], "failures": 0}
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    while not is_over.wait(_EVERY):
        began = time.perf_counter()
        try:
            connection.request("GET", "/health")
            response = connection.getresponse()
            response.read()
            is_good = response.status == 200
        except (OSError, http.client.HTTPException):
            connection.close()
            is_good = False
        if is_good:
            found["milliseconds"].append((time.perf_counter() - began) * 1000)
        else:
            found["failures"] += 1
    return found


def main() -> None:
    """Measure until stdin ends."""
    is_over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        is_over.set()

    threading.Thread(target=wait, daemon=True).start()
    print(json.dumps(_measure(sys.argv[1], is_over)))


if __name__ == "__main__":
    main()
