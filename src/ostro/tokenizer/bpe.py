"""Byte-level BPE as tokenizer.json and GGUF files hold it: merges of text in which every byte is one printable letter.

The merging is done by the `tokenizers` library. Its encoder is built from a description without a single control token,
so that none can come out of text, whatever the text and whatever flags the file gives.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ostro.errors import TokenizerError
from ostro.tokenizer.base import TokenizerKind

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""How GPT-2, and BPE vocabularies that name nothing else, cut text before merging."""


def _alphabet() -> dict[int, str]:
    """GPT-2's letter for each byte: itself if Latin-1 prints it, else one from U+0100 on, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [value for value in range(256) if value not in printable]
    return {value: chr(value) for value in printable} | {value: chr(0x100 + i) for i, value in enumerate(others)}


BYTE_TO_LETTER = _alphabet()
_LETTER_TO_BYTE = {letter: value for value, letter in BYTE_TO_LETTER.items()}


def to_letters(data: bytes) -> str:
    """Bytes in GPT-2's letters: b" a" is "Ġa"."""
    return "".join(map(BYTE_TO_LETTER.__getitem__, data))


def from_letters(piece: str) -> bytes:
    """The bytes that a byte-level piece stands for; a piece with other characters is text as it is."""
    try:
        return bytes(map(_LETTER_TO_BYTE.__getitem__, piece))
    except KeyError:
        return piece.encode()


def byte_level_kind(control: Collection[str]) -> TokenizerKind:
    """Whose byte-level vocabulary it is, by its control tokens: Mistral's Tekken, Meta's Llama 3, or another."""
    if "[INST]" in control and "<s>" in control:
        return "tekken"
    return "tiktoken" if {"<|begin_of_text|>", "<|start_header_id|>"} <= set(control) else "bpe"


def pre_tokenizer(pattern: str) -> dict[str, Any]:
    """Cut by a regex, then write bytes as letters."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    letters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [split, letters]}


def require_all_bytes(source: str, vocab: Collection[str], names: Collection[str]) -> None:
    """Refuse a vocabulary that lacks the token of some byte: `tokenizers` would drop such a byte without a word."""
    if missing := [name for name in names if name not in vocab]:
        raise TokenizerError(
            f"{source}: the vocabulary lacks {len(missing)} of the 256 single bytes, the first {missing[0]!r}, so it "
            "cannot express every text. The file is damaged, or not of a Mistral or Llama model."
        )


def without_control(model: Mapping[str, Any], control: Collection[str]) -> dict[str, Any]:
    """A `model` of tokenizer.json in which no text reaches a control token.

    Its entry is renamed to one that no text is spelt like, so that ids stay; merges that make it or use it go.
    """
    hidden = {name: f"\0control {i}" for i, name in enumerate(control)}
    merges = [_pair(merge) for merge in model["merges"]]
    safe = [pair for pair in merges if not (hidden.keys() & {*pair, "".join(pair)})]
    vocab = {hidden.get(piece, piece): token_id for piece, token_id in model["vocab"].items()}
    return {**model, "vocab": vocab, "merges": safe, "unk_token": None, "dropout": None}


def build(source: str, description: Mapping[str, Any]) -> Any:
    """A `tokenizers.Tokenizer` of a description as in tokenizer.json; TokenizerError with the library's reason."""
    from tokenizers import Tokenizer

    whole = {"version": "1.0", "truncation": None, "padding": None, "post_processor": None, "decoder": None}
    try:
        return Tokenizer.from_str(json.dumps({**whole, **description}))
    except Exception as error:  # the library raises plain Exception for every reason
        raise TokenizerError(
            f"{source} is no tokenizer that can be read: {str(error)[:300]}. It may be damaged, or newer than the "
            "installed `tokenizers`; fetch it again, or upgrade tokenizers."
        ) from None


class TokenizersEncoder:
    """Encodes with `tokenizers`; `continuation` is the variant without the dummy prefix, where there is one."""

    def __init__(self, tokenizer: Any, continuation: Any = None) -> None:
        self._tokenizer = tokenizer
        self._continuation = continuation if continuation is not None else tokenizer

    def encode(self, text: str, *, continuation: bool) -> list[int]:
        """Ids of text."""
        tokenizer = self._continuation if continuation else self._tokenizer
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids if text else []
        return ids


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """A merge is "a b" in older files and ["a", "b"] in newer ones."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right
