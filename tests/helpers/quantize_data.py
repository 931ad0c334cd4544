"""Weights to quantize, and what llama.cpp's plain rounding makes of them, for comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf_writer import random_blocks

from ostro.checkpoint.gguf_blocks import BLOCKS
from ostro.checkpoint.tensors import QuantizedTensor

Float32 = npt.NDArray[np.float32]


def blocks_of(kind: str, rows: int, cols: int, seed: int = 0) -> QuantizedTensor:
    """A matrix of random blocks; Q8_0 without -128, as ggml writes it."""
    blocks = random_blocks(kind, (rows, cols), seed)
    if kind == "Q8_0":
        quanta = blocks.reshape(-1, 34)[:, 2:]
        quanta[quanta == 128] = 129
    return QuantizedTensor(kind, (rows, cols), blocks, BLOCKS[kind].decode)


def squared_error(weights: npt.NDArray[Any], rounded: npt.NDArray[Any]) -> float:
    """The mean of the squared differences."""
    return float(np.mean(np.square(weights.astype(np.float64) - rounded)))


def _by_groups(rounding: Callable[[Float32], Float32]) -> Callable[[npt.NDArray[Any]], Float32]:
    def whole(weights: npt.NDArray[Any]) -> Float32:
        return rounding(weights.astype(np.float32).reshape(-1, 32)).reshape(weights.shape)

    return whole


@_by_groups
def q4_0(w: Float32) -> Float32:
    """The weight of largest magnitude goes on -8; q = trunc(w / d + 8.5), at most 15; d is kept as float16."""
    largest = np.take_along_axis(w, np.abs(w).argmax(axis=1)[:, None], axis=1)
    d = largest / np.float32(-8)
    q = np.minimum(np.trunc(_over(w, d) + np.float32(8.5)), 15) - 8
    return d.astype(np.float16).astype(np.float32) * q


@_by_groups
def q8_0(w: Float32) -> Float32:
    """d = max |w| / 127, kept as float16; q = w / d, halves away from zero."""
    d = np.abs(w).max(axis=1, keepdims=True) / np.float32(127)
    x = _over(w, d)
    return d.astype(np.float16).astype(np.float32) * np.trunc(x + np.copysign(np.float32(0.5), x))


def _over(w: Float32, d: Float32) -> Float32:
    return np.divide(w, d, out=np.zeros_like(w), where=d != 0)
