"""A tokenizer's tokens as llguidance wants them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ostro.tokenizer.base import Tokenizer

_MARK = b"\xff"
"""What llguidance puts before the name of a control token; no text has this byte."""


class GrammarVocabulary:
    """The tokens of a tokenizer by their bytes, for matchers; it takes about half a second to make for 131072 of them.

    Behind the tokenizer's own ids come one for the end of the text, which no model has and which so cannot be mistaken
    for a token that the grammar names, and 256 for the bytes, with which text is matched that is no whole token.

    `is_opening`: as the tokens read where a message begins. SentencePiece then drops the space at the front of the
    first one, and so is it left out here.
    """

    def __init__(self, tokenizer: Tokenizer, *, is_opening: bool = False) -> None:
        from llguidance import LLTokenizer, TokenizerWrapper

        self.num_tokens = tokenizer.vocab_size
        ids = range(tokenizer.vocab_size if tokenizer.dummy_prefix else 0)
        bare = [i for i in ids if has_dummy_space(tokenizer, i) and tokenizer.token_bytes(i) == b" "]
        self.bare_spaces = np.array(bare, dtype=np.int64)
        """Tokens of the dummy space and nothing else."""
        native: Any = LLTokenizer
        self.native = native(TokenizerWrapper(_Tokens(tokenizer, is_opening)), slices=LLTokenizer.json_slices())

    def byte_ids(self, data: bytes) -> list[int]:
        """Ids of bytes that are matched one by one."""
        return [self.num_tokens + 1 + value for value in data]


class _Tokens:
    """What `llguidance.TokenizerWrapper` reads."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, is_opening: bool) -> None:
        ids = range(tokenizer.vocab_size)
        self._tokenizer = tokenizer
        self._is_opening = is_opening
        self.eos_token_id = tokenizer.vocab_size
        self.special_token_ids = [*(i for i in ids if tokenizer.is_control(i)), self.eos_token_id]
        own = [token_text(tokenizer, i, is_opening=is_opening) for i in ids]
        self.tokens = [*own, b"<ostro: the end>", *(bytes([value]) for value in range(255)), b""]

    def __call__(self, text: str) -> list[int]:
        """Ids of text, for where the grammar leaves one way only: it is then cut as the tokenizer cuts it.

        Where a message begins, only the first token is without its space; words behind it are given byte by byte.
        """
        if not self._is_opening:
            return self._tokenizer.encode_continuation(text)
        ids = self._tokenizer.encode(text)
        first, rest = ids[:1], ids[1:]
        spelt = [[i] if not has_dummy_space(self._tokenizer, i) else self._bytes_of(i) for i in rest]
        return [i for i in first if self.tokens[i]] + [i for part in spelt for i in part]

    def _bytes_of(self, token_id: int) -> list[int]:
        return [self.eos_token_id + 1 + value for value in self._tokenizer.token_bytes(token_id)]


def token_text(tokenizer: Tokenizer, token_id: int, *, is_opening: bool) -> bytes:
    """The bytes that a grammar sees: a control token's name, nothing for a token that can be in no text."""
    if tokenizer.is_control(token_id):
        return tokenizer.piece(token_id).encode()
    data = tokenizer.token_bytes(token_id)
    if is_opening and has_dummy_space(tokenizer, token_id):
        data = data[1:]
    return b"" if _MARK in data else data


def has_dummy_space(tokenizer: Tokenizer, token_id: int) -> bool:
    """Whether the token loses its space as the first one of a message (see `StreamDetokenizer`)."""
    return tokenizer.dummy_prefix and tokenizer.piece(token_id).startswith("▁")
