"""How many threads the cpu backend uses, and why: the least of affinity, cgroup quota and physical cores.

More threads than that only take turns on the same cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ostro import env, machine


@dataclass(frozen=True, slots=True)
class ThreadDecision:
    """`count` threads, the numbers that led there (None: unknown or unlimited), and the one that decided in words."""

    count: int
    affinity: int
    cgroup_quota: float | None
    physical_cores: int | None
    reason: str


def decide_threads(root: Path = machine.ROOT) -> ThreadDecision:
    """OSTRO_NUM_THREADS, or else min(affinity, quota rounded down but at least 1, physical cores).

    `root` is where /proc and /sys are looked for. RequestError if OSTRO_NUM_THREADS is no positive whole number.
    """
    affinity = machine.affinity_count()
    quota = machine.cpu_quota(root)
    cores = machine.physical_cores(root)
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
