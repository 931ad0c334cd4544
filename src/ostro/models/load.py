"""Weights of a checkpoint, in the form of a backend."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ostro.checkpoint.tensors import Tensor
from ostro.config import ModelConfig
from ostro.models.llama import LayerWeights, LlamaWeights, MoeWeights
from ostro.ops.base import Expert, Ops, Weight
from ostro.ops.dtypes import numpy_dtype


def load_weights(ops: Ops, config: ModelConfig, tensors: Mapping[str, Tensor], *, dtype: str = "auto") -> LlamaWeights:
    """Weights by their HF names as `ops` wants them.

    `dtype` "auto" leaves every tensor as its file stores it, so that it can stay mapped and nothing is copied;
    "float32", "float16" or "bfloat16" converts matrices one by one.
    """
    reader = _Reader(ops, tensors, dtype)
    embed_tokens = reader("model.embed_tokens.weight")
    return LlamaWeights(
        embed_tokens=embed_tokens,
        layers=tuple(_layer(reader, config, index) for index in range(config.num_hidden_layers)),
        norm=reader("model.norm.weight"),
        lm_head=embed_tokens if config.tie_word_embeddings else reader("lm_head.weight"),
    )


def load_layer(ops: Ops, config: ModelConfig, tensors: Mapping[str, Tensor], index: int) -> LayerWeights:
    """The weights of one layer as the files store them, for a caller that goes through a model layer by layer."""
    return _layer(_Reader(ops, tensors, "auto"), config, index)


class _Reader:
    """`reader(name)` gives the backend's weight for the tensor of that name."""

    def __init__(self, ops: Ops, tensors: Mapping[str, Tensor], dtype: str) -> None:
        self._ops = ops
        self._tensors = tensors
        self._dtype = None if dtype == "auto" else numpy_dtype(dtype)

    def __call__(self, name: str) -> Weight:
        tensor = self._tensors[name]
        # Norms are vectors: they weigh nothing and every format keeps them precise, so they are never narrowed.
        if self._dtype is not None and len(tensor.shape) == 2:
            values = tensor if isinstance(tensor, np.ndarray) else tensor.dequantize()
            tensor = np.ascontiguousarray(values.astype(self._dtype, copy=False))
        return self._ops.weight(tensor)


def _layer(reader: _Reader, config: ModelConfig, index: int) -> LayerWeights:
    prefix = f"model.layers.{index}"
    return LayerWeights(
        input_layernorm=reader(f"{prefix}.input_layernorm.weight"),
        q_proj=reader(f"{prefix}.self_attn.q_proj.weight"),
        k_proj=reader(f"{prefix}.self_attn.k_proj.weight"),
        v_proj=reader(f"{prefix}.self_attn.v_proj.weight"),
        o_proj=reader(f"{prefix}.self_attn.o_proj.weight"),
        post_attention_layernorm=reader(f"{prefix}.post_attention_layernorm.weight"),
        mlp=_moe(reader, config, prefix) if config.num_local_experts else _dense(reader, prefix),
    )


def _dense(reader: _Reader, prefix: str) -> Expert:
    gate, up, down = (reader(f"{prefix}.mlp.{name}_proj.weight") for name in ("gate", "up", "down"))
    return gate, up, down


def _moe(reader: _Reader, config: ModelConfig, prefix: str) -> MoeWeights:
    block = f"{prefix}.block_sparse_moe"
    experts = []
    for e in range(config.num_local_experts):
        gate, down, up = (reader(f"{block}.experts.{e}.{name}.weight") for name in ("w1", "w2", "w3"))
        experts.append((gate, up, down))
    return MoeWeights(reader(f"{block}.gate.weight"), tuple(experts))
