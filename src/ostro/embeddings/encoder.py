"""Embedding models with a BERT-type encoder, on a backend of `ostro.ops`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ostro.config.encoder import EncoderConfig
from ostro.embeddings.base import Float32, InputType, TextEmbedder
from ostro.embeddings.folder import PoolingMode
from ostro.embeddings.tokens import EncoderTokenizer
from ostro.models.encoder import EncoderWeights, encode
from ostro.ops.base import Ops, Weight


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """A linear layer behind the pooling, `bias` None for none, with tanh behind it or nothing."""

    weight: Weight
    bias: Float32 | None
    out_features: int
    is_tanh: bool

    def __call__(self, ops: Ops, vector: Float32) -> Float32:
        """(K,) -> (N,)."""
        y: Float32 = ops.to_numpy(ops.linear(ops.vector(vector)[None], self.weight))[0]
        if self.bias is not None:
            y = y + self.bias
        return np.asarray(np.tanh(y) if self.is_tanh else y)


class EncoderEmbedder(TextEmbedder):
    """A sentence-transformers model; made by `ostro.embeddings.open_embedder`.

    Texts go through the encoder side by side without padding. On the cpu backend a text has the same bits alone and
    among others, on any number of threads.
    """

    def __init__(
        self,
        name: str,
        ops: Ops,
        config: EncoderConfig,
        weights: EncoderWeights,
        tokenizer: EncoderTokenizer,
        *,
        pooling: Sequence[PoolingMode],
        projections: Sequence[Projection] = (),
        max_tokens: int | None = None,
        prompts: Mapping[InputType, str] | None = None,
        smaller_dimensions: Sequence[int] | None = (),
    ) -> None:
        dimensions = projections[-1].out_features if projections else config.hidden_size * len(pooling)
        super().__init__(
            name,
            dimensions=dimensions,
            max_tokens=min(max_tokens or config.max_tokens, config.max_tokens),
            vocab_size=config.vocab_size,
            frame=tokenizer.frame,
            prompts=prompts,
            smaller_dimensions=range(1, dimensions) if smaller_dimensions is None else smaller_dimensions,
        )
        self._ops = ops
        self._config = config
        self._weights = weights
        self._tokenizer = tokenizer
        self._pools = [_POOLS[mode] for mode in pooling]
        self._projections = projections

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text by itself, without prompt and special tokens."""
        return self._tokenizer.encode(text)

    def _vectors(self, sequences: Sequence[list[int]], on_step: Callable[[], None]) -> Float32:
        del on_step
        hidden = self._ops.to_numpy(encode(self._ops, self._config, self._weights, list(sequences)))
        ends = np.cumsum([len(ids) for ids in sequences])
        return np.stack([self._project(rows) for rows in np.split(hidden, ends[:-1])])

    def _project(self, hidden: Float32) -> Float32:
        """The hidden states (T, D) of one text as one vector."""
        vector = np.concatenate([pool(hidden) for pool in self._pools])
        for projection in self._projections:
            vector = projection(self._ops, vector)
        return vector


def _mean(hidden: Float32) -> Float32:
    return np.asarray(np.mean(hidden, axis=0, dtype=np.float64), np.float32)


def _mean_sqrt_len(hidden: Float32) -> Float32:
    total = np.sum(hidden, axis=0, dtype=np.float64) / np.sqrt(len(hidden))
    return np.asarray(total, np.float32)


def _weighted_mean(hidden: Float32) -> Float32:
    """Token t of T weighs t: the later ones have seen more in a decoder."""
    weights = np.arange(1, len(hidden) + 1, dtype=np.float64)
    return np.asarray(np.sum(hidden * weights[:, None], axis=0) / weights.sum(), np.float32)


_POOLS: Mapping[PoolingMode, Callable[[Float32], Float32]] = {
    "cls": lambda hidden: hidden[0],
    "mean": _mean,
    "max": lambda hidden: hidden.max(axis=0),
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": lambda hidden: hidden[-1],
}
