"""A tokenizer's files: what they say beyond the vocabulary, and `save_pretrained`, which copies them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ostro.chat import TemplateFormat
from ostro.chat.render import choose_format
from ostro.checkpoint.open import open_checkpoint
from ostro.checkpoint.text import read_json
from ostro.errors import CheckpointError, ConfigError, RequestError, TokenizerError
from ostro.tokenizer import load_tokenizer
from ostro.tokenizer.files import read_object

if TYPE_CHECKING:
    from ostro.transformers.tokenization import PreTrainedTokenizer

OPTIONS = (
    "padding_side", "truncation_side", "model_max_length", "pad_token", "bos_token", "eos_token", "add_bos_token",
    "add_eos_token", "chat_template",
)  # fmt: skip
"""Settings of a tokenizer: arguments of `from_pretrained`, keys of `tokenizer_config.json`, attributes."""

_TOKENS = ("bos_token", "eos_token", "pad_token")
_CONFIG, _SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_NAMES = frozenset({"tekken.json", "tokenizer.json", "added_tokens.json", _CONFIG, _SPECIAL, *_TEMPLATES})
_VOCABULARY = re.compile(r"tokenizer\.model|.*\.model\.v\d+(m\d+)?")


def stated_options(folder: Path) -> dict[str, Any]:
    """What `tokenizer_config.json` and `special_tokens_map.json` say beyond what `load_tokenizer` reads there."""
    config = read_object(folder / _CONFIG)
    special = read_object(folder / _SPECIAL)
    read_already = ("bos_token", "eos_token", "chat_template")
    stated = {name: config[name] for name in OPTIONS if name in config and name not in read_already}
    pad = stated.pop("pad_token", None) or special.get("pad_token")
    pad = pad.get("content") if isinstance(pad, Mapping) else pad
    return {**stated, "pad_token": pad} if isinstance(pad, str) and pad else stated


def family_of(path: Path) -> str | None:
    """The family of the model beside the vocabulary, by which an old Mistral's prompt format is known; else None."""
    if (path / "config.json").is_file():
        kind = read_json(path / "config.json").get("model_type")
        return kind if isinstance(kind, str) else None
    try:
        return open_checkpoint(path).config.family
    except (CheckpointError, ConfigError):  # a folder that has a tokenizer alone
        return None


def save_tokenizer(tokenizer: PreTrainedTokenizer, source: Path | None, folder: Path) -> tuple[str, ...]:
    """Write the files of the folder `source` into `folder`, with the settings that were changed; the paths written.

    Tokenizer files of another model that lie in `folder` are removed, because they could be read instead. RequestError
    where there are no files to copy, and for a setting that the files cannot hold.
    """
    if source is None:
        raise RequestError(
            f"The tokenizer of {tokenizer.tokenizer.source} cannot be saved: it has no tokenizer files of its own (a "
            "GGUF file holds the vocabulary inside). Copy the GGUF file itself, or take the tokenizer of the model's "
            "original repository: AutoTokenizer.from_pretrained(repository).save_pretrained(folder)."
        )
    files = _read(source)
    if Path(tokenizer.tokenizer.source).name not in files:
        raise TokenizerError(f"{tokenizer.tokenizer.source} is no longer there, so the tokenizer cannot be saved.")
    changed = _changed(tokenizer, source)
    _restate(files, changed, tokenizer)
    if changed.keys() & {"bos_token", "eos_token"}:
        _check_ends(tokenizer, files)
    return _write(files, folder)


def _is_ours(name: str) -> bool:
    return name in _NAMES or _VOCABULARY.fullmatch(name) is not None


def _read(folder: Path) -> dict[str, bytes]:
    """All of it before anything is written: `folder` may be where it is written to."""
    try:
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if _is_ours(path.name)}
    except OSError as error:
        raise TokenizerError(
            f"{folder}: the tokenizer's files cannot be read: {error.strerror}. Check the path and its permissions."
        ) from None


def _changed(tokenizer: PreTrainedTokenizer, source: Path) -> dict[str, Any]:
    """The settings that a tokenizer of the files as they are would not have."""
    plain = type(tokenizer)(tokenizer.tokenizer, **stated_options(source))
    values = {name: getattr(tokenizer, name) for name in OPTIONS}
    return {name: value for name, value in values.items() if value != getattr(plain, name)}


def _restate(files: dict[str, bytes], changed: Mapping[str, Any], tokenizer: PreTrainedTokenizer) -> None:
    """Put `changed` into the content of the files."""
    if changed.get("chat_template") is not None:
        _check_template(tokenizer, changed["chat_template"])
        for name in _TEMPLATES:  # they would come before the template of tokenizer_config.json
            files.pop(name, None)
    if changed:
        files[_CONFIG] = _json({**_object(files, _CONFIG), **changed})
    special = _object(files, _SPECIAL)
    if tokens := {name: changed[name] for name in _TOKENS if name in changed and name in special}:
        kept = {**special, **tokens}
        files[_SPECIAL] = _json({name: value for name, value in kept.items() if value is not None})


def _check_template(tokenizer: PreTrainedTokenizer, template: str) -> None:
    chosen = choose_format(tokenizer.tokenizer, tokenizer.family, template)
    if not isinstance(chosen, TemplateFormat):
        raise RequestError(
            f"chat_template: a checkpoint with this vocabulary and template is read as one of format {chosen.name}, so "
            "the template would be saved and not used. Set tokenizer.chat_template = None before you save, and give "
            "the template where the tokenizer is loaded: from_pretrained(folder, chat_template=...).",
            param="chat_template",
        )


def _check_ends(tokenizer: PreTrainedTokenizer, files: Mapping[str, bytes]) -> None:
    """A vocabulary may have a BOS and EOS of its own, whatever the files beside it say: then the change is refused."""
    with TemporaryDirectory() as folder:
        _write(files, Path(folder))
        again = load_tokenizer(Path(folder))
    for name, found in (("bos_token", again.bos_id), ("eos_token", again.eos_id)):
        if found != getattr(tokenizer, f"{name}_id"):
            raise RequestError(
                f"{name}={getattr(tokenizer, name)!r} cannot be saved: the files of this vocabulary would be read back "
                f"with {None if found is None else again.piece(found)!r}. Set it back before you save, and give it "
                f"where the tokenizer is loaded: from_pretrained(folder, {name}=...).",
                param=name,
            )


def _write(files: Mapping[str, bytes], folder: Path) -> tuple[str, ...]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in [path for path in folder.iterdir() if _is_ours(path.name)]:
            if path.is_symlink() or path.name not in files:  # a link may lead into the cache of the hub
                path.unlink()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise RequestError(
            f"The tokenizer cannot be saved in {folder}: {error.strerror}. Give a folder that can be written to.",
            param="save_directory",
        ) from None
    return tuple(str(folder / name) for name in files)


def _object(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    return dict(json.loads(files[name])) if name in files else {}


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
