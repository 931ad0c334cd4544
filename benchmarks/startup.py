"""How long a user waits before anything happens: `import ostro` and `ostro --help` beside the same of the peers.

    python benchmarks/startup.py            # prints a Markdown table; benchmarks/startup.md holds one

Each command runs as a fresh process, all commands in turn, `--rounds` times; medians are shown, ratios are of medians.
Peers that are not installed are left out and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

OURS = {
    "import ostro": [sys.executable, "-c", "import ostro"],
    "ostro --help": [str(Path(sys.executable).with_name("ostro")), "--help"],
}
PEERS = {  # distribution: what its users import
    "transformers": "from transformers import AutoModelForCausalLM",
    "llama-cpp-python": "import llama_cpp",
    "vllm": "import vllm",
}


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="runs of each command (default 7)")
    rounds = parser.parse_args().rounds
    peers = {name: code for name, code in PEERS.items() if importlib.util.find_spec(code.split()[1])}
    commands = {
        **OURS,
        "python -c pass": [sys.executable, "-c", "pass"],
        **{f"{code}  # {version(name)}": [sys.executable, "-c", code] for name, code in peers.items()},
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        seconds(command)  # warm the page cache
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(seconds(command))
    ours = statistics.median(times["import ostro"])
    print(f"{platform.machine()}, Python {platform.python_version()}, {rounds} rounds, medians\n")
    print("| command | seconds | against `import ostro` |\n|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| `{name}` | {median:.3f} | {median / ours:.1f} x |")
    missing = sorted(set(PEERS) - set(peers))
    if missing:
        print(f"\nNot installed here: {', '.join(missing)}.")


if __name__ == "__main__":
    main()
