"""Optimizer, schedule and the chunked loss, each against its independent counterpart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_training import tiny_batches, tiny_config
from torch import nn

from ostro.errors import CheckpointError
from ostro.finetune.linear_loss import linear_cross_entropy
from ostro.finetune.muon import orthogonalized
from ostro.finetune.optimizer import Optimizer
from ostro.finetune.schedule import Schedule


class Small(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(4, 3).to(dtype))
        self.norm = nn.Parameter(torch.ones(3).to(dtype))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)


def gradients(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(4, 3, generator=generator), torch.randn(3, generator=generator)


def test_updates_are_those_of_adamw_with_clipping() -> None:
    ours, theirs = Small(torch.float32), Small(torch.float32)
    config = tiny_config(Path("unused"), weight_decay=0.1, max_grad_norm=0.5, betas=[0.9, 0.95])
    optimizer = Optimizer(ours.named_parameters(), config)
    groups: list[dict[str, Any]] = [
        {"params": [theirs.matrix], "weight_decay": 0.1}, {"params": [theirs.norm], "weight_decay": 0.0},
    ]  # fmt: skip
    oracle = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8)
    for step in range(5):
        for model in (ours, theirs):
            model.matrix.grad, model.norm.grad = gradients(step)
        norm = nn.utils.clip_grad_norm_([theirs.matrix, theirs.norm], 0.5)
        oracle.step()
        ours.matrix.grad *= 7.0  # the sum over a weight of 7
        ours.norm.grad *= 7.0
        optimizer.collect(last=True)
        assert optimizer.step(0.01, 7.0) == pytest.approx(float(norm), rel=1e-5)
    assert torch.allclose(ours.matrix, theirs.matrix, atol=1e-6)
    assert torch.allclose(ours.norm, theirs.norm, atol=1e-6)
    assert torch.equal(ours.frozen, torch.ones(2))


class Layered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(9, 16)
        self.up_proj = nn.Linear(16, 24)
        self.lm_head = nn.Linear(24, 9, bias=False)


def gradients_of(model: nn.Module, step: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(each.shape, generator=generator) for each in model.parameters()]


def test_muon_updates_the_matrices_of_layers_and_adamw_the_rest() -> None:
    muon, adamw = Layered(), Layered()
    settings: list[dict[str, Any]] = [{"optimizer": "muon"}, {}]
    for model, chosen in zip((muon, adamw), settings, strict=True):
        config = tiny_config(Path("unused"), weight_decay=0.1, max_grad_norm=0, **chosen)
        optimizer = Optimizer(model.named_parameters(), config)
        for step in range(4):
            for parameter, grad in zip(model.parameters(), gradients_of(model, step), strict=True):
                parameter.grad = grad
            optimizer.step(0.01, 1.0)
    start = Layered().up_proj.weight.detach().clone()
    oracle = nn.Parameter(start.clone())
    theirs = torch.optim.Muon([oracle], weight_decay=0.1, adjust_lr_fn="match_rms_adamw", lr=0.01)
    for step in range(4):
        oracle.grad = dict(zip(dict(muon.named_parameters()), gradients_of(muon, step), strict=True))["up_proj.weight"]
        theirs.step()
    ours, other = (each.detach() - start for each in (muon.up_proj.weight, oracle))
    assert torch.cosine_similarity(ours.flatten(), other.flatten(), dim=0) > 0.999  # both round to bfloat16
    assert ours.norm() == pytest.approx(float(other.norm()), rel=0.01)
    for name, parameter in muon.named_parameters():
        assert torch.equal(parameter, adamw.get_parameter(name)) == (name != "up_proj.weight")


@pytest.mark.parametrize("shape", [(8, 8), (3, 5, 24), (2, 24, 5)])
def test_orthogonalized_matrices_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalized(matrices).float()
    sizes = torch.linalg.svdvals(found)
    assert sizes.min() > 0.6
    assert sizes.max() < 1.3
    assert torch.cosine_similarity(found.flatten(-2), (left @ right).flatten(-2), dim=-1).min() > 0.97


def test_updates_too_small_for_bfloat16_are_not_lost() -> None:
    model = Small(torch.bfloat16)
    optimizer = Optimizer(model.named_parameters(), tiny_config(Path("unused"), max_grad_norm=0))
    for _ in range(100):
        model.norm.grad, model.matrix.grad = torch.ones_like(model.norm), torch.zeros_like(model.matrix)
        optimizer.step(1e-4, 1.0)  # 1 - 1e-4 is 1 in bfloat16
    assert model.norm.tolist() == pytest.approx([0.99] * 3, abs=4e-3)


def test_gradients_of_micro_batches_are_summed() -> None:
    models = [Small(torch.float32), Small(torch.float32)]
    optimizers = [Optimizer(m.named_parameters(), tiny_config(Path("unused"))) for m in models]
    for step in range(3):
        models[0].matrix.grad, models[0].norm.grad = gradients(step)
        optimizers[0].collect(last=step == 2)
    models[1].matrix.grad, models[1].norm.grad = (sum(side) for side in zip(*map(gradients, range(3)), strict=True))
    optimizers[1].collect(last=True)
    assert optimizers[0].step(0.1, 3.0) == pytest.approx(optimizers[1].step(0.1, 3.0))
    assert torch.allclose(models[0].matrix, models[1].matrix, atol=1e-6)


@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0, 7])
def test_schedules_are_those_of_transformers(name: Any, warmup: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    kind = name if name != "constant" else "constant_with_warmup"
    oracle = transformers.get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=40)
    ours = Schedule(name, 0.5, 40, warmup)
    for step in range(40):
        assert ours(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        oracle.step()


def test_a_schedule_ends_at_its_smallest_rate() -> None:
    config = tiny_config(Path("unused"), min_lr_ratio=0.1, warmup_ratio=0.25, steps=100)
    schedule = Schedule.of(config, 100)
    assert schedule.warmup_steps == 25
    assert schedule(25) == pytest.approx(1e-2)
    assert schedule(100) == pytest.approx(1e-3)


class Doubled(nn.Linear):
    """A module that is no plain linear layer, as one with an adapter is none."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize("kind", [nn.Linear, Doubled])
@settings(max_examples=15)
@given(rows=st.integers(0, 9), chunk=st.integers(1, 10), seed=st.integers(0, 100))
def test_the_chunked_loss_is_cross_entropy(kind: type[nn.Linear], rows: int, chunk: int, seed: int) -> None:
    torch.manual_seed(seed)
    head = kind(6, 11, bias=False)
    hidden = torch.randn(rows, 6, requires_grad=True)
    targets, weights = torch.randint(0, 11, (rows,)), torch.rand(rows)
    expected = (F.cross_entropy(head(hidden), targets, reduction="none") * weights).sum()
    loss = linear_cross_entropy(head, hidden, targets, weights, chunk)
    assert torch.allclose(loss, expected, atol=1e-5)
    both = [torch.autograd.grad(3 * x, (hidden, head.weight), allow_unused=True) for x in (loss, expected)]
    for ours, theirs in zip(*both, strict=True):
        assert torch.allclose(ours if ours is not None else torch.zeros_like(theirs), theirs, atol=1e-5)


def test_the_order_of_batches_is_restored() -> None:
    batches = tiny_batches(count=5)
    for _ in range(7):
        batches.next()
    state = batches.state()
    ahead = [batches.next() for _ in range(6)]
    again = tiny_batches(count=5)
    again.restore(state)
    assert again.epoch == pytest.approx(1.4)
    for ours, theirs in zip(ahead, [again.next() for _ in range(6)], strict=True):
        assert torch.equal(ours.token_ids, theirs.token_ids)
    with pytest.raises(CheckpointError, match="length 5"):
        tiny_batches(count=4).restore(state)
