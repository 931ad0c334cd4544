"""Every architecture on every backend against transformers: logits and 64 greedy tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from dense import dense_logits
from tiny import VARIANTS, make_model

from ostro.checkpoint.open import open_checkpoint
from ostro.models.load import load_weights
from ostro.ops import BACKENDS, get_ops

PROMPT = [1, *np.random.default_rng(7).integers(3, 101, size=40).tolist()]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_equal_transformers(variant: str, backend: str, tiny_checkpoint: Callable[[str], Path]) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint(variant))
    ops = get_ops(backend)
    weights = load_weights(ops, checkpoint.config, checkpoint.tensors)
    ours = dense_logits(ops, checkpoint.config, weights, PROMPT)
    with torch.no_grad():
        theirs = make_model(variant)(torch.tensor([PROMPT])).logits[0].numpy()
    assert np.abs(ours - theirs).max() <= 2e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_expert_that_all_choose_and_one_that_none_chooses(backend: str, tmp_path: Path) -> None:
    """The first channel is large for every token, and the first layer's router looks at it for experts 3 and 5."""
    model = make_model("mixtral")
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 50.0
        model.model.layers[0].input_layernorm.weight[0] = 0.0  # attention does not see the channel
        router = model.model.layers[0].mlp.gate.weight
        router[3], router[5] = 0.0, 0.0
        router[3, 0], router[5, 0] = 9.0, -9.0
        theirs = model(torch.tensor([PROMPT]), output_router_logits=True)
    chosen = theirs.router_logits[0].topk(2, dim=-1).indices
    assert bool((chosen == 3).any(dim=-1).all())
    assert not bool((chosen == 5).any())
    model.save_pretrained(tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    ops = get_ops(backend)
    weights = load_weights(ops, checkpoint.config, checkpoint.tensors)
    ours = dense_logits(ops, checkpoint.config, weights, PROMPT)
    expected = theirs.logits[0].numpy()
    assert np.abs(ours - expected).max() <= 2e-5 * np.abs(expected).max()


def test_the_window_is_shorter_than_the_prompt_and_matters() -> None:
    with torch.no_grad():
        windowed = make_model("mistral-7b-v0.1")(torch.tensor([PROMPT])).logits[0]
        full = make_model("mistral-7b-v0.1", sliding_window=None)(torch.tensor([PROMPT])).logits[0]
    assert torch.allclose(windowed[:9], full[:9], atol=1e-5)
    assert (windowed[-1] - full[-1]).abs().max() > 0.1


def test_mixtral_routing_is_uneven() -> None:
    with torch.no_grad():
        out = make_model("mixtral")(torch.tensor([PROMPT]), output_router_logits=True)
    chosen = torch.stack(out.router_logits).topk(2, dim=-1).indices.flatten()
    counts = torch.bincount(chosen, minlength=8)
    assert counts.max() >= 2 * counts.min()
