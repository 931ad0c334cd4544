"""Facts of this machine: which CPUs and how much memory this process may use. Nothing here decides anything.

Linux tells them in files, below /proc and /sys; elsewhere the counts of the operating system stand in for them. A
control group (cgroup, version 1 or 2) bounds a process together with all groups above it, so every level is read and
the tightest counts. Every function takes the root of the file tree, so that a test can draw its own.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")

_UNLIMITED = 1 << 60  # version 1 writes "no limit" as a number close to 2**63


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. `total` is the machine's; `available` can be taken without swapping and without passing a limit.

    `cgroup_limit` and `cgroup_used` are those of the control group that leaves the least; None without a limit. Pages
    of files that the system drops when memory is wanted (`inactive_file`) do not count as used.
    """

    total: int
    available: int
    cgroup_limit: int | None
    cgroup_used: int | None


def affinity_count() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_cores(root: Path = ROOT) -> int | None:
    """Physical cores that are online, from /sys or else /proc/cpuinfo; None where neither tells."""
    cores = set()
    for topology in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/topology"):
        package, core = _read(topology / "physical_package_id"), _read(topology / "core_id")
        if package is not None and core is not None:
            # A core_id may repeat in each die or cluster; the siblings say which of them are one core.
            cores.add((package.strip(), core.strip(), (_read(topology / "thread_siblings_list") or "").strip()))
    if cores:
        return len(cores)
    text = _read(root / "proc/cpuinfo")
    return None if text is None else parse_cpuinfo(text)


def parse_cpuinfo(text: str) -> int | None:
    """Distinct (physical id, core id) pairs of /proc/cpuinfo; None if it has none (many non-x86 kernels).

    >>> parse_cpuinfo("physical id : 0\\ncore id : 0\\n\\nphysical id : 0\\ncore id : 0\\n")
    1
    """
    cores = set()
    for entry in text.split("\n\n"):
        fields = _fields(entry)
        if "core id" in fields:
            cores.add((fields.get("physical id", "0"), fields["core id"]))
    return len(cores) or None


def cpu_model(root: Path = ROOT) -> str:
    """The processor's name for people."""
    named = _fields(_read(root / "proc/cpuinfo") or "").get("model name")
    return named or platform.processor() or platform.machine()


def largest_cache(root: Path = ROOT) -> int | None:
    """Bytes of the largest cache that the first CPU reads through; None where nobody tells."""
    sizes = (_read(path) for path in (root / "sys/devices/system/cpu/cpu0/cache").glob("index[0-9]*/size"))
    return max((size for text in sizes if (size := parse_cache_size(text or "")) is not None), default=None)


def parse_cache_size(text: str) -> int | None:
    """A size as /sys writes it; None for anything else.

    >>> parse_cache_size("32768K")
    33554432
    """
    number, unit = text.strip()[:-1], text.strip()[-1:]
    return int(number) * {"K": 1 << 10, "M": 1 << 20}[unit] if _is_number(number) and unit in ("K", "M") else None


def cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs that the process's control groups allow, the least of all levels; None without a limit."""
    quotas = [_quota_v2(folder) if version == 2 else _quota_v1(folder) for folder, version in _cgroups("cpu", root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def parse_cpu_max(text: str) -> float | None:
    """`cpu.max` of cgroup version 2, "quota period" in microseconds, as CPUs; None for "max".

    >>> parse_cpu_max("150000 100000")
    1.5
    """
    fields = text.split()
    if len(fields) not in (1, 2) or not all(_is_number(field) for field in fields):
        return None
    period = int(fields[1]) if len(fields) == 2 else 100_000
    return int(fields[0]) / period if period > 0 and int(fields[0]) > 0 else None


def memory(root: Path = ROOT) -> Memory:
    """The memory of the machine, and what of it this process can have.

    Without /proc/meminfo (macOS) nobody tells what is available: half of the physical memory is assumed.
    """
    meminfo = _fields(_read(root / "proc/meminfo") or "")
    total = _kib(meminfo.get("MemTotal"))
    if total is None:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = _kib(meminfo.get("MemAvailable"))
    if available is None:
        available = total // 2
    tightest = min(_limits(root), key=lambda limit: limit[0] - (limit[1] or 0), default=None)
    if tightest is None:
        return Memory(total, available, None, None)
    limit, used = tightest
    return Memory(total, min(available, max(0, limit - (used or 0))), limit, used)


def available_memory(root: Path = ROOT) -> int:
    """Bytes that can be taken: MemAvailable, or what the tightest control group leaves if that is less."""
    return memory(root).available


def _limits(root: Path) -> Iterator[tuple[int, int | None]]:
    """Limit of memory and use of every level that has a limit; the use is None where it cannot be read."""
    for folder, version in _cgroups("memory", root):
        limit_name, used_name = (
            ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        limit, used = _number(folder / limit_name), _number(folder / used_name)
        if limit is not None and limit < _UNLIMITED:
            yield limit, None if used is None else max(0, used - _reclaimable(folder))


def _reclaimable(folder: Path) -> int:
    """Bytes of file pages that the group, with those below it, has not used lately: dropped before anything fails."""
    stat = dict(line.split(maxsplit=1) for line in (_read(folder / "memory.stat") or "").splitlines() if " " in line)
    # Version 1 counts the groups below in total_*; version 2 always does.
    text = stat.get("total_inactive_file", stat.get("inactive_file", "0"))
    return int(text) if _is_number(text) else 0


def _cgroups(controller: str, root: Path) -> Iterator[tuple[Path, int]]:
    """The folders of a controller's groups, from the mount point down to our own, with the version of each.

    Inside a container the path may be the host's, which is not mounted: the mount point itself is then the group, as
    it is where nothing tells our group.
    """
    mounts = root / "sys/fs/cgroup"
    for line in (_read(root / "proc/self/cgroup") or f"0::/\n1:{controller}:/").splitlines():
        hierarchy, controllers, path = (*line.split(":", 2), "", "")[:3]
        if hierarchy == "0" and not controllers:
            bases = [(mounts, 2), (mounts / "unified", 2)]
        elif controller in controllers.split(","):
            bases = [(mounts / controller, 1), (mounts / controllers, 1)]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for base, version in dict.fromkeys(bases):
            for depth in range(len(parts) + 1):
                yield base.joinpath(*parts[:depth]), version


def _quota_v2(folder: Path) -> float | None:
    text = _read(folder / "cpu.max")
    return None if text is None else parse_cpu_max(text)


def _quota_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return None if quota is None or period is None else parse_cpu_max(f"{quota.strip()} {period.strip()}")


def _fields(text: str) -> dict[str, str]:
    """The first value of every "name: value" line."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def _kib(text: str | None) -> int | None:
    number = (text or "").partition(" ")[0]
    return int(number) * 1024 if _is_number(number) else None


def _number(path: Path) -> int | None:
    text = (_read(path) or "").strip()
    return int(text) if _is_number(text) else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
