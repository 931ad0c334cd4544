"""Rotary frequencies: plain, stretched as Llama 3.1/3.2 do, or with a GGUF's own factors."""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from ostro.config import FrequencyFactors, Llama3Rope, ModelConfig

Float32 = npt.NDArray[np.float32]


@functools.lru_cache(maxsize=64)
def inverse_frequencies(config: ModelConfig) -> Float32:
    """The d/2 angular frequencies of a config, float32, radians a position.

    >>> from ostro.models.rope import plain_frequencies
    >>> plain_frequencies(10000.0, 4).tolist()
    [1.0, 0.009999999776482582]
    """
    plain = plain_frequencies(config.rope_theta, config.head_dim)
    scaling = config.rope_scaling
    if isinstance(scaling, Llama3Rope):
        plain = _llama3(plain, scaling)
    elif isinstance(scaling, FrequencyFactors):
        plain = (plain / np.asarray(scaling.factors, dtype=np.float32)).astype(np.float32)
    plain.setflags(write=False)
    return plain


def plain_frequencies(theta: float, head_dim: int) -> Float32:
    """theta ** (-2i/d) for i in 0 .. d/2-1, computed in float32 as every checkpoint's authors did."""
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    plain: Float32 = (np.float32(1.0) / np.power(np.float32(theta), exponents)).astype(np.float32)
    return plain


def _llama3(plain: Float32, rope: Llama3Rope) -> Float32:
    """Divide wavelengths above original/low by factor, keep those below original/high, blend linearly between."""
    context = rope.original_max_position_embeddings
    wavelength = 2 * np.pi / plain.astype(np.float64)
    blend = (context / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    blend = np.clip(blend, 0.0, 1.0)
    stretched: Float32 = ((1 - blend) * plain / rope.factor + blend * plain).astype(np.float32)
    return stretched
