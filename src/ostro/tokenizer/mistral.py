"""Mistral's own tokenizer files: SentencePiece with a version suffix, and Tekken. mistral-common reads the latter.

Also what tells one Mistral vocabulary from another, wherever it came from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ostro.errors import TokenizerError
from ostro.tokenizer.base import Tokenizer
from ostro.tokenizer.files import Settings
from ostro.tokenizer.spm import SentencePieceEncoder, SentencePieceTokenizer, extend_model, seal_model
from ostro.tokenizer.vocabulary import BOS_NAMES, EOS_NAMES, Vocabulary, VocabularyTokenizer, readable, spm_bytes

TEKKEN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Tekken cuts text before merging (`config.pattern` of tekken.json)."""

# sha256 of the 32000 pieces of Mistral's v1 vocabulary, joined by newlines. Llama 2's has the same size and the same
# control tokens, so nothing but the pieces tells them apart.
_V1_DIGEST = "9667493c598ed599f14df3157cb9a6f373d49a1b2d99d98c79e937ff490d219b"
_V1_SIZE = 32000

_SUFFIX = re.compile(r"\.model\.(v\d+)(m\d+)?$")

_BUNDLED = {
    "v1": ("tokenizer.model.v1", None),
    "v2": ("mistral_instruct_tokenizer_240216.model.v2", None),
    "v3": ("mistral_instruct_tokenizer_240323.model.v3", None),
    "v7": ("mistral_instruct_tokenizer_241114.model.v7", None),
    "v3-tekken": ("tekken_240718.json", None),
    "v7-tekken": ("tekken_240911.json", "v7-tekken"),
}


def spm_version(name: str, pieces: Sequence[str], control: Collection[str]) -> str | None:
    """Mistral's version of a SentencePiece vocabulary, or None for another's (Llama 2's, say).

    A file name's suffix (".model.v3", ".model.v7m1") is believed. Without one: v7 has [SYSTEM_PROMPT], v3 has [INST],
    and v1 is known by its pieces. A v2 vocabulary is known by its suffix alone; it is the same as an early v3 one, and
    every checkpoint published without a suffix is v3.
    """
    if suffix := _SUFFIX.search(name):
        return suffix[1]
    if "[INST]" in control:
        return "v7" if "[SYSTEM_PROMPT]" in control else "v3"
    digest = hashlib.sha256("\n".join(pieces[:_V1_SIZE]).encode()).hexdigest()
    return "v1" if digest == _V1_DIGEST else None


def tekken_version(control: Collection[str]) -> str | None:
    """Mistral's version of a Tekken vocabulary that came without tekken.json, by its control tokens.

    None for one newer than v7, whose control tokens do not tell which ([ARGS] came with v11).
    """
    if "[INST]" not in control or "[ARGS]" in control:
        return None
    return "v7-tekken" if "[SYSTEM_PROMPT]" in control else "v3-tekken"


def load_sentencepiece(
    path: Path, settings: Settings | None = None, added: Mapping[str, int] | None = None
) -> SentencePieceTokenizer:
    """A tokenizer of a SentencePiece file; control tokens are those that the model flags, and <unk>.

    `settings` names BOS and EOS where they are not the model's own. `added` is the content of added_tokens.json: names
    whose ids continue the vocabulary become control tokens.
    """
    try:
        model = seal_model(path.read_bytes())
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}. Check the path and its permissions.") from None
    settings = settings or Settings()
    encoder = SentencePieceEncoder(extend_model(model, added or {}, str(path)), str(path))
    sp = encoder.processor
    size = sp.vocab_size()
    pieces = [sp.id_to_piece(i) for i in range(size)]
    control = frozenset(i for i in range(size) if sp.is_control(i) or sp.is_unknown(i))
    names = {pieces[i]: i for i in control}
    vocabulary = Vocabulary(
        kind="spm",
        source=str(path),
        pieces=pieces,
        token_bytes=[b"" if i in control else spm_bytes(p) for i, p in enumerate(pieces)],
        control=control,
        bos_id=names.get(settings.bos or "", sp.bos_id() if sp.bos_id() >= 0 else None),
        eos_id=names.get(settings.eos or "", sp.eos_id() if sp.eos_id() >= 0 else None),
        version=spm_version(path.name, pieces, names),
        chat_template=settings.chat_template,
        dummy_prefix=encoder.dummy_prefix,
        adds_bos=settings.adds_bos,
    )
    return SentencePieceTokenizer(vocabulary, encoder)


class TekkenEncoder:
    """Encodes with mistral-common's Tekkenizer, which knows no special tokens in text."""

    def __init__(self, tekkenizer: Any) -> None:
        self._tekkenizer = tekkenizer

    def encode(self, text: str, *, continuation: bool) -> list[int]:  # noqa: ARG002 - Tekken has no dummy prefix
        """Ids of text. mistral-common's, except where its regex engine gives up on a run of ~1e5 spaces."""
        from ostro.tokenizer.tiktoken import chunks

        try:
            ids: list[int] = self._tekkenizer.encode(text, bos=False, eos=False)
        except ValueError:
            return [i for part in chunks(text) for i in self._tekkenizer.encode(part, bos=False, eos=False)]
        return ids


class TekkenTokenizer(VocabularyTokenizer):
    """kind "tekken": Mistral's byte-level BPE, whose control tokens come first in the vocabulary."""


def load_tekken(path: Path, settings: Settings | None = None, *, version: str | None = None) -> TekkenTokenizer:
    """A tokenizer of a tekken.json; `version` overrides the one that the file states.

    Of `settings` the names of BOS and EOS do not count: a Tekken vocabulary has its own.
    """
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer

    try:
        tekken = Tekkenizer.from_file(path)
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}. Check the path and its permissions.") from None
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, json.JSONDecodeError) as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise TokenizerError(
            f"{path} is no Tekken vocabulary that can be read: {detail}. It may be truncated, or newer than the "
            "installed mistral-common; fetch it again, or upgrade mistral-common."
        ) from None
    settings = settings or Settings()
    control = frozenset(tekken.special_ids)
    names = {tekken.id_to_piece(i): i for i in control}
    token_bytes = [tekken.id_to_byte_piece(i) for i in range(tekken.n_words)]
    id_to_name = {i: name for name, i in names.items()}
    vocabulary = Vocabulary(
        kind="tekken",
        source=str(path),
        pieces=[id_to_name[i] if i in control else readable(data) for i, data in enumerate(token_bytes)],
        token_bytes=token_bytes,
        control=control,
        bos_id=names.get(BOS_NAMES[0]),
        eos_id=names.get(EOS_NAMES[0]),
        version=version or f"{tekken.version.value}-tekken",
        chat_template=settings.chat_template,
        adds_bos=settings.adds_bos,
    )
    return TekkenTokenizer(vocabulary, TekkenEncoder(tekken))


@cache
def bundled(version: str) -> Tokenizer:
    """A vocabulary out of mistral-common's wheel: "v1", "v2", "v3", "v3-tekken", "v7" or "v7-tekken".

    The wheel has no Tekken file that states v7. "v7-tekken" is the newer of its two (240911), whose control tokens are
    already those of v7.
    """
    if version not in _BUNDLED:
        raise TokenizerError(
            f"No bundled tokenizer {version!r}: there are {', '.join(_BUNDLED)}. Give a model's folder for another."
        )
    name, stated = _BUNDLED[version]
    import mistral_common

    path = Path(mistral_common.__file__).parent / "data" / name
    if not path.is_file():
        raise TokenizerError(
            f"{name} is not in the installed mistral-common. Install mistral-common 1.13 or newer, below 2."
        )
    return load_tekken(path, version=stated) if path.suffix == ".json" else load_sentencepiece(path)
