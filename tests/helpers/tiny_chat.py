"""A tiny model of random weights with Mistral's v3 vocabulary: it talks nonsense, and does not end by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mistral_common
import numpy as np
from safetensors.numpy import save_file

CONFIG: dict[str, Any] = {
    "model_type": "mistral",
    "architectures": ["MistralForCausalLM"],
    "vocab_size": 32768,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "sliding_window": None,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}


LLAMA_TOKENS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>",
    "<|python_tag|>",
)  # fmt: skip
LLAMA_VOCAB = 256 + len(LLAMA_TOKENS)


def tensors(vocab_size: int = 32768) -> dict[str, np.ndarray[Any, Any]]:
    """Random weights of `CONFIG`, always the same."""
    rng = np.random.default_rng(3)

    def random(*shape: int) -> np.ndarray[Any, Any]:
        return (0.3 * rng.standard_normal(shape)).astype(np.float32)

    made = {"model.embed_tokens.weight": random(vocab_size, 16), "model.norm.weight": np.ones(16, np.float32)}
    made["model.embed_tokens.weight"][2] = 0  # so that the end of an answer is no likely token
    for layer in (f"model.layers.{index}" for index in range(2)):
        made |= {
            f"{layer}.{name}.weight": np.ones(16, np.float32)
            for name in ("input_layernorm", "post_attention_layernorm")
        }
        made |= {
            f"{layer}.self_attn.{name}_proj.weight": random(rows, 16)
            for name, rows in zip("qkv", (16, 8, 8), strict=True)
        }
        made[f"{layer}.self_attn.o_proj.weight"] = random(16, 16)
        made |= {f"{layer}.mlp.{name}_proj.weight": random(24, 16) for name in ("gate", "up")}
        made[f"{layer}.mlp.down_proj.weight"] = random(16, 24)
    return made


def save_chat_model(folder: Path) -> Path:
    """Write the model into a new folder."""
    folder.mkdir()
    data = Path(mistral_common.__file__).parent / "data"
    shutil.copy(data / "mistral_instruct_tokenizer_240323.model.v3", folder / "tokenizer.model")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors(), folder / "model.safetensors")
    return folder
