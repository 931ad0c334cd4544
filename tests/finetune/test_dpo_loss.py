"""The preference losses beside the formulas written out, one pair at a time, with transformers' models."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from preference_pairs import Pair, pairs, rows_of, theirs_logprob
from tiny import make_model

from ostro.finetune.config_reader import BadKey
from ostro.finetune.objective import Batch
from ostro.finetune.preference import DirectPreference, PreferenceBatch, answer_logprobs
from ostro.finetune.sections import DpoSection
from ostro.transformers import AutoModelForCausalLM


def written_out(policy: Any, reference: Any, batch: list[Pair], settings: DpoSection) -> torch.Tensor:
    """The mean loss, as the papers print it."""
    losses = []
    for prompt, chosen, rejected in batch:
        c, r = theirs_logprob(policy, prompt, chosen), theirs_logprob(policy, prompt, rejected)
        with torch.no_grad():
            c0, r0 = theirs_logprob(reference, prompt, chosen), theirs_logprob(reference, prompt, rejected)
        if settings.loss_type == "ipo":
            h = (c - c0) / len(chosen) - (r - r0) / len(rejected)
            loss = (h - 1 / (2 * settings.beta)) ** 2
        else:
            h = settings.beta * ((c - c0) - (r - r0))
            right, wrong = torch.log(1 / (1 + torch.exp(-h))), torch.log(1 / (1 + torch.exp(h)))
            loss = -(1 - settings.label_smoothing) * right - settings.label_smoothing * wrong
        losses.append(loss - settings.chosen_weight * c / len(chosen))
    return torch.stack(losses).mean()


def with_reference(model: Any, rows: Batch) -> PreferenceBatch:
    with torch.no_grad():
        sums, _ = answer_logprobs(model, rows)
    return PreferenceBatch(rows, sums.view(-1, 2))


@pytest.fixture
def both(tmp_path: Path) -> tuple[Any, Any]:
    """The same random model as ours and as transformers'."""
    theirs = make_model("mistral-7b-v0.1", initializer_range=0.1)
    theirs.save_pretrained(tmp_path)
    return AutoModelForCausalLM.from_pretrained(tmp_path), theirs


SETTINGS = [
    DpoSection(),
    DpoSection(beta=0.4, label_smoothing=0.1),
    DpoSection(beta=0.3, chosen_weight=0.5),
    DpoSection(beta=0.7, loss_type="ipo"),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "smoothed", "chosen", "ipo"])
def test_steps_are_those_of_the_formula(both: tuple[Any, Any], settings: DpoSection) -> None:
    ours, theirs = both
    reference = copy.deepcopy(theirs)
    data = pairs(6)
    batches = [with_reference(ours, rows_of(data[i : i + 3])) for i in (0, 3)]
    mine, his = (torch.optim.AdamW(m.parameters(), lr=3e-3, weight_decay=0.01) for m in (ours, theirs))
    objective = DirectPreference(settings, chunk_rows=7)
    seen = []
    for step in range(20 if settings == DpoSection() else 4):
        part = step % 2
        output = objective.loss(ours, batches[part])
        assert output.weight == 3
        (output.loss / output.weight).backward()
        wanted = written_out(theirs, reference, data[3 * part : 3 * part + 3], settings)
        wanted.backward()
        assert float(output.loss.detach()) / 3 == pytest.approx(wanted.item(), rel=1e-4, abs=1e-5)
        for optimizer in (mine, his):
            optimizer.step()
            optimizer.zero_grad()
        seen.append(wanted.item())
    assert seen[-1] < seen[0]


def test_it_begins_at_ln_2_with_a_gradient(both: tuple[Any, Any]) -> None:
    ours, _ = both
    output = DirectPreference().loss(ours, with_reference(ours, rows_of(pairs(4))))
    assert float(output.loss.detach()) / 4 == pytest.approx(math.log(2), abs=1e-6)
    assert output.metrics["rewards_margin"] == pytest.approx(0, abs=1e-5)
    output.loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in ours.model.layers.parameters())


def test_rewards_and_accuracy_are_sums_over_pairs(both: tuple[Any, Any]) -> None:
    ours, theirs = both
    data = pairs(5)
    rows = rows_of(data)
    shift = torch.tensor([[1.0, -1.0], [-2.0, 0.0], [0.5, 0.0], [0.0, -3.0], [0.0, 0.0]])
    batch = with_reference(ours, rows)
    moved = PreferenceBatch(rows, batch.reference - shift)
    output = DirectPreference(DpoSection(beta=0.5)).loss(ours, moved)
    margins = 0.5 * (shift[:, 0] - shift[:, 1])
    assert output.metrics["rewards_chosen"] == pytest.approx(0.5 * float(shift[:, 0].sum()), abs=1e-4)
    assert output.metrics["rewards_rejected"] == pytest.approx(0.5 * float(shift[:, 1].sum()), abs=1e-4)
    assert output.metrics["rewards_margin"] == pytest.approx(float(margins.sum()), abs=1e-4)
    assert output.metrics["rewards_accuracy"] in (3, 4)  # the fifth margin is a rounding error around 0
    with torch.no_grad():
        wanted = sum(float(theirs_logprob(theirs, prompt, chosen)) for prompt, chosen, _ in data)
    assert output.metrics["logprobs_chosen"] == pytest.approx(wanted, rel=1e-5)


def test_rows_without_trained_tokens_count_as_nothing(both: tuple[Any, Any]) -> None:
    """A process that was left without pairs takes part with a loss of 0 and gradients of 0."""
    ours, _ = both
    rows = rows_of(pairs(2))
    whole = with_reference(ours, rows)
    empty = Batch(rows.token_ids, rows.position_ids, torch.zeros_like(rows.loss_weights))
    output = DirectPreference().loss(ours, PreferenceBatch(empty, whole.reference))
    output.loss.backward()
    assert (float(output.loss.detach()), output.weight) == (0, 0)
    assert all(p.grad is None or not p.grad.any() for p in ours.parameters())
    half = rows.loss_weights.clone()
    half[2:] = 0
    one = DirectPreference().loss(ours, PreferenceBatch(Batch(*_first_two(rows), half), whole.reference))
    assert one.weight == 1
    assert float(one.loss.detach()) == pytest.approx(math.log(2), abs=1e-6)


def _first_two(rows: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    return rows.token_ids, rows.position_ids


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"beta": 0.0}, "beta"),
        ({"label_smoothing": 0.5}, "label_smoothing"),
        ({"label_smoothing": 0.1, "loss_type": "ipo"}, "label_smoothing"),
        ({"chosen_weight": -1.0}, "chosen_weight"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, Any], key: str) -> None:
    with pytest.raises(BadKey, match=key):
        DpoSection(**values)
