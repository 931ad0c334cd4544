"""The one way to a tokenizer: a checkpoint's folder, one of its files, or the metadata of a GGUF file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ostro.errors import TokenizerError, TokenizerNotFoundError
from ostro.tokenizer.base import Tokenizer
from ostro.tokenizer.files import GGUF_VOCABULARY, Settings, read_added_tokens, read_object, read_settings

_VERSIONED = re.compile(r"\.model\.v(\d+)(m\d+)?$")
_LOOKED_FOR = "tekken.json, tokenizer.model.v7 (or another version), tokenizer.model, tokenizer.json"


def load_tokenizer(
    folder: Path | None = None,
    *,
    gguf_metadata: Mapping[str, object] | None = None,
    source: str = "the GGUF metadata",
) -> Tokenizer:
    """The tokenizer of a folder, of one file in it, or of GGUF metadata (then `source` names it in messages).

    Of several vocabularies in a folder, the first of these counts:

    1. tekken.json. Mistral's own; the tokenizer.json beside it is a conversion, and several repositories carry one with
       a wrong regex.
    2. tokenizer.model.v7, .v3, ... (the highest), then tokenizer.model. The file that the model was trained with, while
       tokenizer.json is a conversion. Its content says whether it is SentencePiece's or Meta's.
    3. tokenizer.json. It goes before a SentencePiece file that has fewer tokens: then the checkpoint is a fine-tune
       that added tokens and left the old file beside the new.
    4. tokenizer_gguf.json. The metadata of the GGUF file that a packed folder was made from; it says all by itself.

    Whatever the vocabulary, tokenizer_config.json (or special_tokens_map.json) names BOS and EOS and says whether text
    begins with BOS, and the chat template is that of chat_template.jinja, chat_template.json or tokenizer_config.json.
    TokenizerError says what was looked for, or what is wrong with the file.
    """
    if (folder is None) == (gguf_metadata is None):
        raise TokenizerError("Give either a folder (or a tokenizer file) or GGUF metadata, and not both.")
    if gguf_metadata is not None:
        from ostro.tokenizer.gguf import load_gguf

        return load_gguf(gguf_metadata, source)
    assert folder is not None
    path = Path(folder)
    if path.is_dir():
        return _load_folder(path)
    if path.is_file():
        return _load_file(path, read_settings(path.parent))
    raise TokenizerError(f"{path}: no such file or folder. Give a checkpoint's folder or a tokenizer file.")


def _load_folder(folder: Path) -> Tokenizer:
    settings = read_settings(folder)
    if (tekken := folder / "tekken.json").is_file():
        return _load_file(tekken, settings)
    versioned = [path for path in folder.iterdir() if _VERSIONED.search(path.name)]
    models = [*sorted(versioned, key=_version_of, reverse=True), folder / "tokenizer.model"]
    model = next((path for path in models if path.is_file()), None)
    converted = folder / "tokenizer.json"
    if model is None:
        if not converted.is_file() and (metadata := folder / GGUF_VOCABULARY).is_file():
            return load_tokenizer(gguf_metadata=read_object(metadata), source=str(metadata))
        if not converted.is_file():
            raise TokenizerNotFoundError(
                f"{folder} has no vocabulary: looked for {_LOOKED_FOR}. Download the tokenizer files of the model "
                "into this folder."
            )
        return _load_file(converted, settings)
    tokenizer = _load_file(model, settings)
    if converted.is_file() and _num_tokens(converted) > tokenizer.vocab_size:
        return _load_file(converted, settings)
    return tokenizer


def _load_file(path: Path, settings: Settings) -> Tokenizer:
    """By the content: JSON of Tekken or of Hugging Face, lines of base64, or SentencePiece."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}. Check the path and its permissions.") from None
    if head[:4] == b"GGUF":
        raise TokenizerError(f"{path} is a GGUF file: its vocabulary is read with the model, not by itself.")
    if head.startswith(b"version https://git-lfs"):
        raise TokenizerError(
            f"{path} is a Git LFS pointer and not the file itself. Run `git lfs pull`, or download it."
        )
    if path.suffix == ".json" or head.lstrip()[:1] == b"{":
        return _load_json(path, head, settings)
    from ostro.tokenizer import mistral, tiktoken

    if tiktoken.looks_like_ranks(head):
        return tiktoken.load_tiktoken(path, settings)
    added = read_added_tokens(path.parent)
    return mistral.load_sentencepiece(path, settings, added)


def _load_json(path: Path, head: bytes, settings: Settings) -> Tokenizer:
    if path.name.startswith("tekken") or b'"default_num_special_tokens"' in head:
        from ostro.tokenizer.mistral import load_tekken

        return load_tekken(path, settings)
    from ostro.tokenizer.hf import load_hf

    return load_hf(path, settings)


def _version_of(path: Path) -> int:
    match = _VERSIONED.search(path.name)
    return int(match[1]) if match else 0


def _num_tokens(path: Path) -> int:
    """One more than the largest id in a tokenizer.json; 0 if it has none."""
    description = read_object(path)
    model = description.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    ids = list(vocab.values()) if isinstance(vocab, dict) else []
    ids += [token.get("id") for token in description.get("added_tokens") or () if isinstance(token, dict)]
    return max((i for i in ids if isinstance(i, int)), default=-1) + 1
