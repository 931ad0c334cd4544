"""What a run would take, before a weight is loaded: numbers of weights, and memory by its parts.

    memory = weights + what is trained (float32 copy, gradient, two moments) + activations + logits

Weights and what is trained are exact; activations are reckoned from the decoder's plain
arithmetic, and not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ostro.checkpoint.hub import resolve
from ostro.finetune.classifier import MODELS, ClassifierFacts
from ostro.finetune.config import PretrainConfig, TrainConfig
from ostro.finetune.model import new_config, prepare
from ostro.finetune.sections import ClassifyConfig, DpoConfig
from ostro.tokenizer import Tokenizer
from ostro.transformers import AutoConfig, AutoModelForCausalLM

NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)  # a code, the 8-bit scale of 64, and the float32 one of 256 scales
_CHUNK_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Estimate:
    """Numbers of weights, and bytes."""

    num_weights: int
    num_trained: int
    weight_bytes: int
    training_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        """All of them."""
        return self.weight_bytes + self.training_bytes + self.activation_bytes


def estimate(
    config: TrainConfig | PretrainConfig, tokenizer: Tokenizer, classifier: ClassifierFacts | None = None
) -> Estimate:
    """The sizes of a run, from its configuration and the model's numbers alone."""
    model = _shape(config, tokenizer, classifier)
    width = 2 if config.dtype == "bfloat16" else 4
    packed = _packed(model) if isinstance(config, TrainConfig) and config.method == "qlora" else 0
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    num_trained = sum(p.numel() for p in trained.values())
    num_weights = model.num_parameters()
    adapted = isinstance(config, TrainConfig) and config.method != "full"
    own_width = 4 if adapted else width  # an adapter is float32 whatever the base is
    masters = 0 if own_width == 4 else 4
    sums = 4 if config.micro_batches > 1 else 0
    weight_bytes = (num_weights - num_trained - packed) * width + num_trained * own_width + int(packed * NF4_BITS / 8)
    training_bytes = num_trained * (own_width + masters + sums + 8)
    rows = config.micro_batch_size * (2 if isinstance(config, DpoConfig) else 1)
    return Estimate(num_weights, num_trained, weight_bytes, training_bytes, _activations(model, config, rows, width))


def _shape(config: TrainConfig | PretrainConfig, tokenizer: Tokenizer, classifier: ClassifierFacts | None) -> Any:
    """The model without numbers in it."""
    auto: Any = AutoModelForCausalLM
    if isinstance(config, PretrainConfig):
        numbers = new_config(config, tokenizer)
    elif classifier is not None:
        numbers = AutoConfig.from_pretrained(resolve(config.model), **classifier.overrides)
        auto = MODELS[classifier.task]
    else:
        numbers = AutoConfig.from_pretrained(resolve(config.model))
    with torch.device("meta"):
        saved = ("score",) if isinstance(config, ClassifyConfig) else ()
        return prepare(auto.from_config(numbers), config, saved)


def _packed(model: Any) -> int:
    """Weights that are held in 4 bits: the matrices of the layers, routers left out."""
    return sum(
        module.weight.numel()
        for name, module in model.base_model.layers.named_modules()
        if isinstance(module, torch.nn.Linear) and ".lora_" not in name and not name.endswith("block_sparse_moe.gate")
    )


def _activations(model: Any, config: TrainConfig | PretrainConfig, rows: int, width: int) -> int:
    """Bytes that the backward pass needs, at the longest row."""
    numbers = model.numbers
    tokens = rows * config.data.max_length
    hidden, inner = numbers.hidden_size, numbers.intermediate_size * (numbers.num_experts_per_tok or 1)
    heads = (numbers.num_attention_heads + 2 * numbers.num_key_value_heads) * numbers.head_dim
    layer = tokens * (width * (4 * hidden + 2 * heads + 4 * inner) + 8 * hidden)  # norms are computed in float32
    kept = tokens * width * hidden
    layers: int = numbers.num_hidden_layers
    decoder = layers * kept + layer if config.gradient_checkpointing else layers * layer
    chunk = 0 if isinstance(config, ClassifyConfig) else min(tokens, _CHUNK_ROWS)
    return int(decoder + chunk * numbers.vocab_size * (4 + width))
