"""The vocabulary in a GGUF file's metadata (`tokenizer.ggml.*`): SentencePiece ("llama") or byte-level BPE ("gpt2")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from ostro.errors import TokenizerError
from ostro.tokenizer import bpe
from ostro.tokenizer.mistral import TEKKEN_PATTERN, spm_version, tekken_version
from ostro.tokenizer.spm import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SentencePieceEncoder,
    SentencePieceTokenizer,
    serialize_model,
)
from ostro.tokenizer.tiktoken import LLAMA3_PATTERN
from ostro.tokenizer.vocabulary import (
    Vocabulary,
    VocabularyTokenizer,
    looks_like_control,
    malformed_is_refused,
    readable,
    spm_bytes,
)

_PATTERNS = {
    "llama-bpe": LLAMA3_PATTERN,
    "llama3": LLAMA3_PATTERN,
    "llama-v3": LLAMA3_PATTERN,
    "tekken": TEKKEN_PATTERN,
    "gpt-2": bpe.GPT2_PATTERN,
}
_PATTERN_OF_KIND = {"tiktoken": "llama-bpe", "tekken": "tekken", "bpe": "gpt-2"}
_PREFIX = "tokenizer.ggml."

T = TypeVar("T")


class GgufTokenizer(VocabularyTokenizer):
    """A byte-level BPE vocabulary of a GGUF file."""


def load_gguf(metadata: Mapping[str, object], source: str) -> VocabularyTokenizer:
    """A tokenizer of GGUF metadata: key to value, arrays being sequences or NumPy arrays, strings str or UTF-8 bytes.

    Control tokens are those of type CONTROL or UNKNOWN, BOS, EOS, and whatever is written <|name|>. Tokens of type
    UNUSED, with which converters fill holes, stand for nothing.
    """
    with malformed_is_refused(source):
        return _load(metadata, source)


def _load(metadata: Mapping[str, object], source: str) -> VocabularyTokenizer:
    model = _get(metadata, "model", source, str)
    tokens = [_text(token, source) for token in _array(metadata, "tokens", source)]
    if not tokens:
        raise TokenizerError(f"{source}: {_PREFIX}tokens is empty. Fetch the file again.")
    types = _types(metadata, tokens, source)
    if model == "llama":
        return _sentencepiece(metadata, tokens, types, source)
    if model == "gpt2":
        return _byte_level(metadata, tokens, types, source)
    raise TokenizerError(
        f"{source}: {_PREFIX}model is {model!r}; the vocabularies of Mistral and Llama are 'llama' (SentencePiece) and "
        "'gpt2' (byte-level BPE). Use a GGUF file of one of these models."
    )


def _sentencepiece(
    metadata: Mapping[str, object], tokens: list[str], types: list[int], source: str
) -> SentencePieceTokenizer:
    scores = [float(score) for score in _array(metadata, "scores", source)]
    if len(scores) != len(tokens):
        raise _mismatch(source, "scores", len(scores), len(tokens))
    if any(map(math.isnan, scores)):
        raise TokenizerError(f"{source}: {_PREFIX}scores has a NaN, which cannot be ordered. Fetch the file again.")
    entries = list(zip(tokens, scores, _one_unknown(types), strict=True))
    if UNKNOWN not in types:  # SentencePiece insists on one; behind the vocabulary it is never made, nor seen
        entries.append(("\ufdd0", 0.0, UNKNOWN))
    charsmap = _optional_array(metadata, "precompiled_charsmap")
    model = serialize_model(
        entries,
        add_dummy_prefix=_get(metadata, "add_space_prefix", source, bool, True),
        remove_extra_whitespaces=_get(metadata, "remove_extra_whitespaces", source, bool, False),
        precompiled_charsmap=bytes(int(value) & 0xFF for value in charsmap),
    )
    encoder = SentencePieceEncoder(model, source)
    control = frozenset(i for i, kind in enumerate(types) if kind in (CONTROL, UNKNOWN))
    names = {tokens[i] for i in control}
    vocabulary = Vocabulary(
        kind="spm",
        token_bytes=[
            b"" if kind in (CONTROL, UNKNOWN, UNUSED) else spm_bytes(piece)
            for piece, kind in zip(tokens, types, strict=True)
        ],
        version=spm_version("", tokens, names),
        dummy_prefix=encoder.dummy_prefix,
        **_common(metadata, tokens, control, source),
    )
    return SentencePieceTokenizer(vocabulary, encoder)


def _one_unknown(types: list[int]) -> list[int]:
    """SentencePiece refuses a second unknown token; as a control token it is as unreachable."""
    first = types.index(UNKNOWN) if UNKNOWN in types else -1
    return [CONTROL if kind == UNKNOWN and i != first else kind for i, kind in enumerate(types)]


def _byte_level(metadata: Mapping[str, object], tokens: list[str], types: list[int], source: str) -> GgufTokenizer:
    control = frozenset(i for i, kind in enumerate(types) if kind in (CONTROL, UNKNOWN))
    names = {tokens[i] for i in control}
    kind = bpe.byte_level_kind(names)
    if _get(metadata, "add_space_prefix", source, bool, False):
        raise TokenizerError(
            f"{source}: {_PREFIX}add_space_prefix is true, which no byte-level vocabulary of ours has."
        )
    vocab = {token: i for i, token in enumerate(tokens) if types[i] in (NORMAL, BYTE)}
    bpe.require_all_bytes(source, vocab, list(bpe.BYTE_TO_LETTER.values()))
    merges = [_text(merge, source) for merge in _array(metadata, "merges", source)]
    found = [i for i, flag in enumerate(types) if flag == USER_DEFINED and tokens[i]]
    vocab |= {tokens[i]: i for i in found}
    model: dict[str, Any] = {"type": "BPE", "vocab": vocab, "merges": _checked_merges(merges, source)}
    model |= {"ignore_merges": kind != "bpe", "byte_fallback": False, "fuse_unk": False}
    plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": False}
    encoder = bpe.build(
        source,
        {
            "normalizer": None,
            "pre_tokenizer": bpe.pre_tokenizer(_pattern(metadata, kind, source)),
            "added_tokens": [{"id": i, "content": tokens[i], **plain} for i in found],
            "model": bpe.without_control(model, names),
        },
    )
    silent = control | {i for i, flag in enumerate(types) if flag == UNUSED}
    as_text = set(found)
    token_bytes = [
        b"" if i in silent else piece.encode() if i in as_text else bpe.from_letters(piece)
        for i, piece in enumerate(tokens)
    ]
    shown = [readable(data) if data else piece for piece, data in zip(tokens, token_bytes, strict=True)]
    vocabulary = Vocabulary(
        kind=kind, token_bytes=token_bytes, version=tekken_version(names), **_common(metadata, shown, control, source)
    )
    return GgufTokenizer(vocabulary, bpe.TokenizersEncoder(encoder))


def _pattern(metadata: Mapping[str, object], kind: str, source: str) -> str:
    """The regex that `tokenizer.ggml.pre` names. Early files name none, or "default": then the vocabulary's own."""
    name = _get(metadata, "pre", source, str, "default")
    if name == "default":
        name = _PATTERN_OF_KIND[kind]
    if name not in _PATTERNS:
        raise TokenizerError(
            f"{source}: {_PREFIX}pre is {name!r}, a way to cut text that is not known; known are "
            f"{', '.join(_PATTERNS)} and default. Use a GGUF file of a Mistral or Llama model."
        )
    return _PATTERNS[name]


def _common(metadata: Mapping[str, object], pieces: list[str], control: frozenset[int], source: str) -> dict[str, Any]:
    template = metadata.get("tokenizer.chat_template", metadata.get(_PREFIX + "chat_template"))
    return {
        "source": source,
        "pieces": pieces,
        "control": control,
        "bos_id": _special_id(metadata, "bos_token_id", source),
        "eos_id": _special_id(metadata, "eos_token_id", source),
        "chat_template": None if template is None else _text(template, source),
        "adds_bos": _get(metadata, "add_bos_token", source, bool, True),
    }


def _special_id(metadata: Mapping[str, object], key: str, source: str) -> int | None:
    value = metadata.get(_PREFIX + key)
    return None if value is None else _get(metadata, key, source, int)


def _types(metadata: Mapping[str, object], tokens: list[str], source: str) -> list[int]:
    """The type of each token, with BOS, EOS and <|name|> made CONTROL where the file forgets it."""
    given = [int(kind) for kind in _optional_array(metadata, "token_type")] or [NORMAL] * len(tokens)
    if len(given) != len(tokens):
        raise _mismatch(source, "token_type", len(given), len(tokens))
    if wrong := next((kind for kind in given if not NORMAL <= kind <= BYTE), None):
        raise TokenizerError(f"{source}: {_PREFIX}token_type has a {wrong}; types are 1 to 6. Fetch the file again.")
    ends = {_special_id(metadata, key, source) for key in ("bos_token_id", "eos_token_id")}
    return [
        CONTROL if kind in (NORMAL, USER_DEFINED) and (i in ends or looks_like_control(token)) else kind
        for i, (token, kind) in enumerate(zip(tokens, given, strict=True))
    ]


def _checked_merges(merges: list[str], source: str) -> list[str]:
    if wrong := next((merge for merge in merges if merge.count(" ") != 1), None):
        raise TokenizerError(f"{source}: {_PREFIX}merges has {wrong!r}, not two pieces and a space. Fetch it again.")
    return merges


def _get(metadata: Mapping[str, object], key: str, source: str, kind: type[T], default: T | None = None) -> T:
    """One value of the type wanted; NumPy's scalars are taken for Python's."""
    value = metadata.get(_PREFIX + key, default)
    if value is None:
        raise _missing(source, key)
    if isinstance(value, bytes):
        value = _text(value, source)
    if hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TokenizerError(f"{source}: {_PREFIX}{key} is {value!r}, not of type {kind.__name__}. Fetch it again.")
    return value


def _array(metadata: Mapping[str, object], key: str, source: str) -> list[Any]:
    if _PREFIX + key not in metadata:
        raise _missing(source, key)
    return _optional_array(metadata, key)


def _optional_array(metadata: Mapping[str, object], key: str) -> list[Any]:
    value: Any = metadata.get(_PREFIX + key)
    if value is None:
        return []
    return list(value.tolist() if hasattr(value, "tolist") else value)


def _text(value: object, source: str) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise TokenizerError(f"{source}: the string {value!r:.80} is not UTF-8. Fetch the file again.") from None


def _missing(source: str, key: str) -> TokenizerError:
    return TokenizerError(
        f"{source}: the metadata has no {_PREFIX}{key}, so the file carries no usable vocabulary. "
        "Use a GGUF file with a tokenizer, or the original checkpoint's folder."
    )


def _mismatch(source: str, key: str, found: int, wanted: int) -> TokenizerError:
    return TokenizerError(
        f"{source}: {_PREFIX}{key} has {found} entries, but {_PREFIX}tokens has {wanted}. Fetch the file again."
    )
