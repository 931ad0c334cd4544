"""The same tiny model as HF, native and GGUF files, made from HF tensors by code of the tests' own."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf_writer import write_gguf

Arrays = dict[str, npt.NDArray[Any]]


def config_json(**changes: Any) -> dict[str, Any]:
    """A small Mistral in the manner of transformers 4."""
    return {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "vocab_size": 20,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "sliding_window": None,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    } | changes


def hf_tensors(config: Mapping[str, Any], seed: int = 0) -> Arrays:
    """Random float32 tensors of the model that a config.json describes."""
    rng = np.random.default_rng(seed)
    D, F, d = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    H, G, V = config["num_attention_heads"], config["num_key_value_heads"], config["vocab_size"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (V, D)
    for n in range(config["num_hidden_layers"]):
        p = f"model.layers.{n}."
        shapes |= {p + "input_layernorm.weight": (D,), p + "post_attention_layernorm.weight": (D,)}
        shapes |= {p + "self_attn.q_proj.weight": (H * d, D), p + "self_attn.k_proj.weight": (G * d, D)}
        shapes |= {p + "self_attn.v_proj.weight": (G * d, D), p + "self_attn.o_proj.weight": (D, H * d)}
        if config["model_type"] != "mixtral":
            shapes |= {p + f"mlp.{w}_proj.weight": (F, D) for w in ("gate", "up")}
            shapes[p + "mlp.down_proj.weight"] = (D, F)
            continue
        shapes[p + "block_sparse_moe.gate.weight"] = (config["num_local_experts"], D)
        for e in range(config["num_local_experts"]):
            x = f"{p}block_sparse_moe.experts.{e}."
            shapes |= {x + "w1.weight": (F, D), x + "w2.weight": (D, F), x + "w3.weight": (F, D)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def mixtral_json() -> dict[str, Any]:
    """A small Mixtral of three experts."""
    return config_json(
        model_type="mixtral", architectures=["MixtralForCausalLM"], num_local_experts=3, num_experts_per_tok=2
    )


def interleave(matrix: npt.NDArray[Any], head_dim: int) -> npt.NDArray[Any]:
    """Rows of q_proj or k_proj with the two rows of each rotary pair side by side, written as a plain loop."""
    out = np.empty_like(matrix)
    for row in range(len(matrix)):
        head, i = divmod(row, head_dim)
        pair, second = divmod(i, 2)
        out[row] = matrix[head * head_dim + second * (head_dim // 2) + pair]
    return out


def native_tensors(hf: Arrays, head_dim: int, *, fused: bool = False) -> Arrays:
    """The tensors as Mistral's and Meta's files name and order them; `fused` as Mixtral's first release did."""
    words = [
        ("model.embed_tokens", "tok_embeddings"), ("lm_head", "output"), ("model.norm", "norm"), ("model.", ""),
        ("input_layernorm", "attention_norm"), ("post_attention_layernorm", "ffn_norm"), ("self_attn", "attention"),
        ("q_proj", "wq"), ("k_proj", "wk"), ("v_proj", "wv"), ("o_proj", "wo"), ("mlp", "feed_forward"),
        ("gate_proj", "w1"), ("down_proj", "w2"), ("up_proj", "w3"),
    ]  # fmt: skip
    out: Arrays = {}
    for name, tensor in hf.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = interleave(tensor, head_dim)
        for old, new in words:
            name = name.replace(old, new)
        if not fused:
            name = name.replace("block_sparse_moe", "feed_forward")
        elif ".experts." in name:
            before, after = name.split(".experts.")
            name = f"{before}.{after.split('.')[1]}"
            tensor = tensor.T if name.endswith("w2") else tensor
            tensor = np.concatenate([out[name], tensor]) if name in out else tensor
        out[name] = tensor
    return out


def params_json(config: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The params.json of a config.json, in Mistral's manner."""
    params = {
        "dim": config["hidden_size"], "n_layers": config["num_hidden_layers"], "head_dim": config["head_dim"],
        "hidden_dim": config["intermediate_size"], "n_heads": config["num_attention_heads"],
        "n_kv_heads": config["num_key_value_heads"], "norm_eps": config["rms_norm_eps"],
        "vocab_size": config["vocab_size"], "rope_theta": config["rope_theta"],
        "max_seq_len": config["max_position_embeddings"],
    }  # fmt: skip
    if config["model_type"] == "mixtral":
        params["moe"] = {
            "num_experts": config["num_local_experts"],
            "num_experts_per_tok": config["num_experts_per_tok"],
        }
    return params | changes


def gguf_tensors(hf: Arrays, head_dim: int, *, fused: bool = True) -> Arrays:
    """The tensors as GGUF files of architecture llama name and order them; experts as one tensor where `fused`."""
    words = [
        ("model.embed_tokens", "token_embd"), ("lm_head", "output"), ("model.norm", "output_norm"),
        ("model.layers", "blk"), ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"), ("self_attn.", "attn_"), ("_proj", ""), ("mlp.", "ffn_"),
        ("block_sparse_moe.gate", "ffn_gate_inp"),
    ]  # fmt: skip
    out: Arrays = {}
    for name, tensor in hf.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = interleave(tensor, head_dim)
        if ".experts." in name:
            before, after = name.split(".block_sparse_moe.experts.")
            expert, which, _ = after.split(".")
            kind = {"w1": "gate", "w2": "down", "w3": "up"}[which]
            layer = before.replace("model.layers", "blk")
            if not fused:
                out[f"{layer}.ffn_{kind}.{expert}.weight"] = tensor
                continue
            name = f"{layer}.ffn_{kind}_exps.weight"
            tensor = np.concatenate([out[name], tensor[None]]) if name in out else tensor[None]
        for old, new in words:
            name = name.replace(old, new)
        out[name] = tensor
    return out


def gguf_metadata(config: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Metadata of a GGUF file for a config.json."""
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": config["num_hidden_layers"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.key_length": config["head_dim"],
        "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "llama.rope.freq_base": config["rope_theta"],
        "llama.vocab_size": config["vocab_size"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    if config["model_type"] == "mixtral":
        metadata["llama.expert_count"] = config["num_local_experts"]
        metadata["llama.expert_used_count"] = config["num_experts_per_tok"]
    return {key: value for key, value in (metadata | changes).items() if value is not None}


def safetensors_bytes(header: Any, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file with any header at all: an object (written as JSON) or raw bytes."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def write_safetensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]]) -> Path:
    """A plain, valid file, as the safetensors library writes it."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)
    return path


def write_hf(folder: Path, config: Mapping[str, Any], tensors: Arrays) -> Path:
    """A folder with config.json and model.safetensors."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def write_shards(folder: Path, tensors: Arrays, stem: str = "model", count: int = 2) -> dict[str, str]:
    """The tensors in `count` shards and their index; returns the index's weight_map."""
    folder.mkdir(exist_ok=True)
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for part in range(count):
        file_name = f"{stem}-{part + 1:05}-of-{count:05}.safetensors"
        write_safetensors(folder / file_name, {name: tensors[name] for name in names[part::count]})
        weight_map |= dict.fromkeys(names[part::count], file_name)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    return weight_map


def write_native(folder: Path, params: Mapping[str, Any], tensors: Arrays) -> Path:
    """A folder with params.json and consolidated.safetensors."""
    folder.mkdir(exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    write_safetensors(folder / "consolidated.safetensors", tensors)
    return folder


def write_model_gguf(path: Path, config: Mapping[str, Any], tensors: Arrays, **changes: Any) -> Path:
    """A GGUF file of the model; `changes` are metadata keys (None drops one)."""
    return write_gguf(path, gguf_metadata(config, **changes), tensors)
