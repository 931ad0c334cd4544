"""AdamW or Muon on float32 copies of what is trained, with decay for matrices and none for norms and biases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ostro.finetune.config import RunConfig
from ostro.finetune.distributed import own_share, share_like, whole
from ostro.finetune.muon import Muon

_ENDS = ("embed_tokens", "lm_head", "score")  # tables of rows, each for a token or a label: no maps between vectors
_MOMENTS = ("exp_avg", "exp_avg_sq")


def is_inner_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Whether Muon updates a parameter: a matrix of a layer. AdamW has embeddings, output matrices, norms and biases.

    >>> is_inner_matrix("model.layers.0.mlp.up_proj.weight", torch.zeros(4, 2))
    True
    >>> is_inner_matrix("lm_head.weight", torch.zeros(4, 2))
    False
    """
    return parameter.dim() == 2 and not set(name.split(".")) & set(_ENDS)


class Optimizer:
    """AdamW, or Muon and AdamW, whose weights and moments are float32, whatever type the model computes in.

    A parameter that is not float32 has a copy here, its master: updates smaller than bfloat16 can show are not lost.
    Gradients of several micro batches are summed in float32 too.

    Muon's updates are as large as AdamW's usually are, so both have the one learning rate.
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], config: RunConfig) -> None:
        self.names, self.parameters = map(list, zip(*((n, p) for n, p in named if p.requires_grad), strict=True))
        self.masters = [p if p.dtype == torch.float32 else p.detach().float() for p in self.parameters]
        self._max_norm = config.max_grad_norm
        self._sums: list[torch.Tensor] | None = None
        pairs = list(zip(self.names, self.masters, strict=True))
        inner = [m for n, m in pairs if config.optimizer == "muon" and is_inner_matrix(n, m)]
        rest = [m for n, m in pairs if config.optimizer != "muon" or not is_inner_matrix(n, m)]
        self._parts: list[torch.optim.Optimizer] = []
        if rest:
            self._parts.append(_adamw(rest, config))
        if inner:
            self._parts.append(Muon(inner, lr=config.learning_rate, weight_decay=config.weight_decay))

    @torch.no_grad()
    def collect(self, *, last: bool) -> None:
        """Take the gradients of a micro batch; with more to come they are added up in float32."""
        if last and self._sums is None:
            return
        fresh = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        if self._sums is None:
            self._sums = [g.float() for g in fresh]
        else:
            torch._foreach_add_(self._sums, [g.float() for g in fresh])
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float, weight: float) -> float:
        """Update with the collected gradients divided by `weight`; returns their norm before clipping."""
        if self._sums is not None:
            grads, self._sums = self._sums, None
        else:
            grads = [(torch.zeros_like(p) if p.grad is None else p.grad).float() for p in self.parameters]
        total = whole(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))))
        norm = float(total) / weight
        scale = 1.0 / weight
        if self._max_norm and norm > self._max_norm:
            scale *= self._max_norm / (norm + 1e-6)
        torch._foreach_mul_(grads, scale)
        for master, grad in zip(self.masters, grads, strict=True):
            master.grad = grad
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate
            part.step()
        copied = [(p, m) for p, m in zip(self.parameters, self.masters, strict=True) if p is not m]
        if copied:
            torch._foreach_copy_([own_share(p) for p, _ in copied], [own_share(m) for _, m in copied])
        for tensor in (*self.parameters, *self.masters):
            tensor.grad = None
        return norm

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and moments by name: "weight.NAME", and AdamW's "exp_avg.NAME", "exp_avg_sq.NAME" and "step.NAME" or
        Muon's "momentum_buffer.NAME".
        """
        out: dict[str, torch.Tensor] = {}
        for name, master in zip(self.names, self.masters, strict=True):
            out[f"weight.{name}"] = master.detach()
            for part in self._parts:
                out.update({f"{key}.{name}": value for key, value in part.state.get(master, {}).items()})
        return out

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what `state` gave; the names and shapes must be those of this model (`checkpointing` checks)."""
        for name, parameter, master in zip(self.names, self.parameters, self.masters, strict=True):
            master.copy_(share_like(tensors[f"weight.{name}"], master))
            if parameter is not master:
                parameter.copy_(master)
            state = {key: share_like(tensors[f"{key}.{name}"], master).clone() for key in self._kept(name, tensors)}
            if f"step.{name}" in tensors:
                state["step"] = tensors[f"step.{name}"].clone()
            if state:
                self._part_of(master).state[master] = state

    def _kept(self, name: str, tensors: dict[str, torch.Tensor]) -> list[str]:
        return [key for key in (*_MOMENTS, "momentum_buffer") if f"{key}.{name}" in tensors]

    def _part_of(self, master: torch.Tensor) -> torch.optim.Optimizer:
        for part in self._parts:
            if any(master is each for group in part.param_groups for each in group["params"]):
                return part
        raise AssertionError("every master has its optimizer")


def _adamw(masters: list[torch.Tensor], config: RunConfig) -> torch.optim.AdamW:
    groups: list[dict[str, Any]] = [
        {"params": [m for m in masters if m.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [m for m in masters if m.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        fused=True,
    )
