"""The int8 keys or values of a pool in PyTorch, as `ostro.ops.int8_kv` defines them."""

from __future__ import annotations

from typing import Any

import torch

from ostro.config.kv import INT8_GROUP, num_groups


class Int8Tensor:
    """Stands in for a float32 tensor (..., d) that is written and read by whole rows."""

    dtype = torch.float32

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        *rows, head_dim = self.shape = shape
        self._codes = torch.zeros(shape, dtype=torch.int8, device=device)
        self._scales = torch.zeros((*rows, num_groups(head_dim)), dtype=torch.float16, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return int(self._codes.nbytes + self._scales.nbytes)

    @property
    def parts(self) -> tuple[torch.Tensor, ...]:
        """The tensors that hold it."""
        return self._codes, self._scales

    def __setitem__(self, index: Any, x: torch.Tensor) -> None:
        self._codes[index], self._scales[index] = _quantize(x.to(torch.float32))

    def __getitem__(self, index: Any) -> torch.Tensor:
        codes = self._codes[index]
        wide = self._scales[index].to(torch.float32).repeat_interleave(INT8_GROUP, dim=-1)
        return wide[..., : codes.shape[-1]] * codes


def _quantize(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    head_dim = x.shape[-1]
    padded = torch.nn.functional.pad(x, (0, num_groups(head_dim) * INT8_GROUP - head_dim))
    grouped = padded.reshape(*x.shape[:-1], -1, INT8_GROUP)
    top = grouped.abs().amax(dim=-1)
    scales = torch.where(top.isfinite(), top / 127, torch.nan).to(torch.float16)
    usable = scales.isfinite() & (scales > 0)
    wide = torch.where(usable, scales, 1).to(torch.float32)[..., None]
    codes = torch.where(usable[..., None], (grouped / wide).round().clamp(-127, 127), 0).to(torch.int8)
    return codes.flatten(-2)[..., :head_dim], scales
