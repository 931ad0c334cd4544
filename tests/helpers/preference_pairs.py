"""Pairs of random answers to random prompts, and what transformers says of them."""

from __future__ import annotations

from typing import Any

import torch

from ostro.finetune.objective import Batch

Pair = tuple[list[int], list[int], list[int]]  # prompt, chosen, rejected


def pairs(count: int, seed: int = 5) -> list[Pair]:
    generator = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(3, 101, (length,), generator=generator).tolist()

    return [([1, *ids(2, 9)], [*ids(1, 8), 2], [*ids(1, 12), 2]) for _ in range(count)]


def rows_of(chosen: list[Pair]) -> Batch:
    """Chosen and rejected in turn, padded on the right."""
    sequences = [(prompt, answer) for prompt, *answers in chosen for answer in answers]
    width = max(len(prompt) + len(answer) for prompt, answer in sequences)
    ids = torch.zeros(len(sequences), width, dtype=torch.int64)
    weights = torch.zeros(len(sequences), width)
    for row, (prompt, answer) in enumerate(sequences):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        weights[row, len(prompt) : end] = 1
    return Batch(ids, torch.arange(width).expand(len(sequences), -1).contiguous(), weights)


def theirs_logprob(model: Any, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """log p(answer | prompt), by transformers, without padding."""
    logits = model(torch.tensor([prompt + answer])).logits[0]
    scores = logits[len(prompt) - 1 : -1].log_softmax(-1)
    return scores[torch.arange(len(answer)), torch.tensor(answer)].sum()
