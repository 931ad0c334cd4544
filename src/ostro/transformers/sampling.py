"""From logits to a token as `transformers` does it, in its order, so that the same seed draws the same tokens.

Scores are float32 (B, V); a token that may not be chosen has -inf.
"""

from __future__ import annotations

import torch

from ostro.transformers.generation_config import GenerationConfig

NEVER = float("-inf")


def penalize_repetition(scores: torch.Tensor, ids: torch.Tensor, shown: torch.Tensor, penalty: float) -> torch.Tensor:
    """Divide positive and multiply negative scores of every token in `ids` (B, T) that `shown` (B, T) does not hide."""
    seen = torch.zeros_like(scores, dtype=torch.int32).scatter_add_(1, ids, shown.to(torch.int32)) > 0
    return torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def forbid(scores: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Without the tokens `ids`; one that is not in the vocabulary changes nothing."""
    places = torch.arange(scores.shape[-1], device=scores.device)
    return scores.masked_fill(torch.isin(places, torch.tensor(ids, device=scores.device)), NEVER)


def keep_top_k(scores: torch.Tensor, top_k: int) -> torch.Tensor:
    """The k best, and what equals the last of them."""
    last = scores.topk(min(top_k, scores.shape[-1]), dim=-1).values[:, -1:]
    return scores.masked_fill(scores < last, NEVER)


def keep_top_p(scores: torch.Tensor, top_p: float) -> torch.Tensor:
    """The fewest best whose probabilities reach p."""
    ordered, index = scores.sort(dim=-1, descending=False)
    dropped = ordered.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    dropped[:, -1] = False
    return scores.masked_fill(dropped.scatter(1, index, dropped), NEVER)


def keep_min_p(scores: torch.Tensor, min_p: float) -> torch.Tensor:
    """Those whose probability is at least `min_p` times that of the best."""
    probabilities = scores.softmax(dim=-1)
    dropped = probabilities < min_p * probabilities.amax(dim=-1, keepdim=True)
    dropped.scatter_(1, scores.argmax(dim=-1, keepdim=True), False)
    return scores.masked_fill(dropped, NEVER)


def warp(scores: torch.Tensor, settings: GenerationConfig) -> torch.Tensor:
    """Temperature, top-k, top-p and min-p, in this order."""
    if settings.temperature is not None and settings.temperature != 1.0:
        scores = scores / settings.temperature
    if settings.top_k:
        scores = keep_top_k(scores, settings.top_k)
    if settings.top_p is not None and settings.top_p < 1.0:
        scores = keep_top_p(scores, settings.top_p)
    if settings.min_p is not None:
        scores = keep_min_p(scores, settings.min_p)
    return scores


def choose(scores: torch.Tensor, do_sample: bool, generator: torch.Generator | None) -> torch.Tensor:
    """One token of each row (B,): the best, or one drawn."""
    if not do_sample:
        return scores.argmax(dim=-1)
    return torch.multinomial(scores.softmax(dim=-1), 1, generator=generator)[:, 0]
