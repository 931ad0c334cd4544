"""`ostro doctor` on this machine, and on drawn ones."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ostro.cli import doctor, machine
from ostro.ops.threads import decide_threads

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]
CPUINFO = "model name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx2 fma avx512f avx512_vnni\n\nmodel name\t: Other\n"


def draw(root: Path, files: dict[str, str]) -> Path:
    """A file tree."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine(run: Run) -> None:
    result = run("doctor", "--json")
    assert result.code == 0
    found = result.json
    assert found["problems"] == []
    assert found["threads"]["count"] == decide_threads().count
    assert found["threads"]["reason"]
    assert found["memory"]["total"] > found["memory"]["available"] > 0
    assert found["packages"]["numpy"]
    isa = found["kernels"]["isa"]
    assert (isa is None and found["kernels"]["reason"]) or isa == found["kernels"]["usable"][-1]
    text = run("doctor").out
    for word in ("processor", "features", "kernels", "threads", "because of", "memory", "extra torch", "downloads"):
        assert word in text


def test_variables_are_shown_and_a_token_is_not(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRO_NUM_THREADS", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    result = run("doctor")
    assert "OSTRO_NUM_THREADS=1" in result.out
    assert "1, because of OSTRO_NUM_THREADS is 1" in result.out
    assert "HF_TOKEN=(set)" in result.out
    assert "secret" not in result.out


def test_what_is_broken_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRO_NUM_THREADS", "none")
    monkeypatch.setattr(machine, "REQUIRED", ("numpy", "no-such-package"))
    result = run("doctor")
    assert result.code == 1
    assert "error: OSTRO_NUM_THREADS must be" in result.err
    assert "error: Not installed: no-such-package" in result.err
    assert len(run("doctor", "--json").json["problems"]) == 2


def test_a_machine_without_the_kernels_is_not_broken(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostro.ops.native_error", lambda: "The C++ kernels cannot be used (not built).")
    result = run("doctor")
    assert result.code == 0
    assert "NumPy computes" in result.out
    assert "not built" in result.out


def test_kernels_that_cannot_run_are_a_problem(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ostro._native")
    monkeypatch.setenv("OSTRO_ISA", "sse9")
    result = run("doctor")
    assert result.code == 1
    assert "sse9" in result.err


def test_cpu(tmp_path: Path) -> None:
    cpu = machine.cpu(draw(tmp_path, {"proc/cpuinfo": CPUINFO}))
    assert cpu.model == "Some CPU @ 2 GHz"
    assert cpu.features == ("avx2", "fma", "avx512f", "avx512_vnni")
    assert cpu.logical_cpus == os.cpu_count()
    assert machine.cpu(tmp_path / "nothing").features == ()


def test_memory_and_cgroup_v2(tmp_path: Path) -> None:
    root = draw(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   400 kB\n",
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/b/memory.max": "max\n",
            "sys/fs/cgroup/a/memory.max": "300000\n",
            "sys/fs/cgroup/a/memory.current": "1234\n",
        },
    )
    assert machine.memory(root) == machine.Memory(1_024_000, 409_600, 300_000, 1234)


def test_cgroup_v1(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/1\n",
        "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000\n",
    }
    assert machine.memory(draw(tmp_path, files)) == machine.Memory(None, None, 5000, None)


def test_no_limit(tmp_path: Path) -> None:
    assert machine.memory(tmp_path) == machine.Memory(None, None, None, None)


def test_hub_cache_counts_every_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    draw(tmp_path, {"models--a--b/blobs/1": "12345", "models--a--b/refs/main": "abc"})
    (tmp_path / "models--a--b/snapshots").mkdir()
    (tmp_path / "models--a--b/snapshots/x").symlink_to(tmp_path / "models--a--b/blobs/1")
    assert machine.hub_cache() == machine.HubCache(tmp_path, 8)


def test_hub_cache_is_where_the_hub_says() -> None:
    from huggingface_hub import constants

    assert machine.hub_cache().folder == Path(constants.HF_HUB_CACHE)


def test_packages_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[<>=,; ]", requirement)[0] for requirement in project["dependencies"]}
    assert names <= set(machine.REQUIRED)
    extras = project["optional-dependencies"]
    for extra, packages in machine.EXTRAS.items():
        assert {re.split(r"[\[<>=,; ]", requirement)[0] for requirement in extras[extra]} == set(packages)
    assert set(machine.EXTRAS) == set(extras) - {"test"}


def test_sizes_that_nobody_tells() -> None:
    assert doctor._bytes(None) == "unknown"
