"""Twenty steps of full training have the losses of the same training done with transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import make_model
from tiny_training import packed_batch, tiny_config

from ostro.finetune.batches import ListBatches
from ostro.finetune.metrics import read_metrics
from ostro.finetune.objective import Batch, LanguageModelling
from ostro.finetune.trainer import Trainer
from ostro.transformers import AutoModelForCausalLM, LoraConfig, apply_lora

STEPS, ACCUMULATION = 20, 2


def batches() -> list[Batch]:
    """Packed rows of which a part is trained, as conversations are."""
    out = [packed_batch(2, (9, 14, 7), seed=seed) for seed in range(8)]
    for seed, batch in enumerate(out):
        batch.loss_weights[:, 3 + seed :: 4] = 0
    return out


def losses_of_transformers(model: Any) -> list[float]:
    """The same run, written with transformers' model, torch's AdamW and transformers' schedule."""
    decays = [p for p in model.parameters() if p.requires_grad and p.dim() >= 2]
    norms = [p for p in model.parameters() if p.requires_grad and p.dim() < 2]
    groups = [{"params": side, "weight_decay": decay} for side, decay in ((decays, 0.1), (norms, 0.0)) if side]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, betas=(0.9, 0.95))
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 4, STEPS)
    data, losses = batches(), []
    for step in range(STEPS):
        parts = [data[(step * ACCUMULATION + i) % len(data)] for i in range(ACCUMULATION)]
        count = sum(float(part.loss_weights.sum()) for part in parts)
        total = 0.0
        for part in parts:
            labels = part.token_ids.masked_fill(part.loss_weights == 0, -100)
            inputs = {"input_ids": part.token_ids, "position_ids": part.position_ids, "labels": labels}
            out = model(**inputs, num_items_in_batch=count, use_cache=False)
            out.loss.backward()
            total += float(out.loss.detach())
        losses.append(total)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return losses


@pytest.mark.parametrize("variant", ["mistral-7b-v0.1", "mixtral", "llama-3.2"])
def test_losses_are_those_of_transformers(tmp_path: Path, variant: str) -> None:
    theirs = make_model(variant)
    theirs.save_pretrained(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="float32")
    config = tiny_config(
        tmp_path / "run", steps=STEPS, gradient_accumulation=ACCUMULATION, learning_rate=3e-3, weight_decay=0.1,
        betas=[0.9, 0.95], warmup_steps=4,
    )  # fmt: skip
    Trainer(config, model, LanguageModelling(), ListBatches(batches(), shuffle=False)).run()
    ours = [line["loss"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    expected = losses_of_transformers(theirs.train())
    assert ours == pytest.approx(expected, abs=1e-4)
    assert ours[-1] < ours[0] - 0.3  # and something was learnt


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_losses_with_an_adapter_are_those_of_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    theirs = make_model("mistral-7b-v0.3")
    theirs.save_pretrained(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="float32")
    targets = ["q_proj", "v_proj", "down_proj"]
    adapter = peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, lora_dropout=0.0)
    theirs = peft.get_peft_model(theirs, adapter)
    apply_lora(model, LoraConfig(r=4, lora_alpha=8, target_modules=tuple(targets)))
    drawn = {name.replace(".default", ""): p for name, p in theirs.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(drawn.pop(f"base_model.model.{name}"))
    assert not drawn
    config = tiny_config(
        tmp_path / "run", steps=STEPS, gradient_accumulation=ACCUMULATION, learning_rate=3e-3, weight_decay=0.1,
        betas=[0.9, 0.95], warmup_steps=4,
    )  # fmt: skip
    Trainer(config, model, LanguageModelling(), ListBatches(batches(), shuffle=False)).run()
    ours = [line["loss"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert ours == pytest.approx(losses_of_transformers(theirs.train()), abs=1e-4)
    assert ours[-1] < ours[0] - 0.05
