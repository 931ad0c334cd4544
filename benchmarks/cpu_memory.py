"""Memory and the wait for the first token: a packed 7B model, started as a user starts it.

    pip install -r benchmarks/requirements.txt
    python benchmarks/cpu_memory.py --threads 2 --repeats 5 --out benchmarks/cpu_memory.md

The model is a Q4_0 GGUF file of random weights, repacked by `ostro quantize`. Every round runs `ostro generate` twice:
with a prompt of 16 tokens, timed from the start of the command to the first byte that it prints; and with a prompt of
512 tokens and 32 more, looking at the process's memory fifty times a second. What is resident of the model's files are
the weights; K/V of all tokens is taken off the rest; what then remains is what ostro itself needs. Linux only.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cpu_speed import default_work, say
from ostro import __version__, machine
from ostro.bench import find_shape
from ostro.config.model import ModelConfig
from peers.gguf_files import write_gguf
from peers.process import Observed, observe, read_through
from peers.rows import PeerError

SHORT, LONG, NEW_TOKENS = 16, 512, 32
_FIRST_WORD = 300  # ids below are bytes and control tokens


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--shape", default="mistral-7b", help="a shape that ostro bench knows (default %(default)s)")
    add("--layers", type=int, help="its first layers only (default all)")
    add("--threads", type=int, default=2, help="threads (default %(default)s)")
    add("--repeats", type=int, default=5, help="rounds (default %(default)s)")
    add("--out", type=Path, help="the Markdown page that is written (default: print it)")
    add("--work", type=Path, default=default_work(), help="where files are kept (default %(default)s)")
    return parser.parse_args()


def packed_folder(options: argparse.Namespace, config: ModelConfig) -> Path:
    """The packed model, made unless it is there."""
    name = f"{options.shape}-{config.num_hidden_layers}-layers"
    folder: Path = options.work / "packed" / name
    if not (folder / "config.json").is_file():
        source = write_gguf(options.work / "models" / f"{name}-Q4_0.gguf", config, "Q4_0", say)
        say(f"packing {source.name} into {folder}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        command = (sys.executable, "-m", "ostro", "quantize", source, "--bits", "4", "--out", folder, "--no-report")
        if status := subprocess.run(command, check=False).returncode:
            raise PeerError(f"ostro quantize ended with status {status}.")
    return folder


def generate(folder: Path, threads: int, num_prompt: int, num_new: int) -> list[str]:
    """The command that goes on behind a prompt of so many tokens, every one another."""
    ids = ",".join(str(_FIRST_WORD + place) for place in range(num_prompt))
    options = ("--threads", threads, "--temperature", 0, "--max-tokens", num_new, "--ignore-eos", "--keep-special")
    return [sys.executable, "-m", "ostro", "generate", "-m", str(folder), "--ids", ids, *map(str, options)]


def main() -> None:
    """Measure and write the page."""
    options = arguments()
    config = find_shape(options.shape, options.layers)
    load = os.getloadavg()[0]
    try:
        folder = packed_folder(options, config)
        size = read_through(folder)
        starts, memory = [], []
        for number in range(1, options.repeats + 1):
            starts.append(observe(generate(folder, options.threads, SHORT, 1)))
            memory.append(observe(generate(folder, options.threads, LONG, NEW_TOKENS), folder))
            say(f"round {number}: {starts[-1].first_output:.2f} s, {memory[-1].other / 1e6:.0f} MB beside the weights")
    except PeerError as error:
        raise SystemExit(f"cpu_memory.py: {error}") from error
    text = page(options, config, size, starts, memory, load)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")
        say(f"written to {options.out}")


def page(
    options: argparse.Namespace,
    config: ModelConfig,
    size: int,
    starts: Sequence[Observed],
    memory: Sequence[Observed],
    load: float,
) -> str:
    """The table as Markdown."""
    cache = config.kv_bytes_per_token("float16") * (LONG + NEW_TOKENS)
    beyond = [(each.other - cache) / 1e6 for each in memory]
    seconds = [each.first_output for each in starts]
    rows = [
        ("peak resident memory beyond weights and K/V", beyond, "MB", 300, 150, "{:.0f}"),
        (f"command start to first token, prompt of {SHORT} tokens", seconds, "s", 6, 4, "{:.2f}"),
    ]
    lines = [
        "# Memory and the wait for the first token",
        "",
        f"`python benchmarks/cpu_memory.py --shape {options.shape} --layers {config.num_hidden_layers} --threads "
        f"{options.threads} --repeats {options.repeats}`, {datetime.now(UTC).date()}: {machine.cpu_model()}, "
        f"{machine.memory().total / 1e9:.0f} GB, {platform.system()} {platform.release()}; ostro {__version__}, Python "
        f"{platform.python_version()}; load average before the start {load:.2f}.",
        "",
        f"{options.shape}, {config.num_hidden_layers} layers, 4 bits, {size / 1e9:.2f} GB of files in the page cache; "
        f"medians of {options.repeats} rounds, lowest and highest value in brackets.",
        "",
        "| what | measured | must reach | aim |",
        "|---|---|---|---|",
        *(_row(*row) for row in rows),
        "",
        f"- Memory is that of `ostro generate` with a prompt of {LONG} tokens and {NEW_TOKENS} more: at most "
        f"{statistics.median(each.weights for each in memory) / 1e9:.2f} GB of the model's files were resident, and "
        f"{cache / 1e6:.0f} MB are K/V of all tokens in float16. The rest is Python, libraries, activations, logits.",
    ]
    return "\n".join(lines) + "\n"


def _row(what: str, values: Sequence[float], unit: str, must: float, aim: float, form: str) -> str:
    show: Callable[[float], str] = form.format
    median = statistics.median(values)
    verdicts = [f"{bound} {unit}: {'' if median <= bound else 'not '}reached" for bound in (must, aim)]
    return f"| {what} | {show(median)} {unit} ({show(min(values))} to {show(max(values))}) | {' | '.join(verdicts)} |"


if __name__ == "__main__":
    main()
