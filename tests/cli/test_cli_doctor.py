"""`ostro doctor` on this machine, and on drawn ones."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from machines import GIB, draw

from ostro import machine
from ostro.cli import doctor, installation
from ostro.engine import config as engine_config
from ostro.machine import Memory
from ostro.ops.threads import decide_threads

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]


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
    monkeypatch.setattr(installation, "REQUIRED", ("numpy", "no-such-package"))
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


def test_features_are_those_that_the_kernels_see(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One source: what decides which kernels run is what is shown."""
    pytest.importorskip("ostro._native")
    from ostro.ops import cpu

    assert run("doctor", "--json").json["cpu"]["features"] == cpu.cpu_features()["features"]
    monkeypatch.setattr(cpu, "cpu_features", lambda: {"features": ["six"], "compiled": ["portable"], "usable": []})
    assert run("doctor", "--json").json["cpu"]["features"] == ["six"]
    monkeypatch.setattr("ostro.ops.native_error", lambda: "not built")
    assert run("doctor", "--json").json["cpu"]["features"] is None
    assert "unknown: the C++ kernels" in run("doctor").out


def test_memory_is_what_the_engine_counts_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of a group above ours, and cache that can be dropped, are seen by both."""
    found = Memory(64 * GIB, 7 * GIB, 8 * GIB, GIB)
    monkeypatch.setattr(machine, "memory", lambda *_args: found)
    assert machine.available_memory() == engine_config.available_memory() == 7 * GIB
    assert run("doctor", "--json").json["memory"] == {
        "total": 64 * GIB, "available": 7 * GIB, "cgroup_limit": 8 * GIB, "cgroup_used": GIB,
    }  # fmt: skip
    text = run("doctor").out
    assert "64 GiB, 7 GiB available" in text
    assert "limited to 8 GiB, 1 GiB used" in text


def test_hub_cache_counts_every_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    draw(tmp_path, {"models--a--b/blobs/1": "12345", "models--a--b/refs/main": "abc"})
    (tmp_path / "models--a--b/snapshots").mkdir()
    (tmp_path / "models--a--b/snapshots/x").symlink_to(tmp_path / "models--a--b/blobs/1")
    assert installation.hub_cache() == installation.HubCache(tmp_path, 8)


def test_hub_cache_is_where_the_hub_says() -> None:
    from huggingface_hub import constants

    assert installation.hub_cache().folder == Path(constants.HF_HUB_CACHE)


def test_packages_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[<>=,; ]", requirement)[0] for requirement in project["dependencies"]}
    assert names <= set(installation.REQUIRED)
    extras = project["optional-dependencies"]
    for extra, packages in installation.EXTRAS.items():
        assert {re.split(r"[\[<>=,; ]", requirement)[0] for requirement in extras[extra]} == set(packages)
    assert set(installation.EXTRAS) == set(extras) - {"test", "docs"}  # those are for who works on ostro


def test_sizes_that_nobody_tells() -> None:
    assert doctor._bytes(None) == "unknown"
