"""Cross entropy on the output matrix, without the logits of all rows in memory.

Shapes: R rows, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


def linear_cross_entropy(
    lm_head: nn.Module, hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, chunk_rows: int = 1024
) -> torch.Tensor:
    """The sum (scalar, float32) of weights (R,) times the cross entropy of targets (R,) given hidden (R, D).

    A plain `nn.Linear` computes logits once, and their gradient with them; another module (quantized, with an adapter)
    computes them again in the backward pass. Either way `chunk_rows` rows of logits are in memory at a time.
    """
    if _is_plain(lm_head):
        fused: Any = _LinearCrossEntropy.apply
        total: torch.Tensor = fused(hidden, lm_head.weight, targets, weights, chunk_rows)
        return total
    cut = (torch.split(x, chunk_rows) for x in (hidden, targets, weights))
    parts = [
        checkpoint(_chunk_loss, lm_head, h, t, w, use_reentrant=False) for h, t, w in zip(*cut, strict=True) if len(h)
    ]
    return torch.stack(parts).sum() if parts else hidden.sum() * 0.0


def _is_plain(lm_head: nn.Module) -> bool:
    return type(lm_head) is nn.Linear and getattr(lm_head, "bias", None) is None and not lm_head._forward_hooks


def _chunk_loss(lm_head: nn.Module, hidden: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    losses = F.cross_entropy(lm_head(hidden).float(), targets, reduction="none")
    return (losses * weights).sum()


class _LinearCrossEntropy(torch.autograd.Function):
    """Gradients are made in the forward pass, while a chunk's logits are there; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        chunk_rows: int,
    ) -> torch.Tensor:
        """The loss; the gradient of the matrix is summed over the chunks in float32."""
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wants_weight else None
        for start in range(0, len(hidden), chunk_rows):
            rows = slice(start, start + chunk_rows)
            h, t, w = hidden[rows], targets[rows, None], weights[rows]
            log_probs = F.linear(h, weight).float()
            log_probs = F.log_softmax(log_probs, dim=-1)
            total -= (log_probs.gather(1, t).squeeze(1) * w).sum()
            if not (wants_hidden or wants_weight):
                continue
            grad = log_probs.exp_().scatter_add_(1, t, torch.full_like(log_probs[:, :1], -1.0)).mul_(w[:, None])
            grad = grad.to(hidden.dtype)
            if grad_hidden is not None:
                torch.mm(grad, weight, out=grad_hidden[rows])
            if grad_weight is not None:
                grad_weight += grad.t() @ h
        ctx.save_for_backward(grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        """The kept gradients times that of the loss."""
        scale = grads[0]
        hidden, weight = (None if g is None else g * scale.to(g.dtype) for g in ctx.saved_tensors)
        return hidden, weight, None, None, None
