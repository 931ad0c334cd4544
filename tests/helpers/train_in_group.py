"""Trains a tiny model in as many processes as torchrun starts, and leaves the numbers in metrics.jsonl.

torchrun --nproc-per-node 2 train_in_group.py MODEL OUT      (beside the folder MODEL there is MODEL-mixture)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from ostro.finetune.batches import ListBatches
from ostro.finetune.config import TrainConfig
from ostro.finetune.distributed import Group, join, own_share, whole
from ostro.finetune.objective import Batch, LanguageModelling
from ostro.finetune.preference import DirectPreference, PreferenceBatch
from ostro.finetune.trainer import Trainer
from ostro.transformers import AutoModelForCausalLM, LoraConfig, apply_lora

RUNS = ("full", "bfloat16", "lora", "dpo", "mixture", "resumed")
ROWS = 4


def global_batches(count: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(3)
    out = []
    for _ in range(count):
        ids = torch.randint(3, 101, (ROWS, 12), generator=generator)
        weights = (torch.rand(ROWS, 12, generator=generator) > 0.4).float()
        weights[:, 0] = 0
        weights[:, -1] = 1
        weights[3] *= 0.5  # rows weigh differently, so that a mean of the processes' means would be wrong
        if len(out) == count - 1:
            weights[ROWS // 2 :] = 0  # the second process has nothing to train on
        out.append(Batch(ids, torch.arange(12).expand(ROWS, -1).contiguous(), weights))
    return out


def part(batch: Batch, rows: slice) -> Batch:
    return Batch(*(x[rows].contiguous() for x in (batch.token_ids, batch.position_ids, batch.loss_weights)))


def run(kind: str, model_folder: str, out: Path, group: Group, *, steps: int = 4, resume: bool = False) -> Any:
    share = ROWS // group.size
    mine = slice(share * group.rank, share * (group.rank + 1))
    batches: list[Any] = [part(batch, mine) for batch in global_batches(4)]
    if kind == "mixture":  # so few tokens that in each process there are experts whom nobody chooses
        batches = [
            Batch(*(x[:, -3:].contiguous() for x in (b.token_ids, b.position_ids, b.loss_weights))) for b in batches
        ]
    if kind == "dpo":
        batches = [PreferenceBatch(batch, torch.full((share // 2, 2), -40.0)) for batch in batches]
    config = TrainConfig.from_dict(
        {
            "model": model_folder, "output_dir": str(out / kind), "data": {"train": ["-"]}, "steps": steps,
            "learning_rate": 1e-2, "gradient_accumulation": 2, "max_grad_norm": 1.0, "schedule": "constant",
            "dtype": "bfloat16" if kind == "bfloat16" else "float32", "eval_every": 2, "device": "cpu",
        }
    )  # fmt: skip
    torch.manual_seed(0)
    if kind == "mixture":
        model_folder = f"{model_folder}-mixture"
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=config.dtype)
    if kind == "lora":
        apply_lora(model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]))
    elif kind == "full":
        model.gradient_checkpointing_enable()
    objective: Any = DirectPreference() if kind == "dpo" else LanguageModelling()
    trainer: Trainer[Any] = Trainer(
        config, model, objective, ListBatches(batches, shuffle=False), batches[:2], group=group
    )
    trainer.run(resume=resume)
    held = {
        "own": sum(own_share(master.detach()).numel() for master in trainer.optimizer.masters),
        "whole": sum(master.numel() for master in trainer.optimizer.masters),
    }
    (out / f"held-{group.rank}.json").write_text(json.dumps(held))
    return whole(dict(model.state_dict()))


def train(model_folder: str, out: Path, group: Group) -> None:
    """Every kind of run, and one that is resumed in its middle."""
    for kind in RUNS[:-1]:
        state = run(kind, model_folder, out, group)
        if group.is_main:
            torch.save(state, out / f"{kind}.pt")
    run("resumed", model_folder, out, group, steps=2)
    # `steps` changes the configuration, so the stored one is made to agree: what is tested is the state.
    if group.is_main:
        path = out / "resumed" / "checkpoints" / "step-00000002" / "state.json"
        path.write_text(path.read_text().replace('"steps": 2', '"steps": 4'))
    group.wait()
    run("resumed", model_folder, out, group, resume=True)


def main() -> None:
    torch.set_num_threads(1)
    group = join("cpu")
    train(sys.argv[1], Path(sys.argv[2]), group)
    group.close()


if __name__ == "__main__":
    main()
