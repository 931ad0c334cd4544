"""The first thing that ostro-mini learns: that a text which began before goes on as it did.

Random tokens, said three to six times. There is nothing else to be learnt from them than to look back for the last place
where the present token stood and to copy what came next, which is what nearly all of the model's tasks are made of.
Trained on documents alone, a model of this size takes many million tokens to find it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ostro.tokenizer import load_tokenizer
from ostro.tokenizer.base import Tokenizer
from ostro.tokenizer.vocabulary import SPACE


def words_of(tokenizer: Tokenizer) -> list[str]:
    """The pieces of a vocabulary that are text by themselves: no control tokens, no bytes, no space."""
    pieces = {i: tokenizer.piece(i) for i in range(tokenizer.vocab_size) if not tokenizer.is_control(i)}
    return [piece for i, piece in pieces.items() if piece != SPACE and tokenizer.token_bytes(i) == piece.encode()]


def repeated(rng: random.Random, words: list[str]) -> str:
    """Eight to 32 random pieces, joined by nothing or by spaces, on three to six equal lines."""
    between = rng.choice(("", "", " ", " - "))
    line = between.join(rng.choices(words, k=rng.randint(8, 32)))
    return "\n".join([line] * rng.randint(3, 6))


def texts(count: int, seed: int, tokenizer: Path) -> Iterator[dict[str, Any]]:
    """So many documents."""
    rng, words = random.Random(f"drill {seed}"), words_of(load_tokenizer(tokenizer))
    return ({"text": repeated(rng, words)} for _ in range(count))
