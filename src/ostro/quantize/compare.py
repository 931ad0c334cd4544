"""A packed model against its source on one text: how far their predictions are apart.

Both run on the same backend with float32 K/V, the source in its own type, a layer at a time over the whole text: so
neither has to fit into memory, and neither is read more than once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ostro.checkpoint.open import Checkpoint
from ostro.config import ModelConfig
from ostro.models import llama
from ostro.models.load import load_layer
from ostro.models.rope import inverse_frequencies
from ostro.ops.base import Array, Expert, Ops, Weight
from ostro.ops.batch import ForwardBatch, Int32
from ostro.ops.reference import route

_BLOCK = 16  # tokens in a block of K/V
_WINDOW = 512  # tokens that are read as one text
_LOGITS = 1 << 22  # scores that are held at once, of each model

Tell = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`kl` is the divergence of the packed model's prediction from the source's, in nats a token.

    `top1_agreement` is the share of tokens after which both expect the same one. `expert_tokens` counts for each layer
    how many of the tokens every expert saw in the source; it is empty for a dense model.
    """

    num_tokens: int
    kl_mean: float
    kl_p99: float
    top1_agreement: float
    perplexity_source: float
    perplexity_packed: float
    expert_tokens: list[list[int]]


def windows_of(token_ids: Sequence[int], bos: int | None, context: int) -> list[Int32]:
    """The text in pieces that a model reads in one go, each with its BOS.

    >>> [window.tolist() for window in windows_of([5, 6, 7], 1, 3)]
    [[1, 5, 6], [1, 7]]
    """
    start = [] if bos is None else [bos]
    step = max(1, min(_WINDOW, context) - len(start))
    pieces = [token_ids[at : at + step] for at in range(0, len(token_ids), step)]
    return [np.array([*start, *piece], np.int32) for piece in pieces]


def compare(ops: Ops, source: Checkpoint, packed: Checkpoint, windows: Sequence[Int32], tell: Tell) -> Comparison:
    """Run both models over the windows; `tell` hears of layers done, of both models and of their heads."""
    watched = _CountingOps(ops)
    before = _hidden(watched, source, windows, lambda index: tell(1, f"source, layer {index}"))
    after = _hidden(ops, packed, windows, lambda index: tell(1, f"packed, layer {index}"))
    measured = _Measured()
    heads = [ops.weight(checkpoint.tensors[_head(checkpoint.config)]) for checkpoint in (source, packed)]
    for window, one, other in zip(windows, before, after, strict=True):
        for rows in _rows(len(window), source.config.vocab_size):
            scores = [ops.to_numpy(ops.logits(x[rows], head)) for x, head in ((one, heads[0]), (other, heads[1]))]
            measured.add(scores[0], scores[1], window[rows.start + 1 : rows.stop + 1])
        source.drop_pages()
        packed.drop_pages()
    tell(2, "heads")
    return measured.comparison(watched.counts)


def num_steps(config: ModelConfig) -> int:
    """What `compare` tells of in all."""
    return 2 * config.num_hidden_layers + 2


def _head(config: ModelConfig) -> str:
    return "model.embed_tokens.weight" if config.tie_word_embeddings else "lm_head.weight"


def _rows(count: int, vocab_size: int) -> Iterator[slice]:
    step = max(1, _LOGITS // vocab_size)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _hidden(
    ops: Any, checkpoint: Checkpoint, windows: Sequence[Int32], layer_done: Callable[[int], None]
) -> list[Array]:
    """The final hidden states of every window, each (T, D); a layer is loaded, used for all of them, and let go."""
    config, tensors = checkpoint.config, checkpoint.tensors
    table = ops.weight(tensors["model.embed_tokens.weight"])
    batches = [_batch(window) for window in windows]
    ropes = [ops.rope_table(batch.positions, inverse_frequencies(config)) for batch in batches]
    states = [ops.embedding(table, batch.token_ids) for batch in batches]
    num_blocks = max(batch.block_tables.shape[1] for batch in batches)
    pool = ops.kv_pool(1, num_blocks, _BLOCK, config.num_key_value_heads, config.head_dim, "float32")
    for index in range(config.num_hidden_layers):
        layer = load_layer(ops, config, tensors, index)
        for at, batch in enumerate(batches):

            def attend(
                _layer: int, q: Array, k: Array, v: Array, batch: ForwardBatch = batch, index: int = index
            ) -> Array:
                return ops.attention(q, k, v, pool, 0, batch, config.sliding_windows[index])

            states[at] = llama.decoder_layer(ops, config, layer, index, states[at], ropes[at], attend)
        checkpoint.drop_pages()
        layer_done(index)
    norm = ops.weight(tensors["model.norm.weight"])
    return [ops.rms_norm(x, norm, config.rms_norm_eps) for x in states]


def _batch(window: Int32) -> ForwardBatch:
    """One sequence from its beginning, in blocks that follow each other."""
    count = len(window)
    positions = np.arange(count, dtype=np.int32)
    return ForwardBatch(
        token_ids=window,
        positions=positions,
        row_starts=np.array([0, count], np.int32),
        slots=positions.astype(np.int64),
        block_tables=np.arange(-(-count // _BLOCK), dtype=np.int32)[None],
        table_starts=np.zeros(1, np.int32),
        logit_rows=positions,
    )


class _CountingOps:
    """A backend that notes how many rows every expert sees, layer by layer."""

    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self._router: Weight | None = None
        self.counts: list[list[int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ops, name)

    def moe(self, x: Array, router: Weight, experts: Sequence[Expert], num_experts_per_tok: int) -> Array:
        """As the backend's, counted; the windows of one layer come with the same router."""
        if router is not self._router:
            self._router = router
            self.counts.append([0] * len(experts))
        chosen, _ = route(self._ops.to_numpy(self._ops.linear(x, router)), num_experts_per_tok)
        layer = self.counts[-1]
        for expert, number in enumerate(np.bincount(chosen.reshape(-1), minlength=len(experts)).tolist()):
            layer[expert] += number
        return self._ops.moe(x, router, experts, num_experts_per_tok)


class _Measured:
    """Sums over the tokens, in float64."""

    def __init__(self) -> None:
        self._divergences: list[npt.NDArray[np.float64]] = []
        self._agreed = 0
        self._losses = [0.0, 0.0]
        self._targets = 0

    def add(
        self, before: npt.NDArray[np.float32], after: npt.NDArray[np.float32], targets: npt.NDArray[np.int32]
    ) -> None:
        """Scores of both models (R, V) and the tokens that really followed (R,), one less at the end of a text."""
        logs = [_log_softmax(scores) for scores in (before, after)]
        self._divergences.append((np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=-1))
        self._agreed += int((before.argmax(axis=-1) == after.argmax(axis=-1)).sum())
        for model, log in enumerate(logs):
            self._losses[model] -= float(log[np.arange(len(targets)), targets].sum())
        self._targets += len(targets)

    def comparison(self, expert_tokens: list[list[int]]) -> Comparison:
        """What has been added comes to this."""
        # Rounding makes a divergence of zero a little negative.
        kl = np.maximum(np.concatenate(self._divergences), 0.0)
        perplexities = [float(np.exp(loss / max(1, self._targets))) for loss in self._losses]
        return Comparison(
            num_tokens=len(kl),
            kl_mean=float(kl.mean()),
            kl_p99=float(np.percentile(kl, 99)),
            top1_agreement=self._agreed / len(kl),
            perplexity_source=perplexities[0],
            perplexity_packed=perplexities[1],
            expert_tokens=expert_tokens,
        )


def _log_softmax(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    wide = scores.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    result: npt.NDArray[np.float64] = wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return result
