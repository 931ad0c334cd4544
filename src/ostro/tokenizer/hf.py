"""Hugging Face's tokenizer.json, of the two kinds that the families use: SentencePiece-like and byte-level BPE."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ostro.errors import TokenizerError
from ostro.tokenizer import bpe
from ostro.tokenizer.files import Settings, read_object
from ostro.tokenizer.mistral import TEKKEN_PATTERN, spm_version, tekken_version
from ostro.tokenizer.vocabulary import (
    BOS_NAMES,
    EOS_NAMES,
    SPACE,
    Encoder,
    Vocabulary,
    VocabularyTokenizer,
    byte_piece,
    looks_like_control,
    malformed_is_refused,
    readable,
    spm_bytes,
)


class HfTokenizer(VocabularyTokenizer):
    """A tokenizer.json. Rendered templates are encoded by the file's own rules, as transformers does."""

    def __init__(self, vocabulary: Vocabulary, encoder: Encoder, as_written: Mapping[str, Any]) -> None:
        super().__init__(vocabulary, encoder)
        self._as_written = as_written

    def encode_with_control(self, text: str) -> list[int]:
        """Ids of a rendered template in which control tokens stand as text, found as the file says."""
        ids: list[int] = self._with_control.encode(self._valid(text), add_special_tokens=False).ids
        return ids

    @cached_property
    def _with_control(self) -> Any:
        return bpe.build(self.source, self._as_written)


def load_hf(path: Path, settings: Settings | None = None) -> HfTokenizer:
    """A tokenizer of a tokenizer.json.

    Control tokens are the added tokens flagged special, those written <|name|>, the unknown token, BOS and EOS. Other
    added tokens are text, found in text before anything is merged. BOS and EOS are those that `settings` names, else
    <s> or <|begin_of_text|>, </s> or <|end_of_text|>. The file's post-processor is not used: where it adds BOS,
    `Tokenizer.adds_bos` says the same.
    """
    with malformed_is_refused(str(path)):
        return _load(str(path), read_object(path), settings or Settings())


def _load(source: str, description: Mapping[str, Any], settings: Settings) -> HfTokenizer:
    model = _checked_model(source, description)
    added = _added_tokens(source, description)
    pieces = _pieces(source, model["vocab"], added)
    ids = {piece: i for i, piece in enumerate(pieces) if piece}
    bos = next((n for n in (settings.bos, *BOS_NAMES) if n in ids), None)
    eos = next((n for n in (settings.eos, *EOS_NAMES) if n in ids), None)
    special = {name for name, token in added.items() if token["special"]} | {*filter(looks_like_control, ids)}
    control = special | {name for name in (bos, eos, model.get("unk_token")) if name in ids}
    byte_level = "ByteLevel" in {part["type"] for part in _parts(description.get("pre_tokenizer"))}
    shape = _byte_level(source, description, control) if byte_level else _sentencepiece_like(source, description, model)
    plain = {**shape.description, "added_tokens": [t for name, t in added.items() if name not in control]}
    # The library numbers added tokens itself unless the vocabulary has them.
    model = {**model, "vocab": dict(model["vocab"]) | {name: token["id"] for name, token in added.items()}}
    plain["model"] = bpe.without_control(model, control)
    encoder = bpe.build(source, plain)
    follow = bpe.build(source, {**plain, **shape.continuation}) if shape.continuation else None
    to_bytes = bpe.from_letters if byte_level else spm_bytes
    names = ids.keys() & control
    token_bytes = [b"" if p in control else p.encode() if p in added else to_bytes(p) for p in pieces]
    shown = [readable(b) if b else p for p, b in zip(pieces, token_bytes, strict=True)] if byte_level else pieces
    vocabulary = Vocabulary(
        kind=bpe.byte_level_kind(control) if byte_level else "spm",
        source=source,
        pieces=shown,
        token_bytes=token_bytes,
        control=frozenset(ids[name] for name in names),
        bos_id=ids.get(bos or ""),
        eos_id=ids.get(eos or ""),
        version=tekken_version(control) if byte_level else spm_version("", pieces, control),
        chat_template=settings.chat_template,
        dummy_prefix=bool(shape.continuation),
        adds_bos=settings.adds_bos,
    )
    as_written = {**shape.as_written, "model": model, "added_tokens": list(added.values())}
    return HfTokenizer(vocabulary, bpe.TokenizersEncoder(encoder, follow), as_written)


class _Shape:
    """How text is prepared: for `encode`, what changes for `encode_continuation`, and as the file writes it."""

    def __init__(self, description: dict[str, Any], continuation: dict[str, Any], as_written: dict[str, Any]) -> None:
        self.description = description
        self.continuation = continuation
        self.as_written = as_written


def _byte_level(source: str, description: Mapping[str, Any], control: Iterable[str]) -> _Shape:
    """As the file says, but for Tekken: several Mistral repositories ship it with the regex of another vocabulary."""
    parts = list(_parts(description.get("pre_tokenizer")))
    if any(part["type"] == "ByteLevel" and part.get("add_prefix_space") for part in parts):
        raise _unsupported(source, "pre_tokenizer", "ByteLevel with add_prefix_space")
    cut = description["pre_tokenizer"]
    if bpe.byte_level_kind(set(control)) == "tekken":
        cut = bpe.pre_tokenizer(TEKKEN_PATTERN)
    prepared = {"normalizer": description.get("normalizer"), "pre_tokenizer": cut}
    bpe.require_all_bytes(source, description["model"]["vocab"], list(bpe.BYTE_TO_LETTER.values()))
    return _Shape(prepared, {}, prepared)


def _sentencepiece_like(source: str, description: Mapping[str, Any], model: Mapping[str, Any]) -> _Shape:
    """SentencePiece's rules: a space in front of every text that is not empty, also of one that begins with a space.

    (Metaspace, which newer files name, leaves the latter out, and then " a" and "a" could not be told apart.)
    """
    to_space = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepend = {"type": "Prepend", "prepend": SPACE}
    normalizers = list(_parts(description.get("normalizer")))
    if other := next((part["type"] for part in normalizers if part not in (to_space, prepend)), None):
        raise _unsupported(source, "normalizer", other)
    cuts = list(_parts(description.get("pre_tokenizer")))
    if other := next((part["type"] for part in cuts if part["type"] != "Metaspace"), None):
        raise _unsupported(source, "pre_tokenizer", other)
    if not model.get("byte_fallback"):
        raise _unsupported(source, "model", "BPE, neither byte-level nor with byte fallback,")
    bpe.require_all_bytes(source, model["vocab"], [byte_piece(i) for i in range(256)])
    dummy = prepend in normalizers or any(_prepends(part) for part in cuts)
    metaspaces = [{**_metaspace(part), "prepend_scheme": "never"} for part in cuts]
    cut = {"pre_tokenizer": metaspaces[0] if metaspaces else None}
    bare = {"type": "Sequence", "normalizers": [to_space]}
    full = {"type": "Sequence", "normalizers": [prepend, to_space]} if dummy else bare
    as_written = {"normalizer": description.get("normalizer"), "pre_tokenizer": description.get("pre_tokenizer")}
    return _Shape({"normalizer": full, **cut}, {"normalizer": bare} if dummy else {}, as_written)


def _prepends(metaspace: Mapping[str, Any]) -> bool:
    if "prepend_scheme" in metaspace:
        return bool(metaspace["prepend_scheme"] != "never")
    return bool(metaspace.get("add_prefix_space", True))


def _metaspace(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != "add_prefix_space"}


def _checked_model(source: str, description: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `model`, known to be BPE with a vocabulary of str to int and a list of merges."""
    if not description:
        raise TokenizerError(f"{source} is missing or empty. Fetch the checkpoint again.")
    model = description.get("model")
    if not isinstance(model, dict) or not isinstance(vocab := model.get("vocab"), dict) or not vocab:
        raise TokenizerError(f"{source} has no model.vocab: it is no tokenizer.json of a BPE model. Fetch it again.")
    if model.get("type", "BPE") != "BPE" or not isinstance(model.get("merges"), list):
        raise _unsupported(source, "model", str(model.get("type")))
    if wrong := next((p for p, i in vocab.items() if type(i) is not int or i < 0), None):
        raise TokenizerError(f"{source}: the id of {wrong!r} is {vocab[wrong]!r}, not a number. Fetch the file again.")
    return model


def _added_tokens(source: str, description: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The added tokens by their text, as the file has them."""
    added = {}
    for token in description.get("added_tokens") or ():
        if type(token.get("id")) is not int or token["id"] < 0 or not token.get("content"):
            raise TokenizerError(f"{source}: {token!r} in added_tokens has no id or no content. Fetch the file again.")
        added[token["content"]] = {"special": False, **token}
    return added


def _pieces(source: str, vocab: Mapping[str, int], added: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Pieces in the order of ids; an id that nothing has is "" (it stands for no text)."""
    ids = dict(vocab) | {name: token["id"] for name, token in added.items()}
    size = max(ids.values()) + 1
    if size > 4 * len(ids):
        raise TokenizerError(
            f"{source}: the largest id is {size - 1}, but there are {len(ids)} tokens. Fetch the file again."
        )
    pieces = [""] * size
    for piece, token_id in ids.items():
        pieces[token_id] = piece
    return pieces


def _parts(component: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """A normalizer or pre-tokenizer, or the members of a sequence of them."""
    if not component:
        return
    members = component.get("normalizers") or component.get("pretokenizers")
    if members is None:
        yield component
        return
    for member in members:
        yield from _parts(member)


def _unsupported(source: str, field: str, found: str) -> TokenizerError:
    return TokenizerError(
        f"{source}: {field} {found} is not known. A tokenizer.json must be BPE, byte-level or SentencePiece-like with "
        "byte fallback, as Mistral's and Llama's are. If the repository has a tokenizer.model, use that."
    )
