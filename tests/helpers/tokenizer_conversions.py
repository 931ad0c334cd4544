"""Vocabularies of mistral-common's wheel written in the other forms that checkpoints have: GGUF and tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from ostro.tokenizer.base import Tokenizer
from ostro.tokenizer.bpe import to_letters

SHARED = Path(__file__).resolve().parents[3] / "shared"
STORIES = SHARED / "models" / "stories260K"

CONTROL_NAMES = (
    "<s>", "</s>", "<unk>", "<pad>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[SYSTEM_PROMPT]", "[IMG]", "<SPECIAL_20>",
    "<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>", "<|python_tag|>", "<0x41>",
)  # fmt: skip
SAMPLES = (
    "Hello", " Hello", "  Hello  ", "", " ", "\n", "\n\n x\r\n\ty ", "안녕하세요, 세계!", "뷁 쀍 ㄱㄴㄷ",
    "👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 🙋🏽", "nai\u0308ve e\u0301 ñ", "a\0b\x01\x7f", "1234567890 3.14",
    "don't I'll WE'VE", "def f(x):\n    return x  # ok\n", "مرحبا नमस्ते ไทย", "\u00a0\u2003\u3000x\u200b", "𝕳𝖊𝖑𝖑𝖔",
    "\U0010ffff\ue000", "</s>[INST] hi [/INST]<|eot_id|>", "日本語の文章です。", "x" * 300, " " * 300,
    "aAbB" * 50 + "\n" * 40, "ab\u2028cd\u0085ef",
)  # fmt: skip

_CHUNKS = st.one_of(
    st.text(max_size=12),
    st.text(alphabet=st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), max_size=8),
    st.text(alphabet=st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF), max_size=4),
    st.text(alphabet="aeiou tnrsdlhe THE\n'", max_size=40),
    st.sampled_from([" ", "  ", "\n", "\t", "\u200d", "\ufe0f", "\x00", "\x1b", *CONTROL_NAMES, *SAMPLES]),
)
TEXT = st.lists(_CHUNKS, max_size=6).map("".join)
"""Text of words, Korean, emoji, spaces, control characters and names of control tokens."""


def sentencepiece_metadata(processor: Any, **more: object) -> dict[str, object]:
    """GGUF metadata of a SentencePieceProcessor."""
    ids = range(processor.vocab_size())

    def kind(i: int) -> int:
        flags = (processor.is_unknown(i), processor.is_control(i), False, processor.is_unused(i), processor.is_byte(i))
        return flags.index(True) + 2 if True in flags else 1

    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [processor.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [processor.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": [kind(i) for i in ids],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        **more,
    }


def merges_of(ranks: Mapping[bytes, int]) -> list[tuple[str, str]]:
    """Every way to make a token of two others, in the order of the ranks; as converters write it."""
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        pairs = [(token[:i], token[i:]) for i in range(1, len(token))]
        known = [(ranks[a], ranks[b], a, b) for a, b in pairs if a in ranks and b in ranks]
        merges += [(to_letters(a), to_letters(b)) for _, _, a, b in sorted(known)]
    return merges


def byte_level_metadata(tokenizer: Tokenizer, ranks: Mapping[bytes, int], pre: str) -> dict[str, object]:
    """GGUF metadata of a Tekken or tiktoken vocabulary."""
    ids = range(tokenizer.vocab_size)
    control = [tokenizer.is_control(i) for i in ids]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": letter_pieces(tokenizer),
        "tokenizer.ggml.token_type": [3 if flag else 1 for flag in control],
        "tokenizer.ggml.merges": [f"{a} {b}" for a, b in merges_of(ranks)],
        "tokenizer.ggml.bos_token_id": tokenizer.bos_id,
        "tokenizer.ggml.eos_token_id": tokenizer.eos_id,
    }


def letter_pieces(tokenizer: Tokenizer) -> list[str]:
    """Pieces as byte-level files spell them."""
    ids = range(tokenizer.vocab_size)
    return [tokenizer.piece(i) if tokenizer.is_control(i) else to_letters(tokenizer.token_bytes(i)) for i in ids]


def ranks_of(tokenizer: Tokenizer) -> dict[bytes, int]:
    """Bytes to id of every token that is text."""
    return {tokenizer.token_bytes(i): i for i in range(tokenizer.vocab_size) if not tokenizer.is_control(i)}


def tokenizer_json(
    pieces: Sequence[str],
    merges: Iterable[tuple[str, str]],
    control: Iterable[str],
    *,
    pre_tokenizer: Mapping[str, Any] | None,
    normalizer: Mapping[str, Any] | None = None,
    **model: object,
) -> str:
    """A tokenizer.json as the hub has them: control tokens are in the vocabulary and in added_tokens."""
    vocab = {piece: i for i, piece in enumerate(pieces)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [{"id": vocab[name], "content": name, **flags} for name in control],
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "post_processor": None,
            "decoder": None,
            "model": {"type": "BPE", "vocab": vocab, "merges": [list(pair) for pair in merges], **model},
        }
    )


def sentencepiece_merges(processor: Any) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, the best score first; as converters write it."""
    normal = [i for i in range(processor.vocab_size()) if not (processor.is_control(i) or processor.is_byte(i))]
    scores = {processor.id_to_piece(i): processor.get_score(i) for i in normal if not processor.is_unknown(i)}
    merges = []
    for piece in sorted(scores, key=lambda piece: -scores[piece]):
        pairs = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        merges += [(a, b) for a, b in pairs if a in scores and b in scores]
    return merges
