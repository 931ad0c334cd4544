"""Facts of this machine for `ostro doctor`: processor, memory, packages, the hub's cache. Nothing heavy is imported."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

FEATURES = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16",
    "avx_vnni", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
"""What may decide which kernels run, by the names that Linux gives, x86 first and then Arm."""

REQUIRED = (
    "numpy", "ml_dtypes", "tokenizers", "tiktoken", "mistral-common", "sentencepiece", "huggingface_hub", "jinja2",
    "typer", "rich", "prompt_toolkit",
)  # fmt: skip
EXTRAS: Mapping[str, tuple[str, ...]] = {"torch": ("torch", "safetensors")}
"""Packages of every extra of pyproject.toml that is meant for users."""


@dataclass(frozen=True)
class Cpu:
    """The processor: `features` are those of `FEATURES` that it has."""

    model: str
    architecture: str
    logical_cpus: int
    features: tuple[str, ...]


@dataclass(frozen=True)
class Memory:
    """Bytes; None where the system does not tell or sets no limit."""

    total: int | None
    available: int | None
    cgroup_limit: int | None
    cgroup_used: int | None


@dataclass(frozen=True)
class HubCache:
    """Where downloads lie, and how many bytes they take."""

    folder: Path
    num_bytes: int


def cpu(root: Path = Path("/")) -> Cpu:
    """The processor as /proc/cpuinfo tells it; `root` is where /proc is (for tests)."""
    lines = _fields(_read(root / "proc/cpuinfo"), ":")
    flags = set((lines.get("flags") or lines.get("Features") or "").split())
    return Cpu(
        model=lines.get("model name") or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        logical_cpus=os.cpu_count() or 1,
        features=tuple(name for name in FEATURES if name in flags),
    )


def memory(root: Path = Path("/")) -> Memory:
    """Memory of the machine and of the control group (v1 or v2) that this process runs in."""
    meminfo = _fields(_read(root / "proc/meminfo"), ":")
    limit, used = _cgroup_memory(root)
    return Memory(_kib(meminfo.get("MemTotal")), _kib(meminfo.get("MemAvailable")), limit, used)


def _cgroup_memory(root: Path) -> tuple[int | None, int | None]:
    """The tightest limit on the way from our control group up, and the use of the group that sets it."""
    tightest: tuple[int, int | None] | None = None
    for folder, limit_name, used_name in _cgroup_folders(root):
        text = _read(folder / limit_name).strip()
        # v1 writes "no limit" as a number close to 2**63
        if text.isdigit() and int(text) < 1 << 60 and (tightest is None or int(text) < tightest[0]):
            used = _read(folder / used_name).strip()
            tightest = int(text), int(used) if used.isdigit() else None
    return tightest or (None, None)


def _cgroup_folders(root: Path) -> list[tuple[Path, str, str]]:
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        here = base / path.lstrip("/")
        # In a container the path is often the host's, and only the root of the mount is ours.
        found += [(folder, *names) for folder in (here, *here.parents) if folder == base or base in folder.parents]
    return found


def packages(names: tuple[str, ...]) -> dict[str, str | None]:
    """The installed version of each distribution, None where it is not installed."""
    return {name: _version(name) for name in names}


def hub_cache() -> HubCache:
    """The hub's cache as the HF_* variables place it, and the bytes of its files (each once; snapshots are links)."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    folder = Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser()
    sizes = [
        entry.stat().st_size
        for where, _, names in os.walk(folder)
        for name in names
        if not (entry := Path(where, name)).is_symlink()
    ]
    return HubCache(folder, sum(sizes))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fields(text: str, separator: str) -> dict[str, str]:
    """The first value of every name."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(separator)
        found.setdefault(name.strip(), value.strip())
    return found


def _kib(text: str | None) -> int | None:
    return int(text.split()[0]) * 1024 if text else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
