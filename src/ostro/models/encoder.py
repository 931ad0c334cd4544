"""The encoder of BERT, RoBERTa, MPNet and DistilBERT, written once over `Ops`: wiring only.

Shape letters are those of `ostro.ops.base`; M is the length of the longest text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ostro.config.encoder import MAX_DISTANCE, NUM_BUCKETS, EncoderConfig
from ostro.ops.base import Array, Ops, Weight
from ostro.ops.batch import Int32

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """weight (N, K) and bias (N,)."""

    weight: Weight
    bias: Array


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """weight and bias (D,) of a layer norm."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True, eq=False)
class EncoderLayer:
    """One layer: attention and feed-forward, each with the norm behind its residual."""

    query: Dense
    key: Dense
    value: Dense
    output: Dense
    attention_norm: Norm
    inner: Dense
    outer: Dense
    output_norm: Norm


@dataclass(frozen=True, slots=True, eq=False)
class EncoderWeights:
    """All weights: tables (V, D) and (P, D), the vector of token type 0 (D,), the bias by bucket (H, buckets)."""

    words: Weight
    positions: Weight
    token_type: Array | None
    embedding_norm: Norm
    layers: tuple[EncoderLayer, ...]
    bucket_bias: Float32 | None


def encode(ops: Ops, config: EncoderConfig, weights: EncoderWeights, texts: Sequence[Sequence[int]]) -> Array:
    """The final hidden states of all tokens of the texts, text after text: (T, D)."""
    lengths = [len(ids) for ids in texts]
    row_starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    token_ids = np.concatenate([np.asarray(ids, np.int32) for ids in texts])
    positions = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]) + config.first_position
    x = _embed(ops, config, weights, token_ids, positions.astype(np.int32))
    bias = None if weights.bucket_bias is None else position_bias(weights.bucket_bias, max(lengths))
    for layer in weights.layers:
        x = _layer(ops, config, layer, x, row_starts, bias)
    return x


def _embed(ops: Ops, config: EncoderConfig, weights: EncoderWeights, token_ids: Int32, positions: Int32) -> Array:
    x = ops.embedding(weights.words, token_ids) + ops.embedding(weights.positions, positions)
    if weights.token_type is not None:
        x = x + weights.token_type
    return _norm(ops, config, weights.embedding_norm, x)


def _layer(
    ops: Ops, config: EncoderConfig, layer: EncoderLayer, x: Array, row_starts: Int32, bias: Float32 | None
) -> Array:
    """(T, D) -> (T, D)."""
    q, k, v = (_dense(ops, side, x) for side in (layer.query, layer.key, layer.value))
    attended = ops.encoder_attention(q, k, v, row_starts, config.num_attention_heads, bias)
    x = _norm(ops, config, layer.attention_norm, _dense(ops, layer.output, attended) + x)
    h = ops.gelu(_dense(ops, layer.inner, x))
    return _norm(ops, config, layer.output_norm, _dense(ops, layer.outer, h) + x)


def _dense(ops: Ops, dense: Dense, x: Array) -> Array:
    y = ops.linear(x, dense.weight)
    y += dense.bias
    return y


def _norm(ops: Ops, config: EncoderConfig, norm: Norm, x: Array) -> Array:
    return ops.layer_norm(x, norm.weight, norm.bias, config.layer_norm_eps)


def position_bias(by_bucket: Float32, length: int) -> Float32:
    """MPNet's bias by distance from query to key, -(length - 1) .. length - 1, of by_bucket (H, buckets): (H, 2M - 1).

    Half of the buckets are for keys behind the query; in each half, near distances have one of their own and far ones
    share them by logarithm, up to MAX_DISTANCE. Source: T5, section 2.1, and MPNet's code in transformers.
    """
    distance = -np.arange(-(length - 1), length)
    half = NUM_BUCKETS // 2
    exact = half // 2
    far = np.abs(distance)
    # In float32 like the model's own code, so that the borders between buckets fall where they fell in training.
    ratio = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(exact)) / np.float32(np.log(MAX_DISTANCE / exact))
    shared = np.minimum(exact + (ratio * np.float32(half - exact)).astype(np.int64), half - 1)
    bucket = np.where(distance < 0, half, 0) + np.where(far < exact, far, shared)
    return np.ascontiguousarray(by_bucket[:, bucket])
