"""Weights are mapped and not copied: what a process owns grows by far less than the model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from gguf_quantize import quantize
from gguf_writer import write_gguf
from safetensors.numpy import save_file

from ostro.checkpoint.names import expected_tensors
from ostro.config import from_hf

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory"),
]

CONFIG = {
    "model_type": "mistral",
    "vocab_size": 1024,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "sliding_window": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

MEASURE = """
import re, sys
from pathlib import Path
from ostro import LLM, SamplingParams
import ostro.llm, ostro.ops.cpu, ostro.tokenizer.load, ostro.checkpoint.hub, ml_dtypes

def owned():
    status = Path("/proc/self/status").read_text()
    return [int(re.search(rf"Rss{kind}:\\s+(\\d+)", status)[1]) * 1024 for kind in ("Anon", "File")]

before = owned()
llm = LLM(sys.argv[1], backend="cpu", num_threads=1, max_num_seqs=1)
llm.generate([[1, 5, 9]], SamplingParams(temperature=0, max_tokens=2, ignore_eos=True))
print(*(now - then for now, then in zip(owned(), before)))
"""


def memory_growth(path: Path) -> tuple[int, int]:
    """Bytes of its own memory, and of mapped files, that a process has more after loading and running a model."""
    run = subprocess.run([sys.executable, "-c", MEASURE, str(path)], check=True, capture_output=True, text=True)
    owned, mapped = map(int, run.stdout.split())
    return owned, mapped


def test_bfloat16_safetensors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = expected_tensors(from_hf(CONFIG, source="test"))
    tensors = {name: rng.normal(0, 0.02, shape).astype(ml_dtypes.bfloat16) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size > 100e6
    assert memory_growth(tmp_path)[0] < 0.2 * size


def test_quantized_gguf(tmp_path: Path) -> None:
    """Blocks are repacked, which takes their size once; the file itself does not stay mapped beside it."""
    rng = np.random.default_rng(0)
    names = {
        "attn_q": (1024, 1024),
        "attn_k": (256, 1024),
        "attn_v": (256, 1024),
        "attn_output": (1024, 1024),
        "ffn_gate": (4096, 1024),
        "ffn_up": (4096, 1024),
        "ffn_down": (1024, 4096),
    }

    def packed(shape: tuple[int, int]) -> tuple[str, tuple[int, int], np.ndarray]:
        return "Q8_0", shape, quantize("Q8_0", rng.normal(0, 0.02, shape).astype(np.float32))

    norm = np.ones(1024, dtype=np.float32)
    tensors: dict[str, object] = {"token_embd.weight": packed((1024, 1024)), "output.weight": packed((1024, 1024))}
    tensors["output_norm.weight"] = norm
    for layer in range(4):
        tensors |= {f"blk.{layer}.{name}.weight": packed(shape) for name, shape in names.items()}
        tensors |= {f"blk.{layer}.{name}.weight": norm for name in ("attn_norm", "ffn_norm")}
    path = tmp_path / "model.gguf"
    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *(f"w{i}" for i in range(1024 - 259)),
    ]
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 4,
        "llama.embedding_length": 1024,
        "llama.feed_forward_length": 4096,
        "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": 2,
        "llama.rope.freq_base": 1e6,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.context_length": 256,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * len(tokens),
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (1024 - 259)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    write_gguf(path, metadata, tensors)
    owned, mapped = memory_growth(path)
    assert owned < 1.15 * path.stat().st_size
    assert mapped < 0.1 * path.stat().st_size
