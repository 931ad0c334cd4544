"""The module tree that holds the parameters under HF's names. No arithmetic: `models.llama` is handed the weights.

Linear layers are handed over as modules, so that quantized ones, adapters and hooks take part (see `ostro.ops.torch`).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from ostro.config import ModelConfig
from ostro.models.llama import LayerWeights, MoeWeights, decoder_layer
from ostro.ops.base import Expert


def linear(num_inputs: int, num_outputs: int) -> nn.Linear:
    """A linear layer without bias."""
    return nn.Linear(num_inputs, num_outputs, bias=False)


class RMSNorm(nn.Module):
    """`weight` (D,)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))


class Attention(nn.Module):
    """`q_proj`, `k_proj`, `v_proj`, `o_proj`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        queries, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = linear(config.hidden_size, queries)
        self.k_proj = linear(config.hidden_size, keys)
        self.v_proj = linear(config.hidden_size, keys)
        self.o_proj = linear(queries, config.hidden_size)


class MLP(nn.Module):
    """`gate_proj`, `up_proj`, `down_proj`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = linear(config.hidden_size, config.intermediate_size)
        self.up_proj = linear(config.hidden_size, config.intermediate_size)
        self.down_proj = linear(config.intermediate_size, config.hidden_size)

    def weights(self) -> Expert:
        """Gate, up, down."""
        return self.gate_proj, self.up_proj, self.down_proj


class ExpertMLP(nn.Module):
    """One expert of Mixtral: `w1` (gate), `w2` (down), `w3` (up)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.w1 = linear(config.hidden_size, config.intermediate_size)
        self.w2 = linear(config.intermediate_size, config.hidden_size)
        self.w3 = linear(config.hidden_size, config.intermediate_size)

    def weights(self) -> Expert:
        """Gate, up, down."""
        return self.w1, self.w3, self.w2


class SparseMoeBlock(nn.Module):
    """`gate`, the router, and `experts`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = linear(config.hidden_size, config.num_local_experts)
        self.experts = nn.ModuleList(ExpertMLP(config) for _ in range(config.num_local_experts))

    def weights(self) -> MoeWeights:
        """Router and experts."""
        return MoeWeights(self.gate, tuple(cast("ExpertMLP", expert).weights() for expert in self.experts))


class DecoderLayer(nn.Module):
    """One layer; its feed-forward part is `mlp`, or `block_sparse_moe` in a mixture of experts."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        if config.num_local_experts:
            self.block_sparse_moe = SparseMoeBlock(config)
        else:
            self.mlp = MLP(config)
        self.is_moe = bool(config.num_local_experts)
        self.input_layernorm = RMSNorm(config.hidden_size)
        self.post_attention_layernorm = RMSNorm(config.hidden_size)

    def weights(self) -> LayerWeights:
        """As `models.llama` takes them."""
        return LayerWeights(
            input_layernorm=self.input_layernorm.weight,
            q_proj=self.self_attn.q_proj,
            k_proj=self.self_attn.k_proj,
            v_proj=self.self_attn.v_proj,
            o_proj=self.self_attn.o_proj,
            post_attention_layernorm=self.post_attention_layernorm.weight,
            mlp=self.block_sparse_moe.weights() if self.is_moe else self.mlp.weights(),
        )

    def forward(
        self, ops: Any, config: ModelConfig, index: int, x: torch.Tensor, rope: Any, attend: Any
    ) -> torch.Tensor:
        """`models.llama.decoder_layer` on this layer's weights, so that hooks and sharding by layers take part."""
        out: torch.Tensor = decoder_layer(ops, config, self.weights(), index, x, rope, attend)
        return out
