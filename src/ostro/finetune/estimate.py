"""What a run would take, before a weight is loaded: numbers of weights, and memory by its parts.

    memory = weights + what is trained (float32 copy, gradient, two moments) + activations + logits

Weights and what is trained are exact; activations are reckoned from what the layers keep for
their backward pass, and are those of the longest rows that the data may have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ostro.checkpoint.hub import resolve
from ostro.finetune.classifier import MODELS, ClassifierFacts
from ostro.finetune.config import PretrainConfig, TrainConfig
from ostro.finetune.model import new_config, prepare
from ostro.finetune.optimizer import is_inner_matrix
from ostro.finetune.sections import ClassifyConfig, DpoConfig
from ostro.tokenizer import Tokenizer
from ostro.transformers import AutoConfig, AutoModelForCausalLM
from ostro.transformers.short_attention import LONGEST

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
    by_muon = sum(p.numel() for n, p in trained.items() if config.optimizer == "muon" and is_inner_matrix(n, p))
    training_bytes = num_trained * (own_width + masters + sums + 8) - by_muon * 4  # it keeps one moment, not two
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
    """Bytes that the backward pass needs, at the longest row, and those that it takes beside them in one layer."""
    numbers = model.numbers
    tokens = rows * config.data.max_length
    layer = tokens * _saved_bytes_of_token(config, numbers, width)
    layers: int = numbers.num_hidden_layers
    kept = tokens * width * numbers.hidden_size
    decoder = layers * kept + layer if config.gradient_checkpointing else layers * layer
    gradients = tokens * (2 * width * _inner_size(numbers) + 8 * numbers.hidden_size)
    chunk = 0 if isinstance(config, ClassifyConfig) else min(tokens, _CHUNK_ROWS)
    logits = chunk * numbers.vocab_size * 8  # in float32, and their softmax
    return int(decoder + max(gradients + _unpacked_bytes(model, config, width), logits))


def _inner_size(numbers: Any) -> int:
    size: int = numbers.intermediate_size * (numbers.num_experts_per_tok or 1)
    return size


def _saved_bytes_of_token(config: TrainConfig | PretrainConfig, numbers: Any, width: int) -> int:
    """What one token's way through one layer keeps for the backward pass."""
    adapted = isinstance(config, TrainConfig) and config.method != "full"
    hidden, queries = numbers.hidden_size, numbers.num_attention_heads * numbers.head_dim
    keys = numbers.num_key_value_heads * numbers.head_dim
    norms = (
        4 * hidden * (2 if adapted else 4)
    )  # in float32; what is multiplied by a norm's weight only if that is trained
    plain = width * (2 * hidden + 2 * queries + 2 * keys + 4 * _inner_size(numbers))
    seen = min(config.data.max_length, LONGEST[torch.bfloat16 if width == 2 else torch.float32])
    return int(norms + plain + width * numbers.num_attention_heads * seen)  # weights are kept of short sequences only


def _unpacked_bytes(model: Any, config: TrainConfig | PretrainConfig, width: int) -> int:
    """The largest matrix that is unpacked from 4 bits to be multiplied with."""
    if not (isinstance(config, TrainConfig) and config.method == "qlora"):
        return 0
    sizes: list[int] = [p.numel() for name, p in model.named_parameters() if ".mlp." in name or ".block_" in name]
    return width * max(sizes)
