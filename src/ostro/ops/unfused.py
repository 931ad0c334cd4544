"""The joint operations of a layer as the plain ones in a row: what they mean, and all that most backends need."""

from __future__ import annotations

from ostro.ops.base import Array, Expert, Ops, Qkv, Weight


class Unfused:
    """Mixin of `qkv`, `logits`, `linear_add` and `feed_forward` for a class that has the plain operations of `Ops`."""

    def qkv(
        self: Ops, x: Array, norm: Weight, eps: float, weights: Qkv, rope: Array, num_heads: int, num_kv_heads: int
    ) -> tuple[Array, Array, Array]:
        """Norm, three projections, two rotations."""
        h = self.rms_norm(x, norm, eps)
        q, k, v = (self.linear(h, weight) for weight in weights)
        return self.rotary(q, rope, num_heads), self.rotary(k, rope, num_kv_heads), v

    def logits(self: Ops, x: Array, head: Weight) -> Array:
        """Projection."""
        return self.linear(x, head)

    def linear_add(self: Ops, x: Array, weight: Weight, residual: Array) -> Array:
        """Projection, sum."""
        return residual + self.linear(x, weight)

    def feed_forward(self: Ops, x: Array, norm: Weight, eps: float, mlp: Expert) -> Array:
        """Norm, two projections, SwiGLU, projection, sum."""
        gate, up, down = mlp
        h = self.rms_norm(x, norm, eps)
        return x + self.linear(self.swiglu(self.linear(h, gate), self.linear(h, up)), down)
