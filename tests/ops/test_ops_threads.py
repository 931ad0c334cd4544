"""How many threads: the least of affinity, cgroup quota and physical cores."""

from __future__ import annotations

from pathlib import Path

import pytest
from machines import cores, draw

from ostro import machine
from ostro.errors import RequestError
from ostro.ops.threads import decide_threads


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "affinity_count", lambda: 8)
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


def test_nothing_is_known(tmp_path: Path) -> None:
    decision = decide_threads(tmp_path)
    assert (decision.count, decision.cgroup_quota, decision.physical_cores) == (8, None, None)


def test_the_environment_overrules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRO_NUM_THREADS", "13")
    decision = decide_threads(draw(tmp_path, cores(4)))
    assert decision.count == 13
    assert decision.reason == "OSTRO_NUM_THREADS is 13"
    monkeypatch.setenv("OSTRO_NUM_THREADS", "none")
    with pytest.raises(RequestError, match="OSTRO_NUM_THREADS"):
        decide_threads(tmp_path)


def test_this_machine() -> None:
    assert decide_threads().count >= 1
