"""How much memory of this process was resident at most."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """The most that was resident since this was made, but for what happened while `paused`.

    Where the system cannot forget a peak (not Linux), it is that of the process's whole life.
    """

    def __init__(self) -> None:
        self._highest = 0
        _forget_peak()

    @property
    def num_bytes(self) -> int:
        """The peak so far."""
        return max(self._highest, _peak())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is taken inside, and given back, does not count."""
        self._highest = self.num_bytes
        try:
            yield
        finally:
            _forget_peak()


def _peak() -> int:
    if _STATUS.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _forget_peak() -> None:
    """Linux then counts anew from what is resident now (`man 5 proc`, clear_refs)."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        pass
