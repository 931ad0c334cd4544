"""File trees of machines, as Linux shows them below /proc and /sys."""

from __future__ import annotations

from pathlib import Path

GIB = 2**30


def draw(root: Path, files: dict[str, str]) -> Path:
    """Write the files below `root`; returns it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
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
