"""How many threads: the least of affinity, cgroup quota and physical cores, read from drawn file trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from ostro.errors import RequestError
from ostro.ops import threads
from ostro.ops.threads import cgroup_quota, decide_threads, parse_cpu_max, parse_cpuinfo, physical_cores


def draw(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def cores(count: int, siblings: int = 2) -> dict[str, str]:
    """A machine of `count` cores with that many hardware threads each."""
    folder = "sys/devices/system/cpu"
    files = {}
    for cpu in range(count * siblings):
        core = cpu % count
        files |= {
            f"{folder}/cpu{cpu}/topology/physical_package_id": "0\n",
            f"{folder}/cpu{cpu}/topology/core_id": f"{core}\n",
            f"{folder}/cpu{cpu}/topology/thread_siblings_list": f"{core},{core + count}\n",
        }
    return files | {f"{folder}/cpufreq/policy0": "", f"{folder}/cpuidle/x": ""}


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "affinity_count", lambda: 8)
    monkeypatch.delenv("OSTRO_NUM_THREADS", raising=False)


def test_physical_cores_decide(tmp_path: Path) -> None:
    decision = decide_threads(draw(tmp_path, cores(4)))
    assert (decision.count, decision.affinity, decision.cgroup_quota, decision.physical_cores) == (4, 8, None, 4)
    assert decision.reason == "4 physical cores"


def test_affinity_decides(tmp_path: Path) -> None:
    decision = decide_threads(draw(tmp_path, cores(16)))
    assert decision.count == 8
    assert "affinity" in decision.reason


@pytest.mark.parametrize(("quota", "count"), [("350000 100000", 3), ("50000 100000", 1), ("99999 100000", 1)])
def test_quota_decides_and_is_rounded_down(quota: str, count: int, tmp_path: Path) -> None:
    root = draw(tmp_path, {**cores(4), "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": quota})
    decision = decide_threads(root)
    assert decision.count == count
    assert "cgroup quota" in decision.reason


def test_the_tightest_ancestor_counts(tmp_path: Path) -> None:
    base = "sys/fs/cgroup"
    files = {
        "proc/self/cgroup": "0::/system.slice/job/step\n",
        f"{base}/cgroup.controllers": "cpu",
        f"{base}/system.slice/cpu.max": "600000 100000\n",
        f"{base}/system.slice/job/cpu.max": "125000 50000\n",
        f"{base}/system.slice/job/step/cpu.max": "max 100000\n",
    }
    assert cgroup_quota(draw(tmp_path, files)) == 2.5


def test_a_container_sees_its_cgroup_at_the_mount_point(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/../../host/path\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}
    assert cgroup_quota(draw(tmp_path, files)) == 2


def test_version_1(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:cpuset:/\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "300000\n",
        "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
    }
    assert cgroup_quota(draw(tmp_path, files)) == 3


def test_nothing_is_known(tmp_path: Path) -> None:
    decision = decide_threads(tmp_path)
    assert (decision.count, decision.cgroup_quota, decision.physical_cores) == (8, None, None)


def test_cpuinfo_stands_in_for_sys(tmp_path: Path) -> None:
    entry = "processor\t: {}\nphysical id\t: {}\ncore id\t\t: {}\n\n"
    text = "".join(entry.format(cpu, cpu // 4, cpu % 2) for cpu in range(8))
    assert physical_cores(draw(tmp_path, {"proc/cpuinfo": text})) == 4
    assert parse_cpuinfo("processor : 0\nBogoMIPS : 50.0\n") is None


@pytest.mark.parametrize("text", ["max 100000", "", "-1 100000", "a b", "1 0", "0 100000", "1 2 3"])
def test_no_limit(text: str) -> None:
    assert parse_cpu_max(text) is None


def test_the_environment_overrules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRO_NUM_THREADS", "13")
    decision = decide_threads(draw(tmp_path, cores(4)))
    assert decision.count == 13
    assert decision.reason == "OSTRO_NUM_THREADS is 13"
    monkeypatch.setenv("OSTRO_NUM_THREADS", "none")
    with pytest.raises(RequestError, match="OSTRO_NUM_THREADS"):
        decide_threads(tmp_path)


def test_this_machine() -> None:
    assert threads.decide_threads().count >= 1
