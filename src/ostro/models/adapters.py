"""Adapters over the weights of a model: `adapt_weights`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ostro.checkpoint.adapter import Adapter, Floats, LoraPair
from ostro.config import ModelConfig
from ostro.errors import CheckpointError
from ostro.models.llama import LayerWeights, LlamaWeights, MoeWeights
from ostro.ops.base import Expert, Ops, Weight
from ostro.ops.lora import AdaptedWeight, Delta

_REPLACEABLE = ("model.embed_tokens.weight", "lm_head.weight")


def adapt_weights(ops: Ops, config: ModelConfig, weights: LlamaWeights, adapters: Sequence[Adapter]) -> LlamaWeights:
    """The same weights, with those that adapters change as `AdaptedWeight`s; adapter i has the number i.

    The base's weights are shared, not copied. CheckpointError for an adapter that brings a module which cannot differ
    between the rows of a step.
    """
    for adapter in adapters:
        odd = [name for name in adapter.saved if name not in _REPLACEABLE]
        if odd:
            raise CheckpointError(
                f"The adapter {adapter.folder} brings its own {odd[0]}, which requests of one batch cannot have apart. "
                "Merge it into its base and load the merged model: ostro merge ADAPTER --out FOLDER."
            )
    adapted = _Adapted(ops, adapters)
    return LlamaWeights(
        embed_tokens=adapted("model.embed_tokens", weights.embed_tokens),
        layers=tuple(_layer(adapted, f"model.layers.{i}", layer) for i, layer in enumerate(weights.layers)),
        norm=weights.norm,
        lm_head=weights.lm_head if config.tie_word_embeddings else adapted("lm_head", weights.lm_head),
    )


class _Adapted:
    """`adapted(module, weight)` is the weight, or an `AdaptedWeight` where an adapter changes it."""

    def __init__(self, ops: Ops, adapters: Sequence[Adapter]) -> None:
        self._ops = ops
        self._adapters = adapters

    def __call__(self, module: str, weight: Weight) -> Weight:
        deltas = {n: self._delta(each.pairs[module]) for n, each in enumerate(self._adapters) if module in each.pairs}
        name = f"{module}.weight"
        replaced = {
            n: self._ops.weight(each.saved[name]) for n, each in enumerate(self._adapters) if name in each.saved
        }
        return AdaptedWeight(weight, deltas, replaced) if deltas or replaced else weight

    def _delta(self, pair: LoraPair) -> Delta:
        return Delta(self._ops.weight(pair.a), self._ops.weight(_scaled(pair.b, pair.scaling)))


def _scaled(b: Floats, scaling: float) -> Floats:
    """b times the scaling, in its own type where that loses nothing, which powers of two do not."""
    wide = b.astype(np.float32) * np.float32(scaling)
    narrow = wide.astype(b.dtype)
    return narrow if np.array_equal(narrow.astype(np.float32), wide) else wide


def _layer(adapted: _Adapted, prefix: str, layer: LayerWeights) -> LayerWeights:
    attention = {name: adapted(f"{prefix}.self_attn.{name}", getattr(layer, name)) for name in _ATTENTION}
    if not isinstance(layer.mlp, MoeWeights):
        return replace(layer, **attention, mlp=_expert(adapted, f"{prefix}.mlp", layer.mlp, _DENSE))
    block = f"{prefix}.block_sparse_moe"
    experts = tuple(
        _expert(adapted, f"{block}.experts.{e}", expert, _EXPERT) for e, expert in enumerate(layer.mlp.experts)
    )
    return replace(layer, **attention, mlp=MoeWeights(adapted(f"{block}.gate", layer.mlp.router), experts))


_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_DENSE = ("gate_proj", "up_proj", "down_proj")
_EXPERT = ("w1", "w3", "w2")  # gate, up, down


def _expert(adapted: _Adapted, prefix: str, expert: Expert, names: Sequence[str]) -> Expert:
    gate, up, down = (adapted(f"{prefix}.{name}", weight) for name, weight in zip(names, expert, strict=True))
    return gate, up, down
