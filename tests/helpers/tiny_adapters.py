"""Random LoRA adapters for tiny checkpoints, written without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ostro.checkpoint.adapter import BaseRecord, write_adapter
from ostro.checkpoint.fingerprint import weights_fingerprint
from ostro.checkpoint.lora_config import LoraConfig
from ostro.checkpoint.open import open_checkpoint

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
EVERYTHING = (*ATTENTION, "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3", "block_sparse_moe.gate", "lm_head")


def write_random_adapter(
    folder: Path,
    base: Path,
    targets: Sequence[str] = ATTENTION,
    *,
    seed: int = 0,
    whole: Sequence[str] = (),
    states_base: bool = True,
    dtype: Any = np.float32,
    **config: Any,
) -> Path:
    """An adapter of `base` over the modules whose names end so, with numbers large enough to change every answer.

    `whole` are modules that it replaces, such as "lm_head".
    """
    rng = np.random.default_rng(seed)
    checkpoint = open_checkpoint(base)
    lora = LoraConfig(
        **{"r": 3, "lora_alpha": 4, **config}, target_modules=tuple(targets), modules_to_save=tuple(whole),
        base_model_name_or_path=str(base),
    )  # fmt: skip
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for name, shape in checkpoint.tensors.shapes.items():
        module = name.removesuffix(".weight")
        if lora.saves(module):
            tensors[name] = rng.normal(0, 0.3, shape).astype(dtype)
        elif lora.targets(module):
            rank = lora.rank(module)
            tensors[f"{module}.lora_A.weight"] = rng.normal(0, shape[1] ** -0.5, (rank, shape[1])).astype(dtype)
            tensors[f"{module}.lora_B.weight"] = rng.normal(0, 0.3, (shape[0], rank)).astype(dtype)
    record = BaseRecord(fingerprint=weights_fingerprint(checkpoint), dtype="float32") if states_base else None
    write_adapter(folder, lora, tensors, record)
    return folder
