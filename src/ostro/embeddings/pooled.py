"""Embeddings from the hidden states of a model that generates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ostro.config import ModelConfig
from ostro.embeddings.base import Float32, Frame, TextEmbedder
from ostro.engine.pooling import Pooling, check_pooling
from ostro.errors import TokenizerNotFoundError
from ostro.tokenizer.base import Tokenizer


class HiddenStates(Protocol):
    """What of `ostro.LLM` is needed."""

    @property
    def path(self) -> Path:
        """Where the model lies."""

    @property
    def config(self) -> ModelConfig:
        """Its numbers."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer; TokenizerNotFoundError where it has none."""

    @property
    def max_model_len(self) -> int:
        """Most tokens of a text."""

    def embed(self, prompts: Any, *, pooling: Pooling = "mean", on_step: Callable[[], None] | None = None) -> Float32:
        """Pooled hidden states (N, hidden_size) of token ids; `on_step` is called before every step."""


class PooledEmbedder(TextEmbedder):
    """The final, normed hidden states of `llm` (an `ostro.LLM`), pooled over the tokens of a text.

    `pooling` is "mean" or "last": the average, or the state of the last token, the only one that has seen all. A model
    that was trained to go on with texts and not to compare them gives rough vectors, which serve to group texts by
    topic rather than to search (docs/embeddings.md). Input types make no difference, vectors cannot be cut, and
    texts begin with BOS as the model's prompts do.

        PooledEmbedder(LLM("mistral-7b-instruct")).embed(["a cat", "a dog"]).vectors    # (2, 4096)
    """

    def __init__(self, llm: HiddenStates, *, name: str | None = None, pooling: Pooling = "mean") -> None:
        check_pooling(pooling)
        self._llm = llm
        self._pooling: Pooling = pooling
        super().__init__(
            name or llm.path.name,
            dimensions=llm.config.hidden_size,
            max_tokens=llm.max_model_len,
            vocab_size=llm.config.vocab_size,
            frame=_frame(llm),
        )

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text by itself, without BOS."""
        return self._llm.tokenizer.encode(text)

    def _vectors(self, sequences: Sequence[list[int]], on_step: Callable[[], None]) -> Float32:
        return self._llm.embed(list(sequences), pooling=self._pooling, on_step=on_step)


def _frame(llm: HiddenStates) -> Frame:
    try:
        tokenizer = llm.tokenizer
    except TokenizerNotFoundError:
        return Frame()  # such a model takes token ids alone, as they are
    return Frame(before=(tokenizer.bos_id,) if tokenizer.adds_bos and tokenizer.bos_id is not None else ())
