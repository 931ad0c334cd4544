"""Embedding models with a BERT-type encoder, on a backend of `ostro.ops`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ostro.config.encoder import EncoderConfig
from ostro.embeddings.base import Float32, InputType, TextEmbedder
from ostro.embeddings.folder import PoolingMode
from ostro.embeddings.tokens import EncoderTokenizer
from ostro.models.encoder import EncoderWeights, encode
from ostro.ops.base import Ops, Weight

ROWS_AT_ONCE = 512
"""Tokens that go through the encoder together: enough to use its matrices well, few enough to stay in the cache."""


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

    def _vectors(self, sequences: Sequence[list[int]]) -> Float32:
        out = np.empty((len(sequences), self.dimensions), np.float32)
        for group in _groups(sequences):
            hidden = self._ops.to_numpy(encode(self._ops, self._config, self._weights, [sequences[i] for i in group]))
            start = 0
            for i in group:
                end = start + len(sequences[i])
                out[i] = self._project(hidden[start:end])
                start = end
        return out

    def _project(self, hidden: Float32) -> Float32:
        """The hidden states (T, D) of one text as one vector."""
        vector = np.concatenate([pool(hidden) for pool in self._pools])
        for projection in self._projections:
            vector = projection(self._ops, vector)
        return vector


def _groups(sequences: Sequence[list[int]]) -> Iterator[list[int]]:
    """Places of sequences, in order, that have ROWS_AT_ONCE tokens together; a longer one has a group of its own."""
    group: list[int] = []
    rows = 0
    for place, ids in enumerate(sequences):
        if group and rows + len(ids) > ROWS_AT_ONCE:
            yield group
            group, rows = [], 0
        group.append(place)
        rows += len(ids)
    if group:
        yield group


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
