"""The whole engine against transformers: 64 greedy tokens, every architecture, every backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import VARIANTS, make_model

from ostro import LLM, SamplingParams
from ostro.ops import BACKENDS

PROMPTS = [
    [1, *np.random.default_rng(seed).integers(3, 101, size=length).tolist()] for seed, length in ((1, 5), (2, 37))
]


@pytest.fixture(scope="module")
def expected() -> dict[str, list[list[int]]]:
    """What transformers generates, each prompt alone, for every variant."""
    found = {}
    for variant in VARIANTS:
        model = make_model(variant)
        found[variant] = [
            model.generate(torch.tensor([prompt]), max_new_tokens=64, min_new_tokens=64, do_sample=False)[
                0, len(prompt) :
            ]
            for prompt in PROMPTS
        ]
    return {variant: [ids.tolist() for ids in each] for variant, each in found.items()}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_64_greedy_tokens(
    variant: str, backend: str, tiny_checkpoint: Callable[[str], Path], expected: dict[str, list[list[int]]]
) -> None:
    llm = LLM(tiny_checkpoint(variant), backend=backend, max_num_batched_tokens=16)
    # As `min_new_tokens` does: the end of the sequence is impossible.
    params = SamplingParams(temperature=0, min_tokens=64, max_tokens=64)
    assert [output.outputs[0].token_ids for output in llm.generate(PROMPTS, params)] == expected[variant]
