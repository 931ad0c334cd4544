"""What a model must read and compute for a token: what its speed is held against.

Only what cannot be avoided is counted. A decode step reads every weight that its tokens pass through once, the output
head with it, and the K/V that they attend to; of the embeddings it reads a few rows, which are left out. A prompt
multiplies every token with the matrices of all layers, and its last token with the output head; attention, norms and
the rest are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from math import prod
from typing import Any

from ostro.checkpoint.names import expected_tensors
from ostro.config import ModelConfig
from ostro.models.llama import LlamaWeights, MoeWeights


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a model: numbers in its matrices, and bytes of its weights as the backend holds them."""

    parameters: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Work:
    """The parts of a model. `layers` are the decoder layers without their experts, `experts` those of all layers.

    `embedding_bytes` is 0 where the head is the embedding. `kv_bytes` has for every layer what a token's K/V takes, and
    the window (None: everything before).
    """

    layers: Part
    experts: Part
    head: Part
    embedding_bytes: int
    num_experts: int
    experts_per_token: int
    kv_bytes: tuple[tuple[float, int | None], ...]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights."""
        return self.layers.num_bytes + self.experts.num_bytes + self.head.num_bytes + self.embedding_bytes

    def decode_bytes(self, batch: int, context: float) -> float:
        """Bytes that a step of `batch` tokens must read, each of which attends to `context` tokens."""
        seen = sum(each * min(context, window or context) for each, window in self.kv_bytes)
        experts = self.experts.num_bytes * self._share_of_experts(batch)
        return self.layers.num_bytes + experts + self.head.num_bytes + batch * seen

    def prefill_operations(self, num_tokens: int) -> float:
        """Operations of the matrices for a prompt; a multiply-add is two."""
        experts = self.experts.parameters * self.experts_per_token / self.num_experts if self.num_experts else 0
        return 2 * (num_tokens * (self.layers.parameters + experts) + self.head.parameters)

    def _share_of_experts(self, batch: int) -> float:
        """The part of all experts that a step uses, if every token chooses at random."""
        if not self.num_experts:
            return 0.0
        return 1 - (1 - self.experts_per_token / self.num_experts) ** batch


def work_of(config: ModelConfig, weights: LlamaWeights, kv_bytes_per_token: float) -> Work:
    """The parts of loaded weights; `kv_bytes_per_token` is what K and V of one token take over all layers."""
    matrices = {name: prod(shape) for name, shape in expected_tensors(config).items() if len(shape) == 2}
    in_experts = sum(size for name, size in matrices.items() if ".experts." in name)
    in_layers = sum(size for name, size in matrices.items() if name.startswith("model.layers.")) - in_experts
    expert_bytes = sum(num_bytes(each.mlp.experts) for each in weights.layers if isinstance(each.mlp, MoeWeights))
    layer_bytes = num_bytes(weights.layers) - expert_bytes + num_bytes(weights.norm)
    tied = weights.lm_head is weights.embed_tokens
    return Work(
        layers=Part(in_layers, layer_bytes),
        experts=Part(in_experts, expert_bytes),
        head=Part(config.vocab_size * config.hidden_size, num_bytes(weights.lm_head)),
        embedding_bytes=0 if tied else num_bytes(weights.embed_tokens),
        num_experts=config.num_local_experts,
        experts_per_token=config.num_experts_per_tok,
        kv_bytes=tuple((kv_bytes_per_token / config.num_hidden_layers, w) for w in config.sliding_windows),
    )


def num_bytes(weights: Any) -> int:
    """Bytes of a backend's weights, in whatever tuples and dataclasses they lie."""
    return sum(int(weight.nbytes) for weight in _leaves(weights))


def _leaves(weights: Any) -> Iterator[Any]:
    if hasattr(weights, "nbytes"):
        yield weights
    elif isinstance(weights, tuple | list):
        for each in weights:
            yield from _leaves(each)
    elif is_dataclass(weights):
        for field in fields(weights):
            yield from _leaves(getattr(weights, field.name))
