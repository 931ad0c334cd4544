"""GGUF files of random weights: what a model of a shape is to llama.cpp, without its weights and without PyTorch.

The matrices of the layers and the embedding have one 4-bit type; the output matrix (or the embedding where the two are
one) is Q6_K, which is what llama.cpp's own quantizer chooses for it. Norms and the router of experts are float32. The
blocks are random bits with scales that make the weights about 0.02 in size, so that every number stays finite.

The vocabulary is made up: bytes and numbered words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ostro.config.model import ModelConfig

FORMATS = {  # elements and bytes of a block; (byte, size) of its float16 numbers
    "F32": (1, 4, ()),
    "Q4_0": (32, 18, ((0, 4.3e-3),)),
    "Q4_1": (32, 20, ((0, 4.3e-3), (2, -3.2e-2))),
    "IQ4_NL": (32, 18, ((0, 2.9e-4),)),
    "IQ4_XS": (256, 136, ((0, 1.5e-5),)),
    "Q4_K": (256, 144, ((0, 8e-5), (2, 6e-4))),
    "Q6_K": (256, 210, ((208, 1.5e-5),)),
}
"""The scales were chosen for a standard deviation of about 0.02 when all other bits of a block are random."""

FILE_TYPES = {"Q4_0": 2, "Q4_1": 3, "Q4_K": 14, "IQ4_NL": 25, "IQ4_XS": 30}
"""The 4-bit types, and the number by which a file says that most of it is of that type."""


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One tensor of the file: its name, its shape with rows first, and its block type."""

    name: str
    shape: tuple[int, ...]
    kind: str

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        elements, size, _ = FORMATS[self.kind]
        return int(np.prod(self.shape, dtype=np.int64)) // elements * size


def tensors(config: ModelConfig, kind: str) -> list[GgufTensor]:
    """Every tensor of a model of this shape with layers of block type `kind`."""
    hidden, vocab = config.hidden_size, config.vocab_size
    tied = config.tie_word_embeddings
    found = [GgufTensor("token_embd.weight", (vocab, hidden), "Q6_K" if tied else kind)]
    for layer in range(config.num_hidden_layers):
        found += [
            GgufTensor(f"blk.{layer}.{name}.weight", shape, "F32" if len(shape) == 1 or "inp" in name else kind)
            for name, shape in _layer(config)
        ]
    found.append(GgufTensor("output_norm.weight", (hidden,), "F32"))
    return found if tied else [*found, GgufTensor("output.weight", (vocab, hidden), "Q6_K")]


def _layer(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, inner, experts = config.hidden_size, config.intermediate_size, config.num_local_experts
    queries, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
    yield "attn_norm", (hidden,)
    yield "attn_q", (queries, hidden)
    yield "attn_k", (keys, hidden)
    yield "attn_v", (keys, hidden)
    yield "attn_output", (hidden, queries)
    yield "ffn_norm", (hidden,)
    each = (experts,) if experts else ()
    suffix = "_exps" if experts else ""
    if experts:
        yield "ffn_gate_inp", (experts, hidden)
    yield f"ffn_gate{suffix}", (*each, inner, hidden)
    yield f"ffn_up{suffix}", (*each, inner, hidden)
    yield f"ffn_down{suffix}", (*each, hidden, inner)


def decode_bytes(config: ModelConfig, kind: str, context: int = 160) -> float:
    """What a step of one token must read: the matrices that it passes through, and float16 K/V of `context` tokens."""
    used = config.num_experts_per_tok / config.num_local_experts if config.num_local_experts else 1.0
    total = float(config.kv_bytes_per_token("float16") * context)
    for tensor in tensors(config, kind):
        if tensor.name != "token_embd.weight" or config.tie_word_embeddings:
            total += tensor.nbytes * (used if "_exps" in tensor.name else 1.0)
    return total


def prefill_operations(config: ModelConfig, num_tokens: int) -> float:
    """Operations of the matrices for a prompt, of which the last token alone passes the output matrix."""
    head = config.vocab_size * config.hidden_size
    layers = config.num_parameters(active=True) - head * (1 if config.tie_word_embeddings else 2)
    return 2.0 * (num_tokens * layers + head)


def metadata(config: ModelConfig, kind: str) -> dict[str, Any]:
    """The key-value part: the numbers of the architecture `llama`, and the made-up vocabulary.

    The scaling of rotary frequencies of Llama 3.1 is left out: it changes numbers and not the work.
    """
    numbers = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": float(config.rope_theta),
        "vocab_size": config.vocab_size,
    }
    if config.num_local_experts:
        numbers["expert_count"] = config.num_local_experts
        numbers["expert_used_count"] = config.num_experts_per_tok
    return {
        "general.architecture": "llama",
        "general.name": "random weights",
        "general.file_type": FILE_TYPES[kind],
        **{f"llama.{key}": value for key, value in numbers.items()},
        **_vocabulary(config.vocab_size),
    }


def _vocabulary(size: int) -> dict[str, Any]:
    """Byte-level BPE, the one kind that every engine here reads: two control tokens, bytes, numbered words."""
    printable = [byte for byte in range(256) if chr(byte).isprintable() and byte not in (0x20, 0xA0, 0xAD)]
    rest = [byte for byte in range(256) if byte not in printable]
    tokens = ["<s>", "</s>", *map(chr, printable), *(chr(256 + place) for place in range(len(rest)))]
    tokens += [f"w{number}" for number in range(size - len(tokens))]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3, 3] + [1] * (size - 2),
        "tokenizer.ggml.merges": [f"w {digit}" for digit in range(10)],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.add_bos_token": True,
    }


def random_blocks(kind: str, count: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """`count` blocks of `kind`, uint8 (count, bytes of a block)."""
    _, size, halves = FORMATS[kind]
    words = np.asarray(rng.bit_generator.random_raw(-(-count * size // 8)))  # the quickest source of many bits
    blocks = words.view(np.uint8)[: count * size].reshape(count, size)
    for at, scale in halves:
        numbers = (scale * rng.uniform(0.75, 1.25, count)).astype("<f2")
        blocks[:, at : at + 2] = numbers[:, None].view(np.uint8)
    return blocks


def content(tensor: GgufTensor, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The tensor's bytes: norms are ones, a router is normal with deviation 0.02, the rest are random blocks."""
    if tensor.kind == "F32":
        values = np.ones(tensor.shape) if len(tensor.shape) == 1 else 0.02 * rng.standard_normal(tensor.shape)
        return np.ascontiguousarray(values, "<f4").view(np.uint8).reshape(-1)
    return random_blocks(tensor.kind, tensor.nbytes // FORMATS[tensor.kind][1], rng).reshape(-1)


def write_gguf(path: Path, config: ModelConfig, kind: str, say: Callable[[str], None]) -> Path:
    """The file of this shape and type at `path`, made unless it is there. Needs the package `gguf`."""
    if path.exists():
        return path
    from gguf import GGUFWriter

    plan = tensors(config, kind)
    say(f"writing {path} ({sum(tensor.nbytes for tensor in plan) / 1e9:.2f} GB of random weights)")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    writer = GGUFWriter(partial, "llama")
    _write_metadata(writer, metadata(config, kind))
    _write_tensors(writer, plan)
    writer.close()
    partial.rename(path)
    return path


def _write_metadata(writer: Any, values: dict[str, Any]) -> None:
    adders = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
    for key, value in values.items():
        if key != "general.architecture":  # the writer's own
            adders.get(type(value), writer.add_array)(key, value)


def _write_tensors(writer: Any, plan: list[GgufTensor]) -> None:
    from gguf import GGMLQuantizationType

    for tensor in plan:
        elements, size, _ = FORMATS[tensor.kind]
        shape, raw = tensor.shape, None
        dtype: np.dtype[Any] = np.dtype(np.float32)
        if tensor.kind != "F32":  # the package wants the shape in bytes and derives the one in elements
            shape = (*tensor.shape[:-1], tensor.shape[-1] // elements * size)
            dtype, raw = np.dtype(np.uint8), GGMLQuantizationType[tensor.kind]
        writer.add_tensor_info(tensor.name, shape, dtype, tensor.nbytes, raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.default_rng(0)
    for tensor in plan:
        writer.write_tensor_data(content(tensor, rng))
