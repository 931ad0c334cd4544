"""`ostro doctor`: what this machine has, what ostro makes of it, and why."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import typer

from ostro import __version__, env
from ostro.cli.console import binary_size, decimal_size, facts, print_error, print_json
from ostro.cli.options import Json
from ostro.errors import OstroError


def doctor(json: Json = False) -> None:
    """Show what this machine has, and what ostro makes of it.

    Processor, kernels, threads, memory, packages and the download cache, with the reasons.

    The exit code is 1 only where something is broken, which is then named.
    """
    found = examine()
    if json:
        print_json(found)
    else:
        facts(_lines(found))
        for problem in found["problems"]:
            print_error(problem)
    if found["problems"]:
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """All that is shown, as one JSON object. Sizes are in bytes, None is unknown or unlimited."""
    from ostro import machine
    from ostro.cli import installation

    problems: list[str] = []
    required = installation.packages(installation.REQUIRED)
    lacking = [name for name, version in required.items() if version is None]
    if lacking:
        problems.append(f"Not installed: {', '.join(lacking)}. ostro needs them; install it again with pip.")
    cache = installation.hub_cache()
    return {
        "ostro": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "cpu": _cpu(machine.cpu_model()),
        "kernels": _tried(_kernels, problems),
        "threads": _tried(_threads, problems),
        "memory": asdict(machine.memory()),
        "packages": required,
        "extras": {extra: installation.packages(names) for extra, names in installation.EXTRAS.items()},
        "hub_cache": {"folder": str(cache.folder), "bytes": cache.num_bytes},
        "environment": env.settings(),
        "problems": problems,
    }


def _tried(look: Callable[[], dict[str, Any]], problems: list[str]) -> dict[str, Any] | None:
    try:
        return look()
    except OstroError as error:
        problems.append(str(error))
        return None


def _cpu(model: str) -> dict[str, Any]:
    """The processor; its features as the kernels see them, which is what decides, or None where there are none."""
    from ostro.ops import native_error

    features: list[str] | None = None
    if native_error() is None:
        from ostro.ops.cpu import cpu_features

        features = cpu_features()["features"]
    return {
        "model": model,
        "architecture": platform.machine(),
        "logical_cpus": os.cpu_count() or 1,
        "features": features,
    }


def _kernels() -> dict[str, Any]:
    """The kernel set in use; a machine without the C++ kernels is slow, but not broken."""
    from ostro.ops import native_error

    reason = native_error()
    if reason is not None:
        return {"isa": None, "compiled": [], "usable": [], "reason": reason}
    from ostro.ops.cpu import CpuOps, cpu_features

    sets = cpu_features()
    isa = CpuOps(num_threads=1).isa
    asked = env.isa()
    reason = f"OSTRO_ISA is {asked}" if asked else "the best that was compiled in and that CPU and system support"
    return {"isa": isa, "compiled": sets["compiled"], "usable": sets["usable"], "reason": reason}


def _threads() -> dict[str, Any]:
    from ostro.ops.threads import decide_threads

    return asdict(decide_threads())


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    cpu, memory = found["cpu"], found["memory"]
    lines = [
        ("ostro", f"{found['ostro']}, Python {found['python']} ({found['executable']})"),
        ("system", found["system"]),
        ("processor", f"{cpu['model']} ({cpu['architecture']}), {cpu['logical_cpus']} logical CPUs"),
        ("features", _features(cpu["features"])),
    ]
    lines += _kernel_lines(found["kernels"]) + _thread_lines(found["threads"])
    lines.append(("memory", f"{_bytes(memory['total'])}, {_bytes(memory['available'])} available"))
    if memory["cgroup_limit"] is not None:
        lines.append(
            (
                "",
                f"limited to {_bytes(memory['cgroup_limit'])}, {_bytes(memory['cgroup_used'])} used (cgroup, without "
                "file pages that can be dropped)",
            )
        )
    for extra, names in found["extras"].items():
        here = [f"{name} {version}" for name, version in names.items() if version]
        state = ", ".join(here) if len(here) == len(names) else f"not installed: pip install 'ostro[{extra}]'"
        lines.append((f"extra {extra}", state))
    lines.append(("downloads", f"{found['hub_cache']['folder']}, {decimal_size(found['hub_cache']['bytes'])}"))
    lines += [("variable", f"{name}={value}") for name, value in found["environment"].items()]
    return lines


def _features(features: list[str] | None) -> str:
    if features is None:
        return "unknown: the C++ kernels, which look for them, cannot be used"
    return " ".join(features) or "none that ostro looks for"


def _kernel_lines(kernels: dict[str, Any] | None) -> list[tuple[str, str]]:
    if kernels is None:
        return []
    if kernels["isa"] is None:
        return [("kernels", "none, so NumPy computes: the same results, many times slower"), ("", kernels["reason"])]
    return [("kernels", f"{kernels['isa']}: {kernels['reason']} ({', '.join(kernels['usable'])} can run here)")]


def _thread_lines(threads: dict[str, Any] | None) -> list[tuple[str, str]]:
    if threads is None:
        return []
    quota, cores = threads["cgroup_quota"], threads["physical_cores"]
    return [
        ("threads", f"{threads['count']}, because of {threads['reason']}"),
        (
            "",
            f"affinity {threads['affinity']} CPUs, cgroup quota {'none' if quota is None else f'{quota:g} CPUs'}, "
            f"physical cores {'unknown' if cores is None else cores}",
        ),
    ]


def _bytes(number: int | None) -> str:
    return "unknown" if number is None else binary_size(number)
