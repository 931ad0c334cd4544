"""Packed sequences laid out for attention: cut from their rows and put beside others of about their length.

A mask that hides packed sequences from one another costs (T, T) numbers a row, and the work of all of them. Here the
sequences of a batch become a few batches of their own, filled up at their ends, where causality hides the filling.

Letters: N tokens of the batch (B * T), P places of the laid-out batches, S sequences of a group, L its longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_ALIKE = 0.75  # sequences of a group have at least this share of its longest, ...
_NEAR = 32  # ... or lack at most so many tokens: one more call costs more than computing these


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """S sequences in places of L tokens each."""

    num_sequences: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Where every token of a batch goes, and comes back from."""

    groups: tuple[Group, ...]
    to_place: torch.Tensor  # int64 (P,): the token at each place; at filling, any token
    from_place: torch.Tensor  # int64 (N,): the place of each token
    filling: torch.Tensor  # int64: places that hold no token

    @classmethod
    def of(cls, segments: torch.Tensor) -> Packing:
        """The layout for `segments` (B, T), numbers of sequences that change where a new one begins."""
        numbers = segments.cpu().numpy()
        begins = np.ones(numbers.shape, dtype=bool)
        begins[:, 1:] = numbers[:, 1:] != numbers[:, :-1]
        starts = np.flatnonzero(begins)
        lengths = np.diff(starts, append=numbers.size)
        order = np.argsort(-lengths, kind="stable")
        groups = _groups(lengths[order])
        slots = np.repeat([group.length for group in groups], [group.num_sequences for group in groups])
        firsts = np.cumsum(slots) - slots  # place of each sequence's first token, in `order`
        lengths, starts = lengths[order], starts[order]
        within = np.arange(numbers.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        tokens = np.repeat(starts, lengths) + within
        places = np.repeat(firsts, lengths) + within
        to_place = np.zeros(int(slots.sum()), dtype=np.int64)
        to_place[places] = tokens
        is_filling = np.ones(len(to_place), dtype=bool)
        is_filling[places] = False
        from_place = np.empty(numbers.size, dtype=np.int64)
        from_place[tokens] = places
        arrays = (to_place, from_place, np.flatnonzero(is_filling))
        return cls(groups, *(torch.from_numpy(array).to(segments.device) for array in arrays))

    def lay_out(self, x: torch.Tensor) -> list[torch.Tensor]:
        """x (B, H, T, d) as (S, H, L, d) of each group."""
        heads, size = x.shape[1], x.shape[3]
        rows = x.transpose(1, 2).reshape(-1, heads * size)
        placed = _LayOut.apply(rows, self.to_place, self.from_place)  # type: ignore[no-untyped-call]
        sizes = [group.num_sequences * group.length for group in self.groups]
        return [
            part.view(group.num_sequences, group.length, heads, size).transpose(1, 2)
            for group, part in zip(self.groups, torch.split(placed, sizes), strict=True)
        ]

    def bring_back(self, parts: list[torch.Tensor], batch: int) -> torch.Tensor:
        """The inverse of `lay_out`."""
        heads, size = parts[0].shape[1], parts[0].shape[3]
        placed = torch.cat([part.transpose(1, 2).reshape(-1, heads * size) for part in parts])
        rows = _BringBack.apply(placed, self.to_place, self.from_place, self.filling)  # type: ignore[no-untyped-call]
        returned: torch.Tensor = rows.view(batch, -1, heads, size).transpose(1, 2)
        return returned


def _groups(lengths: Any) -> tuple[Group, ...]:
    """Groups of sequences whose lengths are given from the longest to the shortest."""
    groups: list[Group] = []
    index = 0
    while index < len(lengths):
        longest = int(lengths[index])
        shortest = min(longest * _ALIKE, longest - _NEAR)
        end = index + int(np.count_nonzero(lengths[index:] >= shortest))
        groups.append(Group(end - index, longest))
        index = end
    return tuple(groups)


class _LayOut(torch.autograd.Function):
    """A gather whose gradient is a gather too: every token has one place."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, to_place: torch.Tensor, from_place: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(from_place)
        return rows.index_select(0, to_place)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        (from_place,) = ctx.saved_tensors
        return grads[0].index_select(0, from_place), None, None


class _BringBack(torch.autograd.Function):
    """The way back; filling gets no gradient, for its queries do see keys of the sequence."""

    @staticmethod
    def forward(
        ctx: Any, placed: torch.Tensor, to_place: torch.Tensor, from_place: torch.Tensor, filling: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(to_place, filling)
        return placed.index_select(0, from_place)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        to_place, filling = ctx.saved_tensors
        return grads[0].index_select(0, to_place).index_fill_(0, filling, 0), None, None, None
