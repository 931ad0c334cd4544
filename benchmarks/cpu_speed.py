"""Decode and prefill speed on the CPU: ostro, llama.cpp and others on the same shape, in turn, in one run.

    pip install -r benchmarks/requirements.txt
    python benchmarks/cpu_speed.py --shape mistral-7b --threads 2 --repeats 5 --out benchmarks/cpu_speed.md
    python benchmarks/cpu_speed.py --shape mixtral-8x7b --layers 4 --out benchmarks/cpu_speed.md
    python benchmarks/cpu_speed.py --render RESULTS.json --out benchmarks/cpu_speed.md     # the table once more

llama.cpp is built from the source package of llama-cpp-python (`--llama-bin` takes another build), OpenVINO GenAI is
installed into an environment of its own, ik_llama.cpp takes part where `--ik-bin` names a build of it. The peers get
GGUF files of random weights, ostro makes its own in memory. Every setting of every peer is measured once; the best two
of each engine for each row then run in rounds, alternating with ostro. What is built and written is kept in `--work`,
some 9 GB for a whole 7B shape, and so are the results, as JSON. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ostro import __version__, machine
from ostro.bench import find_shape
from ostro.config.model import ModelConfig
from ostro.ops.cpu import ceilings
from peers import llama_build, openvino_run
from peers.alternate import Session, finalists, key_of
from peers.gguf_files import FILE_TYPES, decode_bytes, prefill_operations, write_gguf
from peers.llama_run import ik_settings, ik_version, llama_settings, llama_version
from peers.ostro_run import DenseTwin, Ostro
from peers.results import Results, entries_of
from peers.rows import PROMPT, Engine, PeerError
from peers.table import merged, section

BITS = 4
LOOK_BYTES = 1 << 28
"""What a look at the memory reads: several times the last cache of most machines."""
TITLE = "# Speed on the CPU beside other engines\n"


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def default_work() -> Path:
    """The user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ostro-benchmarks"


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--shape", default="mistral-7b", help="a shape that ostro bench knows (default mistral-7b)")
    add("--layers", type=int, help="its first layers only: less memory, disk and time (default all)")
    add("--threads", type=int, default=2, help="threads of every engine (default 2)")
    add("--repeats", type=int, default=5, help="rounds (default 5)")
    add("--types", default="Q4_0,Q4_K", help=f"4-bit types of the GGUF files, of {','.join(FILE_TYPES)}")
    add("--finalists", type=int, default=2, help="settings of each engine and row that go into the rounds (default 2)")
    add("--out", type=Path, help="the Markdown page whose section of this shape is written anew (default: print it)")
    add(
        "--work",
        type=Path,
        default=default_work(),
        help="where builds, files and results are kept (default %(default)s)",
    )
    add("--llama-bin", type=Path, help="a folder with llama-bench, instead of building it")
    add("--llama-version", default=llama_build.VERSION, help="the llama-cpp-python that is built (default %(default)s)")
    add("--ik-bin", type=Path, help="a folder with ik_llama.cpp's llama-bench (default: it takes no part)")
    add("--no-openvino", action="store_true", help="leave OpenVINO GenAI out")
    add("--render", type=Path, help="write the table from saved results, measuring nothing")
    options = parser.parse_args(given)
    unknown = set(options.types.split(",")) - set(FILE_TYPES)
    if unknown:
        parser.error(f"--types: {', '.join(sorted(unknown))} is not one of {', '.join(FILE_TYPES)}")
    return options


def peers(options: argparse.Namespace, config: ModelConfig, session: Session) -> tuple[list[Engine], dict[str, str]]:
    """Every setting of every peer that is here, and the peers' versions. What is not here is noted."""
    engines: list[Engine] = []
    versions: dict[str, str] = {}
    llama = options.llama_bin or llama_build.build(options.work, options.llama_version, say)
    models = {kind: _model(options, config, kind) for kind in options.types.split(",")}
    engines += llama_settings(llama, models, options.threads)
    source = "" if options.llama_bin else f" (llama-cpp-python {options.llama_version})"
    versions["llama.cpp"] = llama_version(llama) + source
    if options.ik_bin:
        engines += ik_settings(options.ik_bin, models, options.threads)
        versions["ik_llama.cpp"] = ik_version(options.ik_bin, next(iter(models.values())))
    is_moe = config.num_local_experts > 0
    if is_moe:
        session.notes.append("OpenVINO GenAI takes no part: its GGUF reader knows no mixtures of experts.")
    elif not options.no_openvino:
        try:
            python = openvino_run.install(options.work, say)
            versions["OpenVINO GenAI"] = openvino_run.version(python)
            engines += openvino_run.openvino_settings(python, models, options.threads, config.vocab_size)
        except PeerError as error:
            session.notes.append(f"OpenVINO GenAI takes no part: {error}")
    return engines, versions


def _model(options: argparse.Namespace, config: ModelConfig, kind: str) -> Path:
    name = f"{options.shape}-{config.num_hidden_layers}-layers-{kind}.gguf"
    return write_gguf(options.work / "models" / name, config, kind, say)


def own_engines(options: argparse.Namespace, config: ModelConfig) -> Iterator[Ostro]:
    """ostro, and for a mixture of experts its dense twin."""
    layers = config.num_hidden_layers
    yield Ostro(options.shape, layers, BITS, options.threads)
    if config.num_local_experts:
        yield DenseTwin(options.shape, layers, BITS, options.threads)


def run(options: argparse.Namespace) -> Results:
    """Build, survey, measure in rounds."""
    start, load = time.monotonic(), os.getloadavg()[0]
    if load > 0.5:
        say(f"The load average is {load:.2f}: something else runs on this machine, and the numbers will show it.")
    config = find_shape(options.shape, options.layers)
    kinds = options.types.split(",")
    work = {kind: decode_bytes(config, kind) for kind in kinds}  # a mistake here is to show before hours of measuring
    operations = prefill_operations(config, PROMPT)
    session = Session(say, lambda: ceilings(options.threads, buffer_bytes=LOOK_BYTES, seconds=0.02))
    others, versions = peers(options, config, session)
    say("every setting once")
    session.survey(others)
    ours = list(own_engines(options, config))
    wanted = finalists(session.surveyed, options.finalists) | {key_of(engine): engine.rows for engine in ours}
    session.rounds([*ours, *others], wanted, options.repeats)
    return Results(
        shape=options.shape,
        layers=config.num_hidden_layers,
        all_layers=find_shape(options.shape).num_hidden_layers,
        threads=options.threads,
        repeats=options.repeats,
        date=datetime.now(UTC).date().isoformat(),
        command=shlex.join(["python", "benchmarks/cpu_speed.py", *_shown(options)]),
        minutes=(time.monotonic() - start) / 60,
        load=load,
        machine={
            "cpu": machine.cpu_model(),
            "memory_gb": machine.memory().total / 1e9,
            "system": f"{platform.system()} {platform.release()}",
        },
        versions={"ostro": __version__, **versions, "Python": platform.python_version()},
        decode_bytes=work,
        prefill_operations=operations,
        entries=entries_of(session),
        notes=session.notes,
        reports=ours[0].reports,
    )


def _shown(options: argparse.Namespace) -> list[str]:
    """The options that decide what is measured; folders of this machine are of no use to others."""
    shown = ["--shape", options.shape]
    shown += [] if options.layers is None else ["--layers", str(options.layers)]
    shown += ["--threads", str(options.threads), "--repeats", str(options.repeats), "--types", options.types]
    return shown + (["--ik-bin", "DIR"] if options.ik_bin else []) + ["--no-openvino"] * options.no_openvino


def main() -> None:
    """Measure, keep the results, write the table."""
    options = arguments()
    if options.render:
        results = Results.load_from(options.render)
    else:
        try:
            results = run(options)
        except PeerError as error:
            raise SystemExit(f"cpu_speed.py: {error}") from error
        kept = options.work / "results" / f"{results.shape}-{results.layers}-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        results.save(kept)
        say(f"results kept in {kept}")
    if options.out is None:
        print(section(results))
        return
    page = options.out.read_text(encoding="utf-8") if options.out.is_file() else TITLE
    options.out.write_text(merged(page, results), encoding="utf-8")
    say(f"table written to {options.out}")


if __name__ == "__main__":
    main()
