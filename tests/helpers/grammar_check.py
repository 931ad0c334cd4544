"""llguidance run over a grammar with a real vocabulary: what it lets a model write."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask


class _Vocabulary:
    def __init__(self, tokenizer: Any) -> None:
        self.eos_token_id, self.bos_token_id = tokenizer.eos_id, tokenizer.bos_id
        self.special_token_ids = sorted(tokenizer.control_tokens.values())
        self.tokens = [
            b"\xff" + tokenizer.piece(i).encode() if tokenizer.is_control(i) else tokenizer.token_bytes(i)
            for i in range(tokenizer.vocab_size)
        ]
        self._encode = tokenizer.encode_continuation

    def __call__(self, text: str) -> list[int]:
        return self._encode(text)  # type: ignore[no-any-return]


@cache
def _vocabulary(tokenizer: Any) -> Any:
    return LLTokenizer(TokenizerWrapper(_Vocabulary(tokenizer)), n_vocab=tokenizer.vocab_size)


def matcher(tokenizer: Any, grammar: str) -> Any:
    """A matcher at the start of an answer; AssertionError for a grammar that llguidance does not take."""
    made = LLMatcher(_vocabulary(tokenizer), grammar, log_level=0)
    assert not made.is_error(), f"{made.get_error()}\n{grammar}"
    return made


def allows(tokenizer: Any, grammar: str, ids: Sequence[int]) -> bool:
    """Whether the ids can be a whole answer."""
    made = matcher(tokenizer, grammar)
    return made.try_consume_tokens(list(ids)) == len(ids) and made.is_accepting()


def refusal(tokenizer: Any, grammar: str) -> str:
    """What llguidance says of a grammar that it does not take; "" where it takes it."""
    return str(LLMatcher(_vocabulary(tokenizer), grammar, log_level=0).get_error())


def walk(tokenizer: Any, grammar: str, seed: int, wish: Callable[[bytes], bool], limit: int = 400) -> list[int]:
    """A random answer that the grammar allows: at every step a token that `wish` likes, where there is one."""
    made, draws = matcher(tokenizer, grammar), random.Random(seed)
    mask = allocate_token_bitmask(1, tokenizer.vocab_size)
    ids: list[int] = []
    while not made.is_stopped() and len(ids) < limit:
        if made.is_accepting() and draws.random() < 0.3:
            break
        fill_next_token_bitmask(made, mask)
        allowed = np.flatnonzero(np.unpackbits(mask[0].view(np.uint8), bitorder="little")[: tokenizer.vocab_size])
        allowed = allowed[allowed != tokenizer.eos_id]
        if not len(allowed):
            break
        sample = draws.sample(list(allowed), min(64, len(allowed)))
        liked = [int(i) for i in sample if tokenizer.is_control(int(i)) or wish(tokenizer.token_bytes(int(i)))]
        ids.append(liked[0] if liked else int(sample[0]))
        made.consume_token(ids[-1])
    assert made.is_accepting(), tokenizer.decode(ids, keep_control=True)
    return ids


def meta_tokenizer_file() -> Path | None:
    """Meta's own tokenizer.model of Llama 3, where its package is installed."""
    spec = importlib.util.find_spec("llama_models")
    path = Path(spec.origin).parent / "llama3" / "tokenizer.model" if spec and spec.origin else None
    return path if path and path.is_file() else None
