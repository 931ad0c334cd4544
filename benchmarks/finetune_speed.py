"""Training speed and memory beside transformers and peft: the same rows, the same model, in turn.

    pip install -r benchmarks/requirements.txt
    python benchmarks/finetune_speed.py --threads 2 --repeats 3 --out benchmarks/finetune_speed.md

A Mistral of the given shape with random weights is trained in bfloat16 on packed rows, of which about a third of the
tokens is trained, as in conversations. Every measurement is a process of its own: one step to warm up, then `--steps`
that are timed. What transformers does is what its Trainer does with `bf16=True` (full: float32 weights under autocast)
and with peft over bfloat16 weights (lora); both have PyTorch's fused AdamW. QLoRA is measured on ostro alone, for
bitsandbytes' 4-bit layers are for GPUs; `ostro finetune --dry-run` counts what it would take beforehand.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

LORA = {
    "r": 16,
    "alpha": 32.0,
    "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}
ARMS = (("ostro", "full"), ("transformers", "full"), ("ostro", "lora"), ("transformers", "lora"), ("ostro", "qlora"))
LEARNING_RATE = 1e-4


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--hidden", type=int, default=1024, help="hidden size; the rest is a Mistral 7B in proportion")
    add("--layers", type=int, default=4, help="layers (default %(default)s)")
    add("--vocab", type=int, default=32768, help="vocabulary (default %(default)s)")
    add("--length", type=int, default=2048, help="tokens of a row (default %(default)s)")
    add("--sequence", type=int, default=300, help="mean tokens of a sequence in a row (default %(default)s)")
    add("--steps", type=int, default=4, help="timed steps (default %(default)s)")
    add("--threads", type=int, default=2, help="threads (default %(default)s)")
    add("--repeats", type=int, default=3, help="rounds (default %(default)s)")
    add("--out", type=Path, help="the Markdown page that is written (default: print it)")
    add("--child", nargs=3, metavar=("LIBRARY", "METHOD", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args(given)


def rows(options: argparse.Namespace) -> Iterator[tuple[Any, Any, Any]]:
    """token_ids, position_ids, loss_weights of each step, all (1, T), the same for everybody."""
    rng = np.random.default_rng(0)
    for _ in range(options.steps + 1):
        lengths: list[int] = []
        while sum(lengths) < options.length:
            drawn = int(rng.lognormal(np.log(options.sequence), 0.5))
            lengths.append(max(2, min(drawn, options.length - sum(lengths))))
        positions = np.concatenate([np.arange(length) for length in lengths])[: options.length]
        ids = rng.integers(3, options.vocab, options.length)
        parts = [np.arange(length) >= length * 2 // 3 for length in lengths]
        weights = np.concatenate(parts)[: options.length] & (positions > 0)
        yield ids[None], positions[None], weights[None].astype(np.float32)


def save_model(options: argparse.Namespace, folder: Path) -> None:
    """Random weights in the shape, as a folder that both read."""
    import torch

    from ostro.transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    heads = max(1, options.hidden // 128)
    config = MistralConfig(
        vocab_size=options.vocab, hidden_size=options.hidden, intermediate_size=options.hidden * 7 // 2,
        num_hidden_layers=options.layers, num_attention_heads=heads, num_key_value_heads=max(1, heads // 4),
        head_dim=options.hidden // heads, sliding_window=None, max_position_embeddings=8192,
    )  # fmt: skip
    MistralForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def train_ostro(options: argparse.Namespace, method: str, folder: Path) -> Iterator[float]:
    """The loss after each step."""
    import torch

    from ostro.finetune.batches import ListBatches
    from ostro.finetune.config import TrainConfig
    from ostro.finetune.model import trainable_model
    from ostro.finetune.objective import Batch, LanguageModelling
    from ostro.finetune.optimizer import Optimizer

    values = {
        "model": str(folder), "output_dir": "unused", "method": method, "steps": options.steps + 1,
        "learning_rate": LEARNING_RATE, "data": {"train": "unused", "max_length": options.length},
    }  # fmt: skip
    if method != "full":
        values["lora"] = {"r": LORA["r"], "alpha": LORA["alpha"], "target_modules": LORA["targets"]}
    config = TrainConfig.from_dict(values)
    model = trainable_model(config, torch.device("cpu")).train()
    optimizer, objective = Optimizer(model.named_parameters(), config), LanguageModelling()
    batches = ListBatches([Batch(*map(torch.from_numpy, row)) for row in rows(options)], shuffle=False)
    for _ in range(options.steps + 1):
        output = objective.loss(model, batches.next())
        torch.autograd.backward(output.loss)
        optimizer.collect(last=True)
        optimizer.step(LEARNING_RATE, output.weight)
        yield float(output.loss.detach()) / output.weight


def train_transformers(options: argparse.Namespace, method: str, folder: Path) -> Iterator[float]:
    """The same with transformers and peft."""
    import torch
    import transformers

    dtype = torch.float32 if method == "full" else torch.bfloat16
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).train()
    if method == "lora":
        import peft

        adapter = peft.LoraConfig(r=LORA["r"], lora_alpha=LORA["alpha"], target_modules=LORA["targets"])
        model = peft.get_peft_model(model, adapter)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    for ids, positions, weights in rows(options):
        labels = torch.from_numpy(np.where(weights > 0, ids, -100))
        inputs = {"input_ids": torch.from_numpy(ids), "position_ids": torch.from_numpy(positions), "labels": labels}
        with torch.autocast("cpu", torch.bfloat16, enabled=method == "full"):
            loss = model(**inputs, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield float(loss.detach())


def child(options: argparse.Namespace) -> None:
    """One measurement, as a JSON line."""
    import torch

    torch.set_num_threads(options.threads)
    library, method, folder = options.child
    train = train_ostro if library == "ostro" else train_transformers
    losses, clock = [], (0.0, 0.0)
    for step, loss in enumerate(train(options, method, Path(folder))):
        if step == 0:
            clock = (time.perf_counter(), time.process_time())
        losses.append(loss)
    wall, cpu = time.perf_counter() - clock[0], time.process_time() - clock[1]
    tokens = options.steps * options.length
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"tokens_per_s": tokens / wall, "tokens_per_cpu_s": tokens / cpu, "peak": peak, "losses": losses}))


def measure(options: argparse.Namespace, library: str, method: str, folder: Path) -> dict[str, Any]:
    """One measurement in a process of its own; its end with an error is ours."""
    numbers = ("hidden", "layers", "vocab", "length", "sequence", "steps", "threads")
    shape = [word for name in numbers for word in (f"--{name}", str(getattr(options, name)))]
    command = [sys.executable, __file__, *shape, "--child", library, method, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{library:13}{method:6}{found['tokens_per_s']:9.1f} tokens/s  {found['peak'] / 1e6:8.0f} MB", file=sys.stderr
    )
    return found


def check_losses(runs: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
    """Both libraries must have trained the same: bfloat16 leaves a percent."""
    for method in ("full", "lora"):
        ours, theirs = (runs[library, method][0]["losses"] for library in ("ostro", "transformers"))
        assert np.allclose(ours, theirs, rtol=0.01), f"{method}: {ours} beside {theirs}"


def page(options: argparse.Namespace, runs: dict[tuple[str, str], list[dict[str, Any]]], load: float) -> str:
    """The table."""
    from ostro import __version__, machine

    versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers", "peft"))
    lines = [
        "# Training beside transformers and peft",
        "",
        f"`python benchmarks/finetune_speed.py --hidden {options.hidden} --layers {options.layers} "
        f"--vocab {options.vocab} --length {options.length} --sequence {options.sequence} --threads "
        f"{options.threads} --repeats {options.repeats}`, {datetime.now(UTC):%Y-%m-%d}: {machine.cpu_model()}, "
        f"{platform.system()} {platform.release()}; ostro {__version__}, {versions}; "
        f"load average before the start {load:.2f}.",
        "",
        "Medians; lowest and highest of the rounds in brackets. A core-second is one of processor time: it does not "
        "count what other programs took.",
        "",
        "| training | library | tokens/s | tokens per core-second | peak memory |",
        "|---|---|---|---|---|",
    ]
    for library, method in ARMS:
        found = runs[library, method]
        cells = [_spread(found, key, scale) for key, scale in (("tokens_per_s", 1), ("tokens_per_cpu_s", 1))]
        lines.append(f"| {method} | {library} | {' | '.join(cells)} | {_spread(found, 'peak', 1e-6)} MB |")
    for method in ("full", "lora"):
        pairs = zip(runs["ostro", method], runs["transformers", method], strict=True)
        ratio = statistics.median(a["tokens_per_cpu_s"] / b["tokens_per_cpu_s"] for a, b in pairs)
        lines += ["", f"- {method}: {ratio:.2f} x the tokens per core-second of transformers, round by round."]
    return "\n".join(lines) + "\n"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _spread(found: list[dict[str, Any]], key: str, scale: float) -> str:
    values = sorted(one[key] * scale for one in found)
    return f"{statistics.median(values):.0f} ({values[0]:.0f} to {values[-1]:.0f})"


def main() -> None:
    """All measurements in turn, then the page."""
    options = arguments()
    if options.child:
        child(options)
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "model"
        save_model(options, folder)
        runs: dict[tuple[str, str], list[dict[str, Any]]] = {arm: [] for arm in ARMS}
        for _ in range(options.repeats):
            for library, method in ARMS:
                runs[library, method].append(measure(options, library, method, folder))
    check_losses(runs)
    text = page(options, runs, load)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
