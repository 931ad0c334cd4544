"""Random weights of a shape, made in memory: the bytes that a quantized model of it would have, and sane numbers.

Every matrix has memory of its own, so that a step reads as much as it would of a real model. Weights have a mean of
zero and a variance of 1 / K for K inputs, so that activations neither grow nor vanish.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ostro.checkpoint.names import expected_tensors
from ostro.checkpoint.packed import CODEBOOKS, PACKINGS, PackedTensor, Packing
from ostro.checkpoint.packing import HEAD_KINDS, LAYER_KINDS
from ostro.checkpoint.tensors import Tensor
from ostro.config import ModelConfig
from ostro.errors import RequestError

BITS = (4, 8, 16)
"""Packed with 4 or 8 bits, or bfloat16."""

Bytes: TypeAlias = npt.NDArray[np.uint8]
Uint64: TypeAlias = npt.NDArray[np.uint64]
_BLOCK = 1 << 17
"""Numbers of 8 bytes that are drawn at once: a mebibyte, which stays in the cache until it is stored."""
_BFLOAT16, _FLOAT16 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16)
_MANTISSA = {_BFLOAT16: 7, _FLOAT16: 10}


def check_precision(bits: int, codebook: str | None) -> None:
    """RequestError for bits or a codebook that there are not, or a codebook that 8 and 16 bits have no use for."""
    if bits not in BITS:
        raise RequestError(f"bits must be one of {', '.join(map(str, BITS))}, not {bits!r}.", param="bits")
    if codebook is not None and codebook not in CODEBOOKS:
        raise RequestError(f"codebook must be one of {', '.join(CODEBOOKS)}, not {codebook!r}.", param="codebook")
    if codebook is not None and bits != 4:
        raise RequestError(f"codebook says what the 16 codes of 4 bits mean; leave it out at {bits}.", param="codebook")


def planned_bytes(config: ModelConfig, bits: int) -> int:
    """Bytes of the weights that `random_weights` would make."""
    total = 0
    for name, shape in expected_tensors(config).items():
        kind = _kind(name, config, bits)
        total += 2 * prod(shape) if kind is None else PACKINGS[kind].nbytes(*shape)
    return total


def random_weights(
    config: ModelConfig, bits: int, codebook: str | None = None, *, num_threads: int = 1
) -> dict[str, Tensor]:
    """Tensors under HF names: packed with `bits` 4 (`codebook` int4 or nf4) or 8, else bfloat16. Always the same ones.

    The layouts are those of `ostro quantize` (`checkpoint/packing.py`); norms and routers are bfloat16.
    """
    check_precision(bits, codebook)
    values = CODEBOOKS[codebook or "int4"]
    shapes = expected_tensors(config)

    def make(index: int, name: str) -> Tensor:
        generator = np.random.Generator(np.random.SFC64(index))
        shape = shapes[name]
        if len(shape) == 1:
            return np.ones(shape, _BFLOAT16)
        # An embedding is no product: its rows themselves are to have the variance of 1.
        inputs = 1 if name == "model.embed_tokens.weight" and not config.tie_word_embeddings else shape[1]
        kind, size = _kind(name, config, bits), inputs**-0.5
        if kind is None:
            return _floats(_BFLOAT16, size, prod(shape), generator).reshape(shape)
        rows, cols = shape
        return _packed(PACKINGS[kind], rows, cols, size, values, generator)

    with ThreadPoolExecutor(num_threads) as pool:
        return dict(zip(shapes, pool.map(make, range(len(shapes)), shapes), strict=True))


def _kind(name: str, config: ModelConfig, bits: int) -> str | None:
    """The layout of a tensor; None for one that is not packed."""
    if bits == 16 or "norm" in name or name.endswith(".block_sparse_moe.gate.weight"):
        return None
    is_head = name == "lm_head.weight" or (name == "model.embed_tokens.weight" and config.tie_word_embeddings)
    return (HEAD_KINDS if is_head else LAYER_KINDS)[bits]


def _packed(
    packing: Packing, rows: int, cols: int, size: float, codebook: tuple[int, ...], generator: np.random.Generator
) -> PackedTensor:
    """A packed matrix whose weights have the root mean square `size`."""
    meaning = codebook if packing.bits == 4 else tuple(range(-127, 128))
    out = PackedTensor.empty(packing.kind, (rows, cols), codebook if packing.bits == 4 else ())
    _draw(out.codes.reshape(-1), generator, None if packing.bits == 4 else _without_zero)
    _draw_scales(packing.kind[2:], size / _root_mean_square(meaning), out.scales, generator)
    return out


def _draw_scales(form: str, size: float, out: Bytes, generator: np.random.Generator) -> None:
    """Scales of both signs, so that it does not matter if the mean of the codes is not 0."""
    if form == "":
        out[...] = _floats(_FLOAT16, size, out.size // 2, generator).view(np.uint8).reshape(out.shape)
        return
    assert form == "G", form
    _draw(out.reshape(-1), generator)
    fine = out[..., 32:]
    # 64 .. 127 and -127 .. -65: the sign is drawn, and the bit below it is its opposite.
    fine[:] = (fine & 0xBF) | (~fine >> 1 & 0x40) | 1
    coarse = _floats(_FLOAT16, size / _root_mean_square(range(65, 128)), out.size // out.shape[-1] * 16, generator)
    out[..., :32] = coarse.view(np.uint8).reshape(*out.shape[:2], 32)


def _root_mean_square(values: Sequence[int]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _draw(out: Bytes, generator: np.random.Generator, change: Callable[[Uint64], None] | None = None) -> None:
    """Random bytes; `change` may work on them block after block, as long as they are in the cache."""
    for begin in range(0, len(out), 8 * _BLOCK):
        part = out[begin : begin + 8 * _BLOCK]
        block = generator.integers(0, 2**64 - 1, -(-len(part) // 8), np.uint64, endpoint=True)
        if change is not None:
            change(block)
        part[:] = block.view(np.uint8)[: len(part)]


def _without_zero(block: Uint64) -> None:
    """Codes of 8 bits begin at 1, which means -127."""
    codes = block.view(np.uint8)
    np.maximum(codes, 1, out=codes)


def _floats(dtype: np.dtype[Any], size: float, count: int, generator: np.random.Generator) -> npt.NDArray[Any]:
    """Numbers of both signs whose root mean square is about `size`, made of bits.

    Positive floats are ordered as their bits are, so random bits added to those of `size` span one power of two.
    """
    span = 1 << _MANTISSA[dtype]
    lowest = max(0, int(np.array(size, dtype).view(np.uint16)) - span // 2)

    def change(block: Uint64) -> None:
        bits = block.view(np.uint16)
        sign = bits & np.uint16(0x8000)
        bits &= np.uint16(span - 1)
        bits += np.uint16(lowest)
        bits |= sign

    out = np.empty(2 * count, np.uint8)
    _draw(out, generator, change)
    return out.view(dtype)
