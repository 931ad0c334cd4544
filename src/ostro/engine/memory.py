"""How much memory there is, and how many blocks of K/V it holds."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = (
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),  # version 2
    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes"),  # version 1
)


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that can be used without swapping: MemAvailable, or what the cgroup leaves if that is less.

    `root` is where /proc and /sys are looked for. Without /proc/meminfo (macOS), half of the physical memory.
    """
    system = _mem_available(root / "proc/meminfo")
    if system is None:
        system = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    limits = (_cgroup_room(root / limit, root / usage) for limit, usage in _CGROUPS)
    return min([system, *(room for room in limits if room is not None)])


def _mem_available(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _cgroup_room(limit: Path, usage: Path) -> int | None:
    """Limit less usage; None where there is no such cgroup or no limit ("max")."""
    try:
        return max(0, int(limit.read_text(encoding="ascii")) - int(usage.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return None
