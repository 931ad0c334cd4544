"""Meta's `tokenizer.model` of Llama 3: lines of a base64 token and its rank, read by the tiktoken library."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from ostro.errors import TokenizerError
from ostro.tokenizer.files import Settings
from ostro.tokenizer.vocabulary import Vocabulary, VocabularyTokenizer, readable

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 cuts text before merging."""

NUM_SPECIAL_TOKENS = 256
MAX_CHUNK_CHARS = 400_000
MAX_RUN_CHARS = 25_000

# In the order of their ids, behind the ranks. The file does not hold them; they are Meta's for Llama 3.1 and 3.2.
_NAMED = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|step_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|image|>",
)


def special_tokens() -> list[str]:
    """The 256 names, in the order of the ids."""
    num_reserved = NUM_SPECIAL_TOKENS - len(_NAMED)
    return [*_NAMED, *(f"<|reserved_special_token_{i + 2}|>" for i in range(num_reserved))]


def chunks(text: str) -> Iterator[str]:
    """Text in the parts that Meta's tokenizer encodes one by one, so that the regex engine is not overrun.

    A part has at most 400 000 characters, and no run of more than 25 000 spaces or of more than 25 000 other
    characters. For all but such texts this is the text itself.
    """
    for first in range(0, len(text), MAX_CHUNK_CHARS):
        yield from _split_runs(text[first : first + MAX_CHUNK_CHARS])


def _split_runs(text: str) -> Iterator[str]:
    start = position = 0
    for _, run in groupby(text, str.isspace):
        length = sum(1 for _ in run)
        for cut in range(position + MAX_RUN_CHARS, position + length, MAX_RUN_CHARS):
            yield text[start:cut]
            start = cut
        position += length
    if start < len(text):
        yield text[start:]


class TiktokenEncoder:
    """Encodes with tiktoken, every special token being text."""

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    def encode(self, text: str, *, continuation: bool) -> list[int]:  # noqa: ARG002 - there is no dummy prefix
        """Ids of text, cut where Meta's tokenizer cuts a very long one."""
        if len(text) <= MAX_RUN_CHARS:
            ids: list[int] = self._encoding.encode_ordinary(text)
            return ids
        return [i for part in chunks(text) for i in self._encoding.encode_ordinary(part)]


class TiktokenTokenizer(VocabularyTokenizer):
    """kind "tiktoken": Llama 3's byte-level BPE. Special tokens follow the ranks; <|image|> is one of them, as in
    Meta's published tokenizer, while its embedding in the vision models lies behind the vocabulary.
    """


def looks_like_ranks(head: bytes) -> bool:
    """Whether a file that begins so has lines of base64 and a number (and is no SentencePiece model)."""
    line, newline, _ = head.partition(b"\n")
    token, _, rank = line.strip().partition(b" ")
    return bool(newline) and rank.isdigit() and _decoded(token) is not None


def load_tiktoken(path: Path, settings: Settings | None = None) -> TiktokenTokenizer:
    """A tokenizer of Meta's file; the 256 special tokens have the ids from its number of ranks on.

    `settings` may name another EOS of them; BOS is <|begin_of_text|>.
    """
    import tiktoken

    settings = settings or Settings()
    ranks = read_ranks(path)
    names = special_tokens()
    special = {name: len(ranks) + i for i, name in enumerate(names)}
    encoding = tiktoken.Encoding(path.name, pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks, special_tokens=special)
    tokens = sorted(ranks, key=ranks.__getitem__)
    vocabulary = Vocabulary(
        kind="tiktoken",
        source=str(path),
        pieces=[*map(readable, tokens), *names],
        token_bytes=[*tokens, *[b""] * len(names)],
        control=frozenset(special.values()),
        bos_id=special["<|begin_of_text|>"],
        eos_id=special.get(settings.eos or "", special["<|end_of_text|>"]),
        chat_template=settings.chat_template,
        adds_bos=settings.adds_bos,
    )
    return TiktokenTokenizer(vocabulary, TiktokenEncoder(encoding))


def read_ranks(path: Path) -> dict[bytes, int]:
    """Token and rank of every line. Ranks must be 0 .. n-1, each once, and every single byte must have one."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}. Check the path and its permissions.") from None
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        text, _, rank = line.partition(b" ")
        token = _decoded(text)
        if not token or not rank.isdigit() or token in ranks:
            raise _damaged(path, f"line {number} is {line[:40]!r}, not a new base64 token and its rank")
        ranks[token] = int(rank)
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise _damaged(path, f"the ranks of its {len(ranks)} tokens are not 0 to {len(ranks) - 1}, each once")
    if missing := [value for value in range(256) if bytes([value]) not in ranks]:
        raise _damaged(path, f"{len(missing)} single bytes have no rank, the first 0x{missing[0]:02X}")
    return ranks


def _decoded(token: bytes) -> bytes | None:
    try:
        return base64.b64decode(token, validate=True)
    except (binascii.Error, ValueError):
        return None


def _damaged(path: Path, detail: str) -> TokenizerError:
    return TokenizerError(
        f"{path} is no tiktoken vocabulary as Meta ships with Llama 3: {detail}. It may be truncated; fetch it again."
    )
