"""Classification heads beside transformers' own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import COMMON, VARIANTS

import ostro.transformers as ours
from ostro.errors import RequestError
from ostro.transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

FAMILIES = {"mistral": "mistral-7b-v0.1", "mixtral": "mixtral", "llama": "llama-3.1"}


def saved(folder: Path, family: str, kind: str, **values: Any) -> Any:
    """A random transformers model with that head, saved to the folder."""
    numbers = {**COMMON, **VARIANTS[FAMILIES[family]][1], **values}
    name = family.capitalize()
    torch.manual_seed(11)
    model = getattr(transformers, f"{name}For{kind}")(getattr(transformers, f"{name}Config")(**numbers)).eval()
    with torch.no_grad():
        for parameter in model.score.parameters():
            parameter.normal_(std=0.5)
    model.save_pretrained(folder)
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, 101, (3, 14), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    ids[1, :4], mask[1, :4] = 0, 0
    ids[2, 9:], mask[2, 9:] = 0, 0
    return ids, mask


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("num_labels", "labels"),
    [
        (3, torch.tensor([0, 2, 1])),
        (3, torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0]])),
        (1, torch.tensor([0.3, -1.0, 2.0])),
        (1, torch.tensor([[0.3], [-1.0], [2.0]])),
    ],
    ids=["single", "multi", "regression", "regression-column"],
)
def test_sequence_classification(family: str, num_labels: int, labels: torch.Tensor, tmp_path: Path) -> None:
    theirs = saved(tmp_path, family, "SequenceClassification", num_labels=num_labels, pad_token_id=0)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(model).__name__ == type(theirs).__name__
    ids, mask = batch()
    for labelled in (None, labels):
        a, b = (m(ids, attention_mask=mask, labels=labelled) for m in (model, theirs))
        assert (a.logits - b.logits).abs().max() <= 1e-5 * b.logits.abs().max()
    assert a.loss.item() == pytest.approx(b.loss.item(), rel=1e-5)
    a.loss.backward()
    b.loss.backward()
    assert (model.score.weight.grad - theirs.score.weight.grad).abs().max() <= 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_token_classification(family: str, tmp_path: Path) -> None:
    theirs = saved(tmp_path, family, "TokenClassification", num_labels=5)
    model = AutoModelForTokenClassification.from_pretrained(tmp_path)
    ids, mask = batch()
    labels = torch.randint(0, 5, ids.shape).masked_fill(mask == 0, -100)
    a, b = (m(ids, attention_mask=mask, labels=labels) for m in (model, theirs))
    assert (a.logits - b.logits)[mask.bool()].abs().max() <= 1e-5 * b.logits.abs().max()
    assert a.loss.item() == pytest.approx(b.loss.item(), rel=1e-5)


def test_one_row_needs_no_pad_token_and_more_do(tmp_path: Path) -> None:
    theirs = saved(tmp_path, "llama", "SequenceClassification", num_labels=2)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    ids, mask = batch()
    with torch.no_grad():
        assert torch.allclose(model(ids[:1]).logits, theirs(ids[:1]).logits, atol=1e-5)
        with pytest.raises(RequestError, match="pad_token_id"):
            model(ids)
        embedded = model(inputs_embeds=model.get_input_embeddings()(ids), attention_mask=mask).logits
        model.config.pad_token_id = 0
        assert torch.allclose(embedded, model(ids, attention_mask=mask).logits, atol=1e-5)


def test_a_new_head_is_random_and_said_to_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "causal"
    transformers.MistralForCausalLM(
        transformers.MistralConfig(**COMMON, **VARIANTS["mistral-7b-v0.1"][1])
    ).save_pretrained(folder)
    with caplog.at_level(logging.WARNING, logger="ostro"):
        model = ours.MistralForSequenceClassification.from_pretrained(folder, num_labels=4)
    assert "score.weight" in caplog.text
    assert model.score.weight.shape == (4, 32)
    assert model.score.weight.std() > 0.1  # initializer_range is 0.3
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2", 3: "LABEL_3"}
    model.save_pretrained(tmp_path / "classifier")
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "classifier")
    ids, _ = batch()
    with torch.no_grad():
        assert torch.allclose(model(ids[:1]).logits, again(ids[:1]).logits, atol=1e-5)
    caplog.clear()
    ours.MistralForSequenceClassification.from_pretrained(tmp_path / "classifier")
    assert not caplog.records
