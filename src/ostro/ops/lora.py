"""LoRA adapters within a step: `LoraOps`, the operations of a backend for rows that belong to several adapters.

Every row of a step has an owner: -1 for the base model, or the number of an adapter. What the base's weights give is
computed for all rows together, by the backend's own joint operations where those can be kept, and so a weight is read
once for requests of any adapters. Then each adapter adds its part to its own rows: B (N, r) times A (r, K) times x.

Inside the feed-forward part that sum is below a product and cannot be added afterwards. Rows whose adapter changes it
take plain operations there, together, and the other rows the backend's joint one: two passes over those weights in a
step that has both.

What a row goes through depends on its own adapter alone. Where a backend's rows do not depend on each other
(`Ops.row_independent`), the bits of its results do not depend on the company of other adapters either.

Shape letters are those of `ostro.ops.base`; r is the rank of an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ostro.ops.base import Array, Expert, Ops, Qkv, Weight
from ostro.ops.batch import Int32
from ostro.ops.reference import route

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Delta:
    """a (r, K) and b (N, r), the scaling included: what an adapter adds to a linear layer."""

    a: Weight
    b: Weight


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedWeight:
    """The weight of the base, and by the numbers of the adapters what they add to it or put in its place."""

    base: Weight
    deltas: Mapping[int, Delta] = field(default_factory=dict)
    replaced: Mapping[int, Weight] = field(default_factory=dict)


class LoraOps:
    """The operations that `ostro.models.llama` calls, for a step whose rows have `owners` (T,); others are `ops`'s."""

    def __init__(self, ops: Ops, owners: Int32) -> None:
        self._ops = ops
        self._owners = owners
        self._rows = {int(n): np.flatnonzero(owners == n) for n in np.unique(owners) if n >= 0}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def embedding(self, table: Weight, token_ids: Int32) -> Array:
        """(V, D)[(T,)] -> (T, D)."""
        out = self._ops.embedding(_base(table), token_ids)
        for rows, weight in self._replaced(table):
            out[rows] = self._ops.embedding(weight, token_ids[rows])
        return out

    def linear(self, x: Array, weight: Weight) -> Array:
        """(T, K) x (N, K) -> (T, N)."""
        return self._add(self._ops.linear(x, _base(weight)), x, weight)

    def linear_add(self, x: Array, weight: Weight, residual: Array) -> Array:
        """residual + (T, K) x (N, K) -> (T, N)."""
        return self._add(self._ops.linear_add(x, _base(weight), residual), x, weight)

    def logits(self, x: Array, head: Weight) -> Array:
        """(T, D) x (V, D) -> (T, V)."""
        out = self._add(self._ops.logits(x, _base(head)), x, head)
        for rows, weight in self._replaced(head):
            out[rows] = self._ops.logits(_take(x, rows), weight)
        return out

    def qkv(
        self, x: Array, norm: Weight, eps: float, weights: Qkv, rope: Array, num_heads: int, num_kv_heads: int
    ) -> tuple[Array, Array, Array]:
        """The base's joint operation; what adapters add to q and k is rotated by itself, since rotation is linear."""
        wq, wk, wv = weights
        bases = (_base(wq), _base(wk), _base(wv))
        q, k, v = self._ops.qkv(x, norm, eps, bases, rope, num_heads, num_kv_heads)
        if not any(self._deltas(weight) for weight in weights):
            return q, k, v
        h = self._ops.rms_norm(x, norm, eps)
        for out, weight, heads in ((q, wq, num_heads), (k, wk, num_kv_heads)):
            if deltas := self._deltas(weight):
                added = self._ops.rotary(self._add(_zeros_like(out), h, weight), rope, heads)
                for rows, _ in deltas:
                    out[rows] = out[rows] + added[rows]
        return q, k, self._add(v, h, wv)

    def feed_forward(self, x: Array, norm: Weight, eps: float, mlp: Expert) -> Array:
        """Plain operations for the rows whose adapter changes one of the three weights, the joint one for others."""
        gate, up, down = mlp
        changed = self._changed(mlp)
        if not len(changed):
            return self._ops.feed_forward(x, norm, eps, _bases(mlp))
        part, own = self._of(changed), _take(x, changed)
        h = self._ops.rms_norm(own, norm, eps)
        own = part.linear_add(self._ops.swiglu(part.linear(h, gate), part.linear(h, up)), down, own)
        if len(changed) == len(self._owners):
            return own
        rest = np.setdiff1d(np.arange(len(self._owners)), changed)
        out = _zeros_like(x)
        out[changed] = own
        out[rest] = self._ops.feed_forward(x[rest], norm, eps, _bases(mlp))
        return out

    def moe(self, x: Array, router: Weight, experts: Sequence[Expert], num_experts_per_tok: int) -> Array:
        """As `feed_forward`: rows whose adapter changes the router or an expert by themselves."""
        changed = self._changed([router, *(weight for expert in experts for weight in expert)])
        bases = [_bases(expert) for expert in experts]
        if not len(changed):
            return self._ops.moe(x, _base(router), bases, num_experts_per_tok)
        out = _zeros_like(x)
        out[changed] = self._of(changed)._plain_moe(_take(x, changed), router, experts, num_experts_per_tok)
        rest = np.setdiff1d(np.arange(len(self._owners)), changed)
        if len(rest):
            out[rest] = self._ops.moe(x[rest], _base(router), bases, num_experts_per_tok)
        return out

    def _plain_moe(self, x: Array, router: Weight, experts: Sequence[Expert], num_experts_per_tok: int) -> Array:
        chosen, shares = route(self._ops.to_numpy(self.linear(x, router)), num_experts_per_tok)
        out = _zeros_like(x)
        for index, (gate, up, down) in enumerate(experts):
            rows, place = np.nonzero(chosen == index)
            if len(rows):
                part, h = self._of(rows), _take(x, rows)
                y = part.linear(self._ops.swiglu(part.linear(h, gate), part.linear(h, up)), down)
                out[rows] = out[rows] + y * _like(shares[rows, place, None], y)
        return out

    def _add(self, out: Array, x: Array, weight: Weight) -> Array:
        """`out` (T, N), whose rows get what their adapters add for x (T, K)."""
        for rows, delta in self._deltas(weight):
            thin = self._ops.linear(_take(x, rows), delta.a)
            out[rows] = self._ops.linear_add(thin, delta.b, _take(out, rows))
        return out

    def _deltas(self, weight: Weight) -> list[tuple[Rows, Delta]]:
        found = weight.deltas if isinstance(weight, AdaptedWeight) else {}
        return [(rows, found[number]) for number, rows in self._rows.items() if number in found]

    def _replaced(self, weight: Weight) -> list[tuple[Rows, Weight]]:
        found = weight.replaced if isinstance(weight, AdaptedWeight) else {}
        return [(rows, found[number]) for number, rows in self._rows.items() if number in found]

    def _changed(self, weights: Sequence[Weight]) -> Rows:
        """Rows whose adapter adds something to one of the weights, ascending."""
        numbers = {number for weight in weights if isinstance(weight, AdaptedWeight) for number in weight.deltas}
        return np.flatnonzero(np.isin(self._owners, sorted(numbers)))

    def _of(self, rows: Rows) -> LoraOps:
        """The operations for some of the rows."""
        return self if len(rows) == len(self._owners) else LoraOps(self._ops, self._owners[rows])


def _base(weight: Weight) -> Weight:
    return weight.base if isinstance(weight, AdaptedWeight) else weight


def _bases(expert: Expert) -> Expert:
    gate, up, down = expert
    return _base(gate), _base(up), _base(down)


def _take(x: Array, rows: Rows) -> Array:
    return x if len(rows) == len(x) else x[rows]


def _zeros_like(x: Array) -> Array:
    return np.zeros_like(x) if isinstance(x, np.ndarray) else x.new_zeros(x.shape)


def _like(values: npt.NDArray[np.float32], x: Array) -> Array:
    return values if isinstance(x, np.ndarray) else x.new_tensor(values)
