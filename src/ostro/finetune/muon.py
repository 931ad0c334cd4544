"""Muon: updates of matrices whose directions all have one size (Jordan et al. 2024).

A matrix's momentum is replaced by the nearest orthogonal matrix, found by a few of Newton and Schulz's iterations, so
that directions in which gradients are small are learnt as fast as those in which they are large. PyTorch has it as
`torch.optim.Muon`, which takes one matrix after the other; here those of one shape, such as all layers' `up_proj`, go
through the iterations together: a third of the time on two cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the polynomial x -> ax + bx^3 + cx^5, as the author has them
_ITERATIONS = 5
_SIZE = 0.2  # root mean square of an update's entries, as AdamW's usually are (Liu et al. 2025, arXiv 2502.16982)


def orthogonalized(matrices: torch.Tensor) -> torch.Tensor:
    """Nearly orthogonal matrices of the same singular vectors, [..., rows, columns]; singular values of 0.7 to 1.2.

    >>> torch.linalg.svdvals(orthogonalized(torch.diag(torch.tensor([5.0, 1.0, 0.5]))).float()).round().tolist()
    [1.0, 1.0, 1.0]
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).bfloat16().contiguous()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    nearest: torch.Tensor = x.mT if tall else x
    return nearest


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum and decoupled weight decay, for matrices alone.

    An update's entries have a root mean square of 0.2 times the learning rate, so AdamW's rates do for it.
    """

    def __init__(
        self, matrices: Iterable[torch.Tensor], *, lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        assert closure is None, "the trainer computes gradients before the step"
        for group in self.param_groups:
            of_shape: dict[torch.Size, list[torch.Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    of_shape.setdefault(matrix.shape, []).append(matrix)
            for matrices in of_shape.values():
                self._update(matrices, **{key: group[key] for key in ("lr", "weight_decay", "momentum")})

    def _update(self, matrices: list[torch.Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        grads = [matrix.grad for matrix in matrices if matrix.grad is not None]
        buffers = [self._buffer(matrix) for matrix in matrices]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        updates = orthogonalized(torch.stack(torch._foreach_lerp(grads, buffers, momentum)))
        torch._foreach_mul_(matrices, 1 - lr * weight_decay)
        scale = lr * _SIZE * max(matrices[0].shape) ** 0.5
        torch._foreach_add_(matrices, list(updates.float().unbind()), alpha=-scale)

    def _buffer(self, matrix: torch.Tensor) -> torch.Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer: torch.Tensor = state["momentum_buffer"]
        return buffer
