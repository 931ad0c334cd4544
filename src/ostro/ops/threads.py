"""How many threads the cpu backend uses, and why: the least of affinity, cgroup quota and physical cores.

More threads than that only take turns on the same cores. Linux tells all three in files; elsewhere the count of the
operating system stands in for them. Every function takes the root of the file tree, so that a test can draw its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ostro import env

ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class ThreadDecision:
    """`count` threads, the numbers that led there (None: unknown or unlimited), and the one that decided in words."""

    count: int
    affinity: int
    cgroup_quota: float | None
    physical_cores: int | None
    reason: str


def decide_threads(root: Path = ROOT) -> ThreadDecision:
    """OSTRO_NUM_THREADS, or else min(affinity, quota rounded down but at least 1, physical cores).

    Errors: RequestError if OSTRO_NUM_THREADS is no positive whole number.
    """
    affinity = affinity_count()
    quota = cgroup_quota(root)
    cores = physical_cores(root)
    asked = env.num_threads()
    if asked is not None:
        return ThreadDecision(asked, affinity, quota, cores, f"OSTRO_NUM_THREADS is {asked}")
    limits = [(affinity, f"{affinity} CPUs in the affinity mask of the process")]
    if quota is not None:
        limits.append((max(1, int(quota)), f"a cgroup quota of {quota:g} CPUs"))
    if cores is not None:
        limits.append((cores, f"{cores} physical cores"))
    count, reason = min(limits, key=lambda limit: limit[0])
    return ThreadDecision(count, affinity, quota, cores, reason)


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
        pairs = (line.split(":", 1) for line in entry.splitlines() if ":" in line)
        fields = {name.strip(): value.strip() for name, value in pairs}
        if "core id" in fields:
            cores.add((fields.get("physical id", "0"), fields["core id"]))
    return len(cores) or None


def cgroup_quota(root: Path = ROOT) -> float | None:
    """CPUs that the process's cgroups allow, the least of all levels; None without a limit. Versions 1 and 2."""
    text = _read(root / "proc/self/cgroup")
    if text is None:
        return None
    quotas = []
    for folder, version in _cgroup_folders(text, root):
        quota = _quota_v2(folder) if version == 2 else _quota_v1(folder)
        if quota is not None:
            quotas.append(quota)
    return min(quotas, default=None)


def parse_cpu_max(text: str) -> float | None:
    """`cpu.max` of cgroup v2, "quota period" in microseconds, as CPUs; None for "max".

    >>> parse_cpu_max("150000 100000")
    1.5
    """
    fields = text.split()
    if len(fields) not in (1, 2) or not all(field.isdigit() for field in fields):
        return None
    period = int(fields[1]) if len(fields) == 2 else 100_000
    return int(fields[0]) / period if period > 0 and int(fields[0]) > 0 else None


def _cgroup_folders(text: str, root: Path) -> list[tuple[Path, int]]:
    """The folders of /proc/self/cgroup's entries and of all their ancestors, with the version of each.

    Inside a container the path may be the host's, which is not mounted: the mount point itself is then the cgroup.
    """
    mounts = root / "sys/fs/cgroup"
    folders = []
    for line in text.splitlines():
        hierarchy, controllers, path = (*line.split(":", 2), "", "")[:3]
        if hierarchy == "0" and not controllers:
            bases = [(mounts, 2), (mounts / "unified", 2)]
        elif "cpu" in controllers.split(","):
            bases = [(mounts / "cpu", 1), (mounts / controllers, 1)]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for base, version in bases:
            folders += [(base.joinpath(*parts[:depth]), version) for depth in range(len(parts) + 1)]
    return folders


def _quota_v2(folder: Path) -> float | None:
    text = _read(folder / "cpu.max")
    return None if text is None else parse_cpu_max(text)


def _quota_v1(folder: Path) -> float | None:
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return None if quota is None or period is None else parse_cpu_max(f"{quota.strip()} {period.strip()}")


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
