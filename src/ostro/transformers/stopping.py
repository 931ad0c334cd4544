"""`stop_strings` of `generate`: a row ends with the token that completes one of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ostro.transformers.tokenization import PreTrainedTokenizer, own_tokenizer

_NO_TEXT = b"\xff"  # in no string: UTF-8 has no such byte


class StopStringCriteria:
    """Says of each row whether its newest token completes one of the strings; it may say more behind it.

    What counts is text as it runs on, in bytes: the first token of an answer has its space, a character may lie in
    several tokens, control tokens stand for their names, and a string may begin in the prompt. The class of this name
    in transformers decides the same.
    """

    def __init__(self, strings: str | Sequence[str], tokenizer: PreTrainedTokenizer) -> None:
        self._strings = [text.encode() for text in ([strings] if isinstance(strings, str) else strings)]
        self._longest = max(map(len, self._strings))
        self._tokenizer = own_tokenizer(tokenizer).tokenizer

    def __call__(self, ids: torch.Tensor, _scores: torch.Tensor) -> torch.Tensor:
        """Rows of ids (B, T): bools (B,)."""
        # A token stands for at least one byte, so the window holds the longest string.
        return torch.tensor([self._completed(row) for row in ids[:, -self._longest :].tolist()], device=ids.device)

    def _completed(self, row: list[int]) -> bool:
        parts = [self._bytes(token_id) for token_id in row]
        text, newest = b"".join(parts), len(parts[-1])
        return any(text.find(string, max(0, len(text) - newest - len(string) + 1)) >= 0 for string in self._strings)

    def _bytes(self, token_id: int) -> bytes:
        if token_id >= self._tokenizer.vocab_size:  # a row of the model's table that no token uses
            return _NO_TEXT
        if self._tokenizer.is_control(token_id):
            return self._tokenizer.piece(token_id).encode()
        return self._tokenizer.token_bytes(token_id)
