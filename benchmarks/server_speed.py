"""Concurrent chats that share a system prompt: ostro's server beside llama.cpp's, on the same file, in turn.

    pip install -r benchmarks/requirements.txt
    python benchmarks/server_speed.py --shape mistral-7b --layers 8 --out benchmarks/server_speed.md

Both serve one GGUF file of random weights. In each round a server is started anew, and two bursts of chats are sent:
the first meets an empty cache, the second has the same system prompt and new questions. Every setting of llama-server
is tried once; the one with the most tokens per second, and the one with the shortest wait, go into the rounds, which
alternate with ostro. llama-server is built from the source package of llama-cpp-python (`--llama-server` takes another
one). Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cpu_speed import default_work, say
from http_load.chats import LLAMA, OSTRO, Burst, Protocol, Workload, burst
from http_load.processes import ServerProcess, llama_server, ostro_server
from ostro import __version__, machine
from ostro.bench import find_shape
from peers import llama_build
from peers.gguf_files import FILE_TYPES, write_gguf

BURSTS = ("first burst", "second burst")


@dataclass
class Contender:
    """A server in a setting, and what its rounds found: a burst of each kind a round."""

    name: str
    setting: str
    protocol: Protocol
    start: Callable[[], AbstractContextManager[ServerProcess]]
    rounds: list[tuple[Burst, Burst]] = field(default_factory=list)

    def run(self, workload: Workload, seed: int) -> tuple[Burst, Burst]:
        """One round."""
        with self.start() as server:
            found = tuple(burst(server.address, self.protocol, workload, 2 * seed + each) for each in (0, 1))
        say(f"{self.name} ({self.setting}): " + ", ".join(f"{b.tokens_per_second:.1f} tokens/s" for b in found))
        return found[0], found[1]

    def speed(self, which: int) -> float:
        """Tokens per second of all users together: the median of the rounds."""
        return statistics.median(each[which].tokens_per_second for each in self.rounds)

    def wait(self, which: int) -> float:
        """Seconds to the first token of the user in the middle: the median of the rounds."""
        return statistics.median(each[which].median_wait for each in self.rounds)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--shape", default="mistral-7b", help="a shape that ostro bench knows (default mistral-7b)")
    add("--layers", type=int, help="its first layers only: less memory, disk and time (default all)")
    add("--type", default="Q4_0", choices=sorted(FILE_TYPES), help="4-bit type of the file (default Q4_0)")
    add("--threads", type=int, default=2, help="threads of either server (default 2)")
    add("--users", type=int, default=8, help="chats at once (default 8)")
    add("--system", type=int, default=1024, help="tokens of the system prompt (default 1024)")
    add("--question", type=int, default=64, help="tokens of each question (default 64)")
    add("--answer", type=int, default=128, help="tokens of each answer (default 128)")
    add("--repeats", type=int, default=3, help="rounds (default 3)")
    add("--out", type=Path, help="write the table there too")
    add("--work", type=Path, default=default_work(), help="where builds and files are kept (default %(default)s)")
    add("--llama-server", type=Path, help="a llama-server, instead of building it")
    add("--llama-version", default=llama_build.VERSION, help="the llama-cpp-python that is built (default %(default)s)")
    return parser.parse_args(given)


def contenders(options: argparse.Namespace, model: Path, workload: Workload) -> tuple[Contender, list[Contender]]:
    """ostro, and llama-server in each of its settings."""
    room = workload.system + workload.question + workload.answer + 64
    threads = str(options.threads)
    ours = Contender(
        "ostro",
        "defaults",
        OSTRO,
        lambda: ostro_server(
            model, "--threads", threads, "--max-model-len", str(room), "--embedding-model", "none",
            "--prefix-cache", "none",
        ),
    )  # fmt: skip
    binary = options.llama_server or (
        llama_build.build(options.work, options.llama_version, say, server=True) / llama_build.SERVER
    )
    common = ["-t", threads, "-tb", threads, "-np", str(workload.users), "-c", str(room * workload.users)]
    settings = {
        "a slot for each user": [],
        "unified K/V": ["-kvu"],
        "flash attention": ["-fa", "on"],
        "unified K/V, flash attention": ["-kvu", "-fa", "on"],
    }

    def start(extra: list[str]) -> Callable[[], AbstractContextManager[ServerProcess]]:
        return lambda: llama_server(binary, model, _free_port(), *common, *extra)

    theirs = [Contender("llama-server", name, LLAMA, start(extra)) for name, extra in settings.items()]
    return ours, theirs


def finalists(surveyed: Sequence[tuple[Contender, tuple[Burst, Burst]]]) -> list[Contender]:
    """The quickest setting of the second burst, and the one whose users wait least."""
    quickest = max(surveyed, key=lambda each: each[1][1].tokens_per_second)[0]
    promptest = min(surveyed, key=lambda each: each[1][1].median_wait)[0]
    return [quickest] if promptest is quickest else [quickest, promptest]


def table(
    options: argparse.Namespace, workload: Workload, version: str, ours: Contender, theirs: Sequence[Contender]
) -> str:
    """The result as a page."""
    lines = [
        "# Chats that share a system prompt",
        "",
        f"{workload.users} chats at once: {workload.system} tokens in common, {workload.question} of each user's own, "
        f"{workload.answer} to be written, greedy. {options.shape}, "
        f"{options.layers or 'all'} layers, one {options.type} file of random weights; {options.threads} threads; "
        f"medians of {options.repeats} rounds, each with a server started anew.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {machine.cpu_model()}, ostro {__version__}, {version}, Python "
        f"{platform.python_version()}.",
        "",
        "| server | burst | tokens/s of all | to the first token, median user | ostro is |",
        "|---|---|---|---|---|",
    ]
    for which, name in enumerate(BURSTS):
        for each in (ours, *theirs):
            factor = "" if each is ours else f"{ours.speed(which) / each.speed(which):.1f} x as fast"
            numbers = f"{each.speed(which):.1f} | {each.wait(which):.2f} s"
            lines.append(f"| {each.name} ({each.setting}) | {name} | {numbers} | {factor} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Build, survey, measure in rounds, write the table."""
    options = arguments()
    if (load := os.getloadavg()[0]) > 0.5:
        say(f"The load average is {load:.2f}: something else runs on this machine, and the numbers will show it.")
    config = find_shape(options.shape, options.layers)
    workload = Workload(
        users=options.users,
        system=options.system,
        question=options.question,
        answer=options.answer,
        vocab_size=config.vocab_size,
    )
    name = f"{options.shape}-{config.num_hidden_layers}-layers-{options.type}.gguf"
    model = write_gguf(options.work / "models" / name, config, options.type, say)
    ours, settings = contenders(options, model, workload)
    chosen = finalists([(each, each.run(workload, 0)) for each in settings])
    for number in range(1, options.repeats + 1):
        for each in (ours, *chosen):
            each.rounds.append(each.run(workload, number))
    version = "llama-server" if options.llama_server else f"llama.cpp of llama-cpp-python {options.llama_version}"
    text = table(options, workload, version, ours, chosen)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


if __name__ == "__main__":
    main()
