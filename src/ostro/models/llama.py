"""The decoder of Mistral, Mixtral and Llama, written once over `Ops`: wiring only.

Shape letters are those of `ostro.ops.base`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ostro.config import ModelConfig
from ostro.models.rope import inverse_frequencies
from ostro.ops.base import Array, Expert, Ops, Weight
from ostro.ops.batch import Int32


@dataclass(frozen=True, slots=True, eq=False)
class MoeWeights:
    """router (E, D), and one (gate, up, down) for each expert."""

    router: Weight
    experts: tuple[Expert, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """One decoder layer under the names that HF checkpoints use."""

    input_layernorm: Weight  # (D,)
    q_proj: Weight  # (H * d, D), rotary pairs half-split
    k_proj: Weight  # (G * d, D), rotary pairs half-split
    v_proj: Weight  # (G * d, D)
    o_proj: Weight  # (D, H * d)
    post_attention_layernorm: Weight  # (D,)
    mlp: Expert | MoeWeights


@dataclass(frozen=True, slots=True, eq=False)
class LlamaWeights:
    """All weights; `lm_head` is `embed_tokens` itself where they are tied."""

    embed_tokens: Weight  # (V, D)
    layers: tuple[LayerWeights, ...]
    norm: Weight  # (D,)
    lm_head: Weight  # (V, D)


Attend = Callable[[int, Array, Array, Array], Array]
"""(layer, q (T, H*d), k (T, G*d), v (T, G*d)) -> (T, H*d): where K/V is kept is the caller's affair."""


def hidden_states(
    ops: Ops, config: ModelConfig, weights: LlamaWeights, token_ids: Int32, positions: Int32, attend: Attend
) -> Array:
    """The final, normed hidden state of every row: (T, D)."""
    x = ops.embedding(weights.embed_tokens, token_ids)
    return decode(ops, config, weights, x, positions, attend)


RunLayer = Callable[[Ops, ModelConfig, LayerWeights, int, Array, Array, Attend], Array]
"""As `decoder_layer`: a caller may put its own around it, to look at hidden states or to trade memory for time."""


def decode(
    ops: Ops,
    config: ModelConfig,
    weights: LlamaWeights,
    x: Array,
    positions: Int32,
    attend: Attend,
    run_layer: RunLayer | None = None,
) -> Array:
    """As `hidden_states`, from embeddings x (T, D)."""
    rope = ops.rope_table(positions, inverse_frequencies(config))
    run = run_layer or decoder_layer
    for index, layer in enumerate(weights.layers):
        x = run(ops, config, layer, index, x, rope, attend)
    return ops.rms_norm(x, weights.norm, config.rms_norm_eps)


def decoder_layer(
    ops: Ops, config: ModelConfig, layer: LayerWeights, index: int, x: Array, rope: Array, attend: Attend
) -> Array:
    """Attention and feed-forward, each behind its norm and around its residual: (T, D) -> (T, D)."""
    heads, kv_heads, eps = config.num_attention_heads, config.num_key_value_heads, config.rms_norm_eps
    projections = (layer.q_proj, layer.k_proj, layer.v_proj)
    q, k, v = ops.qkv(x, layer.input_layernorm, eps, projections, rope, heads, kv_heads)
    x = ops.linear_add(attend(index, q, k, v), layer.o_proj, x)
    if isinstance(layer.mlp, MoeWeights):
        h = ops.rms_norm(x, layer.post_attention_layernorm, eps)
        return x + ops.moe(h, layer.mlp.router, layer.mlp.experts, config.num_experts_per_tok)
    return ops.feed_forward(x, layer.post_attention_layernorm, eps, layer.mlp)


def logits(ops: Ops, weights: LlamaWeights, hidden: Array) -> Array:
    """Scores over the vocabulary for hidden (R, D): (R, V)."""
    return ops.logits(hidden, weights.lm_head)
