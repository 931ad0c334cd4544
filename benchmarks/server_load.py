"""A server under load: many clients, some of which leave; every answer is compared with the one it has when alone.

    python benchmarks/server_load.py MODEL --clients 64 --minutes 10 --out benchmarks/server_load.md

MODEL needs a chat format. The server runs as a process of its own; what it is started with beside its defaults may
stand after `--`. Reported are wrong answers, failures, the times of `/health`, and what the server held before and
after. The exit code is 1 where an answer was wrong, a request failed, or something was not given back.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from http_load.clients import Tally, alone, load
from http_load.jobs import make_jobs
from http_load.processes import ServerProcess, ostro_server
from http_load.pulse import Pulse, watched
from http_load.state import State, idle_state
from ostro import __version__, machine

_KEY = "the-key-of-the-load-test"
HEALTH_LIMIT = 100.0
"""Milliseconds in which `/health` is to answer."""


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", help="a folder, a GGUF file or a name, as for ostro serve")
    add("--clients", type=int, default=64, help="at once (default 64)")
    add("--minutes", type=float, default=10, help="of load (default 10)")
    add("--jobs", type=int, default=60, help="different requests (default 60)")
    add("--longest", type=int, default=600, help="words of the longest prompt (default 600)")
    add("--seed", type=int, default=0, help="of the requests and of the clients' moods (default 0)")
    add("--out", type=Path, help="write the report there, as Markdown, too")
    own = sys.argv[1:] if given is None else given
    split = own.index("--") if "--" in own else len(own)
    options = parser.parse_args(own[:split])
    options.serve = own[split + 1 :]
    return options


def warm_up(server: ServerProcess, options: argparse.Namespace) -> tuple[dict[int, object], State]:
    """The answers alone, and how the server stands once every job has run beside others as well."""
    jobs = make_jobs(options.jobs, options.seed, longest=options.longest)
    expected = asyncio.run(alone(server.address, _KEY, jobs))
    seconds = min(30.0, options.minutes * 6)
    asyncio.run(load(server.address, _KEY, jobs, expected, clients=options.clients, seconds=seconds, seed=-1))
    return dict(expected), idle_state(server, _KEY)


def report(options: argparse.Namespace, tally: Tally, pulse: Pulse, before: State, after: State) -> list[str]:
    """What was found, as a page."""
    grown = (after.resident_bytes - before.resident_bytes) / 1e6
    late = sum(each > HEALTH_LIMIT for each in pulse.milliseconds)
    rows = [
        ("answers", f"{tally.finished:,}, of which {len(tally.wrong)} differ from the same request alone"),
        ("requests given up by their client", f"{tally.left:,}"),
        ("refused", ", ".join(f"{count} x {status}" for status, count in sorted(tally.refused.items())) or "none"),
        ("failed", str(len(tally.failed))),
        (
            "`/health`",
            f"{len(pulse.milliseconds):,} times: median {pulse.quantile(0.5):.1f} ms, 99 % within "
            f"{pulse.quantile(0.99):.1f} ms, longest {pulse.quantile(1):.1f} ms; {late} above {HEALTH_LIMIT:g} ms, "
            f"{pulse.failures} failed",
        ),
        ("sequences and blocks in use before", f"{before.running + before.waiting} and {before.used_blocks}"),
        ("and after", f"{after.running + after.waiting} and {after.used_blocks}"),
        ("memory before and after", f"{before.resident_bytes / 1e6:.1f} MB, {grown:+.1f} MB"),
    ]
    lines = [
        "# A server under load",
        "",
        f"{options.clients} clients for {options.minutes:g} minutes, {options.jobs} different requests; a quarter of "
        f"all is given up at a random moment. {datetime.now(UTC):%Y-%m-%d}, ostro {__version__}, "
        f"{machine.cpu_model()}, Python {platform.python_version()}.",
        "",
        f"    python benchmarks/server_load.py MODEL --clients {options.clients} --minutes {options.minutes:g}",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
    ]
    return [*lines, "", *(f"- failed: {text}" for text in tally.failed[:20])]


def main() -> int:
    """Start the server, load it, report."""
    options = arguments()
    with ostro_server(options.model, "--api-key", _KEY, *options.serve) as server:
        expected, before = warm_up(server, options)
        jobs = make_jobs(options.jobs, options.seed, longest=options.longest)
        with watched(server.address) as pulse:
            tally = asyncio.run(
                load(
                    server.address,
                    _KEY,
                    jobs,
                    expected,  # type: ignore[arg-type]
                    clients=options.clients,
                    seconds=options.minutes * 60,
                    seed=options.seed,
                )
            )
        after = idle_state(server, _KEY)
    text = "\n".join(report(options, tally, pulse, before, after)) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    for number, should, came in tally.wrong[:5]:
        print(f"job {number}\n  alone: {should}\n  here:  {came}", file=sys.stderr)
    return int(bool(tally.wrong or tally.failed or pulse.failures or not after.is_idle))


if __name__ == "__main__":
    raise SystemExit(main())
