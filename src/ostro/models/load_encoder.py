"""Weights of an encoder, in the form of a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ostro.checkpoint.tensors import Tensor
from ostro.checkpoint.text import some
from ostro.config.encoder import NUM_BUCKETS, EncoderConfig, EncoderFamily
from ostro.errors import CheckpointError
from ostro.models.encoder import Dense, EncoderLayer, EncoderWeights, Float32, Norm
from ostro.ops.base import Array, Ops

_LAYERS: Mapping[EncoderFamily, Mapping[str, str]] = {
    "bert": {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "inner": "intermediate.dense",
        "outer": "output.dense",
        "output_norm": "output.LayerNorm",
    },
    "mpnet": {
        "query": "attention.attn.q",
        "key": "attention.attn.k",
        "value": "attention.attn.v",
        "output": "attention.attn.o",
        "attention_norm": "attention.LayerNorm",
        "inner": "intermediate.dense",
        "outer": "output.dense",
        "output_norm": "output.LayerNorm",
    },
    "distilbert": {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "inner": "ffn.lin1",
        "outer": "ffn.lin2",
        "output_norm": "output_layer_norm",
    },
}
"""Names of a layer's parts in the files, below the layer."""

_BASE_NAMES = ("bert.", "roberta.", "mpnet.", "distilbert.")
_UNUSED = ("pooler.", "cls.", "lm_head.", "vocab_", "classifier.", "pre_classifier.", "embeddings.position_ids")
"""Beginnings of tensors that embeddings do not use: heads, poolers, and a buffer of older files."""


def load_encoder(
    ops: Ops, config: EncoderConfig, names: Sequence[str], tensor: Callable[[str], Tensor], *, source: str
) -> EncoderWeights:
    """The weights out of tensors called `names`, which `tensor` gives; CheckpointError names what does not fit."""
    reader = _Reader(ops, names, tensor, source)
    stem = "transformer.layer" if config.family == "distilbert" else "encoder.layer"
    D = config.hidden_size
    weights = EncoderWeights(
        words=ops.weight(reader("embeddings.word_embeddings.weight", (config.vocab_size, D))),
        positions=ops.weight(reader("embeddings.position_embeddings.weight", (config.max_position_embeddings, D))),
        token_type=reader.token_type(D) if config.has_token_types else None,
        embedding_norm=reader.norm("embeddings.LayerNorm", D),
        layers=tuple(_layer(reader, config, f"{stem}.{index}") for index in range(config.num_hidden_layers)),
        bucket_bias=reader.bucket_bias(config.num_attention_heads) if config.has_position_bias else None,
    )
    reader.refuse_unread()
    return weights


def _layer(reader: _Reader, config: EncoderConfig, prefix: str) -> EncoderLayer:
    names = _LAYERS["bert" if config.family == "roberta" else config.family]
    D, F = config.hidden_size, config.intermediate_size

    def dense(part: str, outputs: int = D, inputs: int = D) -> Dense:
        return reader.dense(f"{prefix}.{names[part]}", (outputs, inputs))

    def norm(part: str) -> Norm:
        return reader.norm(f"{prefix}.{names[part]}", D)

    return EncoderLayer(
        query=dense("query"),
        key=dense("key"),
        value=dense("value"),
        output=dense("output"),
        attention_norm=norm("attention_norm"),
        inner=dense("inner", outputs=F),
        outer=dense("outer", inputs=F),
        output_norm=norm("output_norm"),
    )


class _Reader:
    """`reader(name, shape)` is the tensor of that name, with or without the base model's name in front."""

    def __init__(self, ops: Ops, names: Sequence[str], tensor: Callable[[str], Tensor], source: str) -> None:
        self._ops = ops
        self._tensor = tensor
        self._source = source
        self._names = {_bare(name): name for name in names}
        self._read: set[str] = set()

    def __call__(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        self._read.add(name)
        if name not in self._names:
            raise CheckpointError(f"{self._source} has no tensor {name}: download the model again.")
        tensor = self._tensor(self._names[name])
        wanted = tuple(m if n is None else n for n, m in zip(shape, tensor.shape, strict=False))
        if tuple(tensor.shape) != wanted or len(wanted) != len(shape):
            raise CheckpointError(
                f"{self._source}: tensor {name} has the shape {tuple(tensor.shape)}, but config.json makes it {shape}."
            )
        return tensor

    def dense(self, name: str, shape: tuple[int, int]) -> Dense:
        return Dense(
            self._ops.weight(self(f"{name}.weight", shape)), self._ops.vector(self(f"{name}.bias", (shape[0],)))
        )

    def norm(self, name: str, size: int) -> Norm:
        # TensorFlow's names, which the first checkpoints kept.
        weight, bias = ("gamma", "beta") if f"{name}.gamma" in self._names else ("weight", "bias")
        return Norm(
            self._ops.vector(self(f"{name}.{weight}", (size,))), self._ops.vector(self(f"{name}.{bias}", (size,)))
        )

    def token_type(self, size: int) -> Array:
        table = self("embeddings.token_type_embeddings.weight", (None, size))
        return self._ops.vector(np.asarray(table)[0])

    def bucket_bias(self, num_heads: int) -> Float32:
        table = self("encoder.relative_attention_bias.weight", (NUM_BUCKETS, num_heads))
        return np.ascontiguousarray(np.asarray(table).T, np.float32)

    def refuse_unread(self) -> None:
        unknown = sorted(name for name in self._names if name not in self._read and not name.startswith(_UNUSED))
        if unknown:
            raise CheckpointError(
                f"{self._source} has {some(unknown)}, which the encoder of its config.json does not have: the two are "
                "not of one model."
            )


def _bare(name: str) -> str:
    for base in _BASE_NAMES:
        if name.startswith(base):
            return name.removeprefix(base)
    return name
