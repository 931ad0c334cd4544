"""Tiny models, batches and configurations to train with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ostro.finetune.batches import ListBatches
from ostro.finetune.config import TrainConfig
from ostro.finetune.objective import Batch
from ostro.transformers import MistralConfig, MistralForCausalLM

LENGTH = 32


def tiny_model(dtype: str = "float32", **changes: Any) -> MistralForCausalLM:
    """Two layers of 32, always the same random weights."""
    torch.manual_seed(3)
    numbers = {
        "vocab_size": 101, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": None, "max_position_embeddings": 256,
    }  # fmt: skip
    return MistralForCausalLM(MistralConfig(**{**numbers, **changes})).to(getattr(torch, dtype))


def packed_batch(rows: int, lengths: tuple[int, ...] = (12, 20), seed: int = 0) -> Batch:
    """Random rows, each of sequences of these lengths; all tokens but a sequence's first are trained."""
    generator = torch.Generator().manual_seed(seed)
    positions = torch.cat([torch.arange(length) for length in lengths]).expand(rows, -1).contiguous()
    token_ids = torch.randint(3, 101, positions.shape, generator=generator)
    return Batch(token_ids, positions, (positions != 0).float())


def tiny_batches(count: int = 7, rows: int = 2) -> ListBatches[Batch]:
    """Shuffled micro batches of `rows` packed rows."""
    return ListBatches([packed_batch(rows, seed=seed) for seed in range(count)], seed=1)


def tiny_config(output_dir: Path, **changes: Any) -> TrainConfig:
    """Ten steps in float32 on micro batches of two rows."""
    values = {
        "model": "unused", "output_dir": str(output_dir), "data": {"train": "unused", "max_length": LENGTH},
        "dtype": "float32", "micro_batch_size": 2, "steps": 10, "learning_rate": 1e-2,
    }  # fmt: skip
    return TrainConfig.from_dict({**values, **changes})
