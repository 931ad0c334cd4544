"""Trains ostro-mini from nothing: `python -m recipes.ostro_mini.train --out DIR`.

The stages are files of `ostro.finetune`: documents, short conversations, all conversations, more of the hard ones, both
together (six times, with other rates), answers that cite passages, long ones, preferences. Data, vocabulary and the
weights to begin with (`initial.py`) are made first. Whatever is there already is not made again, and a stage that was
interrupted (Ctrl-C, SIGTERM, a power cut) goes on at its newest checkpoint: the same command is given again. On one GPU:

    python -m recipes.ostro_mini.train --out DIR --stages recipes/ostro_mini/stages/gpu --size large --shards 16
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ostro import machine
from ostro.finetune import DpoConfig, TrainConfig, Watch, dpo, sft
from ostro.finetune.trainer import Progress, TrainingInterrupted
from recipes.ostro_mini import data, initial, tokenizer

HERE = Path(__file__).parent
STAGES = (
    "pretrain",
    "short",
    "sft",
    "dense",
    "mix",
    "more",
    "settle",
    "wide",
    "calls",
    "finish",
    "cited",
    "long",
    "dpo",
)
_FILES = {
    "pretrain": ("pretrain",), "short": ("short",), "sft": ("sft",), "dense": ("dense",),
    "mix": ("sft", "dense"), "more": ("sft", "dense"), "settle": ("sft", "dense"),
    "wide": ("sft", "dense"), "calls": ("sft", "dense"), "finish": ("sft", "dense"),
    "cited": ("cited",), "long": ("long",), "dpo": ("dpo",),
}  # fmt: skip
_COUNTS = {
    "pretrain": 60_000,
    "short": 60_000,
    "sft": 100_000,
    "dense": 100_000,
    "cited": 10_000,
    "long": 800,
    "dpo": 4_000,
    "heldout": 0,
}


def make_data(out: Path, shards: int, seed: int) -> Path:
    """`shards` times the files that `data.py` writes, each with a seed of its own, made side by side."""
    folders = [out / f"{number:02}" for number in range(shards)]
    missing = [(folder, seed + number) for number, folder in enumerate(folders) if not (folder / "done").exists()]
    if missing:
        with multiprocessing.get_context("spawn").Pool(min(len(missing), os.cpu_count() or 1)) as pool:
            pool.starmap(_make_shard, missing)
    return out


def _make_shard(folder: Path, seed: int) -> None:
    counts = [f"--{name}={count}" for name, count in _COUNTS.items()]
    data.main([f"--out={folder}", f"--seed={seed}", *counts])
    (folder / "done").touch()


def make_tokenizer(out: Path) -> Path:
    """The vocabulary, learnt unless it is there."""
    if not (out / "tokenizer.model").exists():
        tokenizer.main([f"--out={out}"])
    return out


def make_initial(out: Path, config: Path, vocabulary: Path, seed: int) -> Path:
    """The model that training begins with, and its vocabulary, unless they are there."""
    if not (out / "config.json").exists():
        initial.initial_model(config, seed).save_pretrained(out)
        for path in vocabulary.iterdir():
            shutil.copy(path, out)
    return out


def run_stage(name: str, stages: Path, out: Path, before: str, options: Sequence[str]) -> dict[str, Any]:
    """One stage, begun or gone on with; what it came to, as `stage.json` in its folder says.

    `before` is the model that it begins with.
    """
    folder = out / name
    note = folder / "stage.json"
    if note.exists():
        found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
        return found
    files = sorted(str(path) for each in _FILES[name] for path in (out / "data").glob(f"*/{each}.jsonl"))
    given = [f"output_dir={folder}", f"model={before}", f"data.train={json.dumps(files)}", *_of_stage(name, options)]
    resume = (folder / "checkpoints").is_dir()
    path, watch = stages / f"{name}.yaml", Watch(on_progress=_tell)
    if name == "dpo":
        result = dpo(DpoConfig.from_yaml(path, given), resume=resume, watch=watch)
    else:
        result = sft(TrainConfig.from_yaml(path, given), resume=resume, watch=watch)
    done = {
        "name": name, "path": str(result.path), "steps": result.steps, "tokens": result.tokens,
        "seconds": _seconds(folder / "metrics.jsonl"),
    }  # fmt: skip
    note.write_text(json.dumps(done) + "\n", encoding="utf-8")
    return done


def _tell(progress: Progress) -> None:
    if progress.step % 50 == 0:
        left = f"{progress.tokens_per_s:,.0f} tokens/s, {progress.seconds_left / 60:.0f} minutes left"
        print(f"step {progress.step} of {progress.total_steps}: loss {progress.loss:.3f}, {left}", flush=True)


def _of_stage(name: str, options: Sequence[str]) -> list[str]:
    """The options of a stage: those that name it ("sft.steps=900"), and those that name none.

    >>> _of_stage("sft", ["num_threads=2", "sft.steps=900", "dpo.steps=9"])
    ['num_threads=2', 'steps=900']
    """
    others = set(STAGES) - {name}
    return [option.removeprefix(f"{name}.") for option in options if option.partition(".")[0] not in others]


def _seconds(metrics: Path) -> float:
    """What the steps took, over all the times that the run was gone on with."""
    lines = (json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines())
    return float(sum(line.get("seconds", 0.0) for line in lines))


def train(
    out: Path, *, stages: Path, config: Path, shards: int, seed: int = 0, options: Sequence[str] = ()
) -> dict[str, Any]:
    """All stages; what `training.json` says at the end. `options` are keys of every stage, or of one."""
    make_data(out / "data", shards, seed)
    vocabulary = make_tokenizer(out / "tokenizer")
    before, notes = str(make_initial(out / "initial", config, vocabulary, seed)), []
    for name in STAGES:
        began = time.perf_counter()
        notes.append(run_stage(name, stages, out, before, options))
        before = notes[-1]["path"]
        print(f"{name}: {before} after {time.perf_counter() - began:.0f} s")
    training = {"machine": _machine(stages), "stages": notes, "path": before}
    (out / "training.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
    return training


def _machine(stages: Path) -> str:
    import torch

    on_gpu = stages.name == "gpu"
    name = torch.cuda.get_device_name() if on_gpu else f"{machine.cpu_model()}, {torch.get_num_threads()} threads"
    return f"Trained on {name}, PyTorch {torch.__version__}, in bfloat16 with float32 masters."


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stages", type=Path, default=HERE / "stages" / "cpu", help="folder of the stages' YAML files")
    parser.add_argument(
        "--size", default="small", choices=sorted(path.stem for path in (HERE / "sizes").glob("*.json"))
    )
    parser.add_argument("--shards", type=int, default=1, help="how many times as much data; one process makes each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="[STAGE.]KEY=VALUE",
        dest="options",
        help="of every stage or of one",
    )
    given = parser.parse_args(arguments)
    try:
        done = train(
            given.out,
            stages=given.stages,
            config=HERE / "sizes" / f"{given.size}.json",
            shards=given.shards,
            seed=given.seed,
            options=given.options,
        )
    except TrainingInterrupted as stop:
        raise SystemExit(f"{stop} Give the same command again.") from None
    print(f"The model is in {done['path']}. Next: python -m recipes.ostro_mini.export --help")


if __name__ == "__main__":
    main()
