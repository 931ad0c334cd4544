"""Tensor names: what a config's model consists of under HF's names, and how native and GGUF names translate to them.

In memory a mixture of experts has the names of HF's files, `block_sparse_moe.experts.E.w1` and so on. The rows of the
query and key matrices are in HF's order in memory: within a head, first the d/2 first halves of the rotary pairs,
then the second ones. Native files and GGUF files of architecture llama have each pair's rows side by side.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ostro.checkpoint.tensors import QuantizedTensor, Tensor
from ostro.config import ModelConfig

Change = Literal["none", "rotary", "fused", "fused_transposed", "expert"]


@dataclass(frozen=True, slots=True)
class Part:
    """How a tensor under its HF `name` is made from the one in the file.

    none: it is the same. rotary: rows of q_proj or k_proj change their order. expert: one matrix of GGUF's
    (E, rows, columns). fused: rows e*F .. (e+1)*F of a matrix (E*F, D); fused_transposed: these rows transposed.
    """

    name: str
    change: Change = "none"
    expert: int | None = None


def expected_tensors(config: ModelConfig, *, lm_head: bool = True) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the model, under HF names; without `lm_head`, of its decoder alone."""
    hidden, vocab = config.hidden_size, config.vocab_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for index in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in _layer_tensors(config)}
    shapes["model.norm.weight"] = (hidden,)
    if lm_head and not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (vocab, hidden)
    return shapes


def _layer_tensors(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    yield "input_layernorm.weight", (hidden,)
    yield "self_attn.q_proj.weight", (queries, hidden)
    yield "self_attn.k_proj.weight", (keys, hidden)
    yield "self_attn.v_proj.weight", (keys, hidden)
    yield "self_attn.o_proj.weight", (hidden, queries)
    yield "post_attention_layernorm.weight", (hidden,)
    if not config.num_local_experts:
        yield "mlp.gate_proj.weight", (inner, hidden)
        yield "mlp.up_proj.weight", (inner, hidden)
        yield "mlp.down_proj.weight", (hidden, inner)
        return
    yield "block_sparse_moe.gate.weight", (config.num_local_experts, hidden)
    for expert in range(config.num_local_experts):
        yield f"block_sparse_moe.experts.{expert}.w1.weight", (inner, hidden)
        yield f"block_sparse_moe.experts.{expert}.w2.weight", (hidden, inner)
        yield f"block_sparse_moe.experts.{expert}.w3.weight", (inner, hidden)


_HARMLESS = re.compile(
    r"(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq"  # HF's old files keep the rotary frequencies
    r"|rope\.freqs"  # so do Meta's
    r"|rope_freqs\.weight|blk\.\d+\.attn_rot_embd(\.weight)?"  # GGUF: the first is part of the config
)


def is_harmless(name: str) -> bool:
    """Whether a tensor outside the model may lie in a file: it holds nothing that the config does not say."""
    return _HARMLESS.fullmatch(name) is not None


Translate = Callable[[str, int], list[Part]]
"""(name in the file, number of experts) -> the tensors it holds; empty where the name is unknown."""


def from_hf_name(name: str, _num_experts: int) -> list[Part]:
    """HF names are the names in memory; files of a bare model (`MistralModel`, ...) lack the prefix `model.`."""
    bare = name == "embed_tokens.weight" or name == "norm.weight" or name.startswith("layers.")
    return [Part("model." + name if bare else name)]


_NATIVE_TOP = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_NATIVE_LAYER: dict[str, tuple[str, Change]] = {
    "attention_norm.weight": ("input_layernorm.weight", "none"),
    "ffn_norm.weight": ("post_attention_layernorm.weight", "none"),
    "attention.wq.weight": ("self_attn.q_proj.weight", "rotary"),
    "attention.wk.weight": ("self_attn.k_proj.weight", "rotary"),
    "attention.wv.weight": ("self_attn.v_proj.weight", "none"),
    "attention.wo.weight": ("self_attn.o_proj.weight", "none"),
    "feed_forward.w1.weight": ("mlp.gate_proj.weight", "none"),
    "feed_forward.w2.weight": ("mlp.down_proj.weight", "none"),
    "feed_forward.w3.weight": ("mlp.up_proj.weight", "none"),
    "feed_forward.gate.weight": ("block_sparse_moe.gate.weight", "none"),
    "block_sparse_moe.gate.weight": ("block_sparse_moe.gate.weight", "none"),
}
_NATIVE_EXPERT = re.compile(r"feed_forward\.experts\.(\d+)\.(w[123])\.weight")
# Mixtral's first release: all experts of a layer under one another, w2 transposed.
_NATIVE_FUSED = re.compile(r"block_sparse_moe\.(w[123])")


def from_native_name(name: str, num_experts: int) -> list[Part]:
    """Names of Mistral's and Meta's `consolidated.safetensors`."""
    if name in _NATIVE_TOP:
        return [Part(_NATIVE_TOP[name])]
    match = re.fullmatch(r"layers\.(\d+)\.(.+)", name)
    if match is None:
        return []
    prefix, rest = f"model.layers.{match[1]}.", match[2]
    if rest in _NATIVE_LAYER:
        target, change = _NATIVE_LAYER[rest]
        return [Part(prefix + target, change)]
    if expert := _NATIVE_EXPERT.fullmatch(rest):
        return [Part(f"{prefix}block_sparse_moe.experts.{expert[1]}.{expert[2]}.weight")]
    if fused := _NATIVE_FUSED.fullmatch(rest):
        cut: Change = "fused_transposed" if fused[1] == "w2" else "fused"
        moe = f"{prefix}block_sparse_moe.experts"
        return [Part(f"{moe}.{e}.{fused[1]}.weight", cut, e) for e in range(num_experts)]
    return []


_GGUF_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_GGUF_LAYER: dict[str, tuple[str, Change]] = {
    "attn_norm.weight": ("input_layernorm.weight", "none"),
    "ffn_norm.weight": ("post_attention_layernorm.weight", "none"),
    "attn_q.weight": ("self_attn.q_proj.weight", "rotary"),
    "attn_k.weight": ("self_attn.k_proj.weight", "rotary"),
    "attn_v.weight": ("self_attn.v_proj.weight", "none"),
    "attn_output.weight": ("self_attn.o_proj.weight", "none"),
    "ffn_gate.weight": ("mlp.gate_proj.weight", "none"),
    "ffn_down.weight": ("mlp.down_proj.weight", "none"),
    "ffn_up.weight": ("mlp.up_proj.weight", "none"),
    "ffn_gate_inp.weight": ("block_sparse_moe.gate.weight", "none"),
}
_GGUF_EXPERTS = re.compile(r"ffn_(gate|down|up)_exps\.weight")
_GGUF_EXPERT = re.compile(r"ffn_(gate|down|up)\.(\d+)\.weight")  # of early 2024: a tensor for each expert
_EXPERT_NAMES = {"gate": "w1", "down": "w2", "up": "w3"}


def from_gguf_name(name: str, num_experts: int) -> list[Part]:
    """Names of GGUF files of architecture llama."""
    if name in _GGUF_TOP:
        return [Part(_GGUF_TOP[name])]
    match = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
    if match is None:
        return []
    prefix, rest = f"model.layers.{match[1]}.", match[2]
    if rest in _GGUF_LAYER:
        target, change = _GGUF_LAYER[rest]
        return [Part(prefix + target, change)]
    if expert := _GGUF_EXPERT.fullmatch(rest):
        return [Part(f"{prefix}block_sparse_moe.experts.{expert[2]}.{_EXPERT_NAMES[expert[1]]}.weight")]
    if experts := _GGUF_EXPERTS.fullmatch(rest):
        moe, which = f"{prefix}block_sparse_moe.experts", _EXPERT_NAMES[experts[1]]
        return [Part(f"{moe}.{e}.{which}.weight", "expert", e) for e in range(num_experts)]
    return []


def part_shape(shape: tuple[int, ...], part: Part, num_experts: int) -> tuple[int, ...] | None:
    """Shape of the part made from a file's tensor of `shape`; None where such a part cannot be cut from it."""
    if part.change == "expert":
        return shape[1:] if len(shape) == 3 and shape[0] == num_experts else None
    if part.change in ("fused", "fused_transposed"):
        if len(shape) != 2 or shape[0] % num_experts:
            return None
        rows = shape[0] // num_experts
        return (rows, shape[1]) if part.change == "fused" else (shape[1], rows)
    return shape


def make_part(tensor: Tensor, part: Part, head_dim: int, num_experts: int) -> Tensor:
    """The part of a file's tensor; for `expert` the file has cut it already."""
    if part.change == "rotary":
        return to_half_split(tensor, head_dim)
    if part.change not in ("fused", "fused_transposed"):
        return tensor
    assert part.expert is not None
    assert isinstance(tensor, np.ndarray)  # native files hold floats
    rows = tensor.shape[0] // num_experts
    matrix = tensor[part.expert * rows : (part.expert + 1) * rows]
    return matrix if part.change == "fused" else np.ascontiguousarray(matrix.T)


def to_half_split(tensor: Tensor, head_dim: int) -> Tensor:
    """Rows of a query or key matrix (heads * d, columns) from interleaved rotary pairs to HF's order: a copy.

    >>> import numpy as np
    >>> from ostro.checkpoint.names import to_half_split
    >>> to_half_split(np.array([[0], [1], [10], [11]]), 4).ravel().tolist()
    [0, 10, 1, 11]
    """
    index = half_split_rows(tensor.shape[0], head_dim)
    if isinstance(tensor, QuantizedTensor):
        return tensor.rows(index)
    assert isinstance(tensor, np.ndarray)  # packed folders have HF's order
    permuted: npt.NDArray[Any] = tensor[index]
    return permuted


def half_split_rows(num_rows: int, head_dim: int) -> npt.NDArray[np.int64]:
    """For each row in HF's order, the row in the interleaved order."""
    pairs = np.arange(num_rows, dtype=np.int64).reshape(-1, head_dim // 2, 2)
    return pairs.swapaxes(1, 2).reshape(-1)
