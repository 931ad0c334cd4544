"""What 4 and 8 bits cost a trained model: near enough to float, and no worse than GGUF's Q4_0."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file

from ostro import LLM
from ostro.checkpoint.packed import INT4, NF4
from ostro.ops.packing import pack

Float32 = npt.NDArray[np.float32]
STORIES = Path(__file__).resolve().parents[2] / "shared" / "models" / "stories260K" / "hf"
pytestmark = pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout")
TEXTS = [
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.",
    "Tom had a big red ball. He threw the ball to his dog, and the dog ran to get it. They were very happy.",
    "One day, a small bird fell from its nest. A kind boy saw the bird and took it to his mom.",
]


def logits(llm: LLM) -> Float32:
    return np.concatenate([llm.logits(text) for text in TEXTS])


def divergence(exact: Float32, found: Float32) -> float:
    """Mean KL divergence in nats per token."""
    p, q = (x.astype(np.float64) - x.max(axis=1, keepdims=True) for x in (exact, found))
    p, q = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in (p, q))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def q4_0(weight: Float32) -> Float32:
    """As llama.cpp rounds to Q4_0: groups of 32, d = the number of largest magnitude / -8 as float16."""
    rows, cols = weight.shape
    groups = np.pad(weight, ((0, 0), (0, -cols % 32))).reshape(-1, 32)
    largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=1)[:, None], axis=1)
    d = largest / np.float32(-8)
    inverse = np.divide(1, d, out=np.zeros_like(d), where=d != 0)
    q = np.clip(np.floor(groups * inverse + np.float32(8.5)), 0, 15) - 8
    return (q * d.astype(np.float16).astype(np.float32)).reshape(rows, -1)[:, :cols].copy()


def changed(folder: Path, change: Callable[[Float32], Float32]) -> LLM:
    """The model with the matrices of its layers changed, and everything else as it was."""
    folder.mkdir()
    for file in STORIES.iterdir():
        if file.suffix != ".safetensors":
            shutil.copyfile(file, folder / file.name)
    tensors = {name: value.astype(np.float32) for name, value in load_file(STORIES / "model.safetensors").items()}
    for name, value in tensors.items():
        if value.ndim == 2 and ".layers." in name:
            tensors[name] = np.ascontiguousarray(change(value))
    save_file(tensors, folder / "model.safetensors")
    return LLM(folder, backend="reference")


def test_eight_bits() -> None:
    """Within a hundredth, activations rounded to bytes included."""
    exact = logits(LLM(STORIES, backend="reference"))
    weights_alone = logits(LLM(STORIES, backend="reference", quantize=8))
    assert np.linalg.norm(weights_alone - exact) < 0.01 * np.linalg.norm(exact)
    found = logits(LLM(STORIES, backend="cpu", quantize=8))
    assert np.linalg.norm(found - exact) < 0.01 * np.linalg.norm(exact)
    assert divergence(exact, found) < 0.005


@pytest.mark.parametrize("codebook", [INT4, NF4], ids=["int4", "nf4"])
def test_four_bits_are_no_worse_than_q4_0(tmp_path: Path, codebook: tuple[int, ...]) -> None:
    exact = logits(LLM(STORIES, backend="reference"))
    ours = logits(changed(tmp_path / "ours", lambda w: pack(w, "P4G", codebook).dequantize()))
    theirs = logits(changed(tmp_path / "theirs", q4_0))
    assert divergence(exact, ours) < divergence(exact, theirs)
