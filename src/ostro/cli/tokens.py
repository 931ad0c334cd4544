"""Tokens as rows of a table: what each is, and where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ostro.chat import Prompt
    from ostro.tokenizer.base import Tokenizer

TokenKind = Literal["control", "text", "byte"]


@dataclass(frozen=True)
class TokenRow:
    """One token. `kind` byte: a part of a character. `origin`: "bos", "template", "user[0]", "text", ..."""

    index: int
    id: int
    piece: str
    kind: TokenKind
    origin: str


def rows_of_text(tokenizer: Tokenizer, text: str, *, bos: bool) -> list[TokenRow]:
    """The tokens of a plain text, behind BOS where it is wanted and the vocabulary has one."""
    first = [tokenizer.bos_id] if bos and tokenizer.bos_id is not None else []
    ids = tokenizer.encode(text) if text else []
    return _rows(tokenizer, [*first, *ids], ["bos"] * len(first) + ["text"] * len(ids))


def rows_of_prompt(tokenizer: Tokenizer, prompt: Prompt) -> list[TokenRow]:
    """The tokens of a rendered chat."""
    return _rows(tokenizer, prompt.token_ids, [segment.origin for segment in prompt.provenance])


def _rows(tokenizer: Tokenizer, ids: Sequence[int], origins: Sequence[str]) -> list[TokenRow]:
    return [
        TokenRow(index, token_id, tokenizer.piece(token_id), kind_of(tokenizer, token_id), origin)
        for index, (token_id, origin) in enumerate(zip(ids, origins, strict=True))
    ]


def kind_of(tokenizer: Tokenizer, token_id: int) -> TokenKind:
    """What a token is."""
    if tokenizer.is_control(token_id):
        return "control"
    try:
        tokenizer.token_bytes(token_id).decode("utf-8")
    except UnicodeDecodeError:
        return "byte"
    return "text"
