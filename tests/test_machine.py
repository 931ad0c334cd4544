"""Facts of the machine, read from drawn file trees: cores, quotas, memory and the limits of nested control groups."""

from __future__ import annotations

from pathlib import Path

import pytest
from machines import GIB, cores, draw

from ostro.machine import (
    Memory,
    affinity_count,
    available_memory,
    cpu_model,
    cpu_quota,
    largest_cache,
    memory,
    parse_cpu_max,
    parse_cpuinfo,
    physical_cores,
)

V2 = "sys/fs/cgroup"
V1 = "sys/fs/cgroup/memory"
MEMINFO = f"MemTotal: {64 * 2**20} kB\nMemFree: 1 kB\nMemAvailable:   {57 * 2**20} kB\n"


def group(folder: str, limit: int | str, used: int, cache: int | None = None) -> dict[str, str]:
    """The files of a control group of version 2."""
    files = {f"{folder}/memory.max": f"{limit}\n", f"{folder}/memory.current": f"{used}\n"}
    if cache is not None:
        files[f"{folder}/memory.stat"] = f"anon 1\nfile {cache}\ninactive_file {cache}\nactive_file 7\n"
    return files


def group_v1(folder: str, limit: int, used: int, cache: int) -> dict[str, str]:
    """The files of a control group of version 1."""
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": f"inactive_file 5\ntotal_cache {cache}\ntotal_inactive_file {cache}\n",
    }


def test_physical_cores(tmp_path: Path) -> None:
    assert physical_cores(draw(tmp_path, cores(4))) == 4
    assert physical_cores(tmp_path / "nothing") is None


def test_cpuinfo_stands_in_for_sys(tmp_path: Path) -> None:
    entry = "processor\t: {}\nphysical id\t: {}\ncore id\t\t: {}\n\n"
    text = "".join(entry.format(cpu, cpu // 4, cpu % 2) for cpu in range(8))
    assert physical_cores(draw(tmp_path, {"proc/cpuinfo": text})) == 4
    assert parse_cpuinfo("processor : 0\nBogoMIPS : 50.0\n") is None


def test_largest_cache(tmp_path: Path) -> None:
    folder = "sys/devices/system/cpu/cpu0/cache"
    sizes = {"index0": "32K\n", "index2": "1024K\n", "index3": "96M\n", "index4": "unknown\n"}
    assert largest_cache(draw(tmp_path, {f"{folder}/{index}/size": text for index, text in sizes.items()})) == 96 << 20
    assert largest_cache(tmp_path / "nothing") is None


def test_cpu_model(tmp_path: Path) -> None:
    text = "model name\t: Some CPU @ 2 GHz\nflags\t\t: fpu\n\nmodel name\t: Other\n"
    assert cpu_model(draw(tmp_path, {"proc/cpuinfo": text})) == "Some CPU @ 2 GHz"
    assert cpu_model(tmp_path / "nothing")


def test_the_tightest_quota_of_all_levels_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/system.slice/job/step\n",
        f"{V2}/cgroup.controllers": "cpu",
        f"{V2}/system.slice/cpu.max": "600000 100000\n",
        f"{V2}/system.slice/job/cpu.max": "125000 50000\n",
        f"{V2}/system.slice/job/step/cpu.max": "max 100000\n",
    }
    assert cpu_quota(draw(tmp_path, files)) == 2.5


@pytest.mark.parametrize("told", [{"proc/self/cgroup": "0::/../../host/path\n"}, {}])
def test_a_container_sees_its_group_at_the_mount_point(told: dict[str, str], tmp_path: Path) -> None:
    files = {f"{V2}/cpu.max": "200000 100000\n", "proc/meminfo": MEMINFO, **group(V2, 3 * GIB, GIB), **told}
    assert cpu_quota(draw(tmp_path, files)) == 2
    assert available_memory(tmp_path) == 2 * GIB


def test_quota_of_version_1(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:cpuset:/\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "300000\n",
        "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
    }
    assert cpu_quota(draw(tmp_path, files)) == 3


@pytest.mark.parametrize("text", ["max 100000", "", "-1 100000", "a b", "1 0", "0 100000", "1 2 3", "² 1"])
def test_no_quota(text: str) -> None:
    assert parse_cpu_max(text) is None


def test_memory_without_a_limit(tmp_path: Path) -> None:
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/a\n", **group(f"{V2}/a", "max", 10)}
    assert memory(draw(tmp_path, files)) == Memory(64 * GIB, 57 * GIB, None, None)


def test_a_limit_above_our_own_group_counts(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/user.slice/job/step\n",
        **group(f"{V2}/user.slice", 32 * GIB, 31 * GIB, 2 * GIB),
        **group(f"{V2}/user.slice/job", 8 * GIB, 6 * GIB),
        **group(f"{V2}/user.slice/job/step", "max", GIB),
    }
    assert memory(draw(tmp_path, files)) == Memory(64 * GIB, 2 * GIB, 8 * GIB, 6 * GIB)


def test_the_group_that_leaves_least_need_not_have_the_smallest_limit(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/all/ours\n",
        **group(f"{V2}/all", 32 * GIB, 31 * GIB),
        **group(f"{V2}/all/ours", 8 * GIB, GIB),
    }
    assert memory(draw(tmp_path, files)) == Memory(64 * GIB, GIB, 32 * GIB, 31 * GIB)


def test_cache_that_can_be_dropped_is_not_used(tmp_path: Path) -> None:
    """A group that has read a large file is at its limit, and yet most of it is free for the asking."""
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n", **group(V2, 8 * GIB, 7 * GIB, 6 * GIB)}
    assert memory(draw(tmp_path, files)) == Memory(64 * GIB, 7 * GIB, 8 * GIB, GIB)


def test_memory_of_version_1(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/1\n",
        **group_v1(V1, 9223372036854771712, 0, 0),
        **group_v1(f"{V1}/docker", 8 * GIB, 7 * GIB, 6 * GIB),
        **group_v1(f"{V1}/docker/1", 16 * GIB, 2 * GIB, GIB),
    }
    assert memory(draw(tmp_path, files)) == Memory(64 * GIB, 7 * GIB, 8 * GIB, GIB)


def test_a_limit_whose_use_is_unknown(tmp_path: Path) -> None:
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n", f"{V2}/memory.max": f"{GIB}\n"}
    assert memory(draw(tmp_path, files)) == Memory(64 * GIB, GIB, GIB, None)


def test_a_group_beyond_its_limit_leaves_nothing(tmp_path: Path) -> None:
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n", **group(V2, GIB, 2 * GIB)}
    assert available_memory(draw(tmp_path, files)) == 0


def test_damaged_files_are_as_absent_ones(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal: many\nMemAvailable:\n", "proc/self/cgroup": "nonsense\n0::\n\n",
        f"{V2}/memory.max": "lots\n", f"{V2}/memory.stat": "inactive_file\n",
    }  # fmt: skip
    found = memory(draw(tmp_path, files))
    assert found == memory(tmp_path / "nothing")
    assert found.available == found.total // 2 > 0
    assert cpu_quota(tmp_path) is None


def test_this_machine() -> None:
    found = memory()
    assert 0 < found.available <= found.total
    assert available_memory() > 0
    assert affinity_count() >= 1
