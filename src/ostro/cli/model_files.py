"""What can be known of a model without its weights: its configuration, its tokenizer, its files.

Of a model of the hub that is not on this machine only the configuration is fetched, a few kilobytes. The hub is asked
for the model's page first: that answers or fails at once, where a download would try again for half a minute.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ostro.errors import ConfigError, ModelNotFoundError

if TYPE_CHECKING:
    from ostro.config import ModelConfig
    from ostro.tokenizer.base import Tokenizer

_CONFIG_FILES = ("config.json", "generation_config.json", "params.json")
_TOKENIZER_FILES = (
    *_CONFIG_FILES, "tokenizer.json", "tokenizer_config.json", "tokenizer.model*", "tekken.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.j*",
)  # fmt: skip

_TIMEOUT = 10.0  # seconds to wait for the hub's answer

BUNDLED = ("v1", "v2", "v3", "v3-tekken", "v7", "v7-tekken")
"""Tokenizers that mistral-common brings, by the version of their prompt format."""

_BUNDLED_OF = {
    "mistralai/Mistral-7B-v0.1": "v1",
    "mistralai/Mistral-7B-Instruct-v0.1": "v1",
    "mistralai/Mistral-7B-Instruct-v0.2": "v1",
    "mistralai/Mixtral-8x7B-v0.1": "v1",
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "v1",
    "mistralai/Mistral-7B-v0.3": "v3",
    "mistralai/Mistral-7B-Instruct-v0.3": "v3",
    "mistralai/Mistral-Small-Instruct-2409": "v3",
    "mistralai/Mistral-Large-Instruct-2407": "v3",
    "mistralai/Mistral-Large-Instruct-2411": "v7",
    "mistralai/Mistral-Nemo-Base-2407": "v3-tekken",
    "mistralai/Mistral-Nemo-Instruct-2407": "v3-tekken",
    "mistralai/Mistral-Small-24B-Instruct-2501": "v7-tekken",
}


@dataclass(frozen=True)
class ModelFiles:
    """A model as far as it can be seen. `path` is None for one of the hub of which only the configuration is here.

    `files` are names and bytes; `load_tokenizer` is None where there is no tokenizer without a download.
    """

    name: str
    path: Path | None
    form: str
    config: ModelConfig
    files: tuple[tuple[str, int], ...]
    load_tokenizer: Callable[[], Tokenizer] | None


@dataclass(frozen=True)
class NamedTokenizer:
    """A tokenizer, and the family of its model where that is known (prompt format v1 is told by it)."""

    name: str
    tokenizer: Tokenizer
    family: str | None


def bundled_version(name: str) -> str | None:
    """The bundled tokenizer that a version, a short name or a repository stands for, or None."""
    from ostro.checkpoint.aliases import find_alias

    if name in BUNDLED:
        return name
    alias = find_alias(name)
    return None if alias is None else _BUNDLED_OF.get(alias.repo)


def find_tokenizer(name: str, *, revision: str | None = None, offline: bool = False) -> NamedTokenizer:
    """The tokenizer of a bundled version, of a short name that has one, or of a model's files (fetched if need be)."""
    from ostro.tokenizer import mistral

    version = None if revision else bundled_version(name)
    if version is not None and not Path(name).exists():
        return NamedTokenizer(name, mistral.bundled(version), "mistral")
    path = _here(name, revision) or _fetch_tokenizer(name, revision, offline)
    return NamedTokenizer(name, _tokenizer_at(path), _family_at(name, path))


def _family_at(name: str, path: Path) -> str | None:
    """The family of a model's config; None where there is a tokenizer alone."""
    return _at(name, path).config.family if _has_config(path) or _gguf_of(path) is not None else None


def look_at(name: str, *, revision: str | None = None, offline: bool = False) -> ModelFiles:
    """What there is of a model: of a folder or GGUF file all of it, of the hub's what the cache has or its config."""
    path = _here(name, revision)
    if path is None:
        return _from_hub(name, revision, offline)
    return _at(name, path)


def _here(name: str, revision: str | None) -> Path | None:
    """Where the model lies on this machine, if it does."""
    from ostro.checkpoint.hub import resolve

    if Path(name).expanduser().exists():
        return resolve(name, revision=revision, offline=True)  # refuses a revision, and files that are no models
    try:
        return resolve(name, revision=revision, offline=True)
    except ModelNotFoundError:
        return None


def _at(name: str, path: Path) -> ModelFiles:
    gguf = _gguf_of(path)
    return _folder(name, path) if gguf is None else _gguf(name, gguf)


def _gguf_of(path: Path) -> Path | None:
    """The GGUF file that `path` is, or the folder of one."""
    if path.is_file():
        return path
    return path if not _has_config(path) and any(path.glob("*.gguf")) else None


def _has_config(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("config.json", "params.json"))


def _tokenizer_at(path: Path) -> Tokenizer:
    from ostro.tokenizer import load_tokenizer

    gguf = _gguf_of(path)
    if gguf is None:
        return load_tokenizer(path)
    from ostro.checkpoint.open import open_checkpoint

    checkpoint = open_checkpoint(gguf)
    return load_tokenizer(gguf_metadata=checkpoint.gguf_metadata, source=str(checkpoint.files[0]))


def _fetch_tokenizer(name: str, revision: str | None, offline: bool) -> Path:
    """A folder with configuration and tokenizer of a model of the hub; its weights are not fetched."""
    repo = _plain_repo(name)
    if repo is None:
        return _resolve(name, revision, offline)  # one GGUF file is fetched whole
    here = _snapshot(repo, revision, _TOKENIZER_FILES)
    if here is not None and (any(here.glob("tokenizer.*")) or (here / "tekken.json").is_file()):
        return here
    return _resolve(name, revision, offline) if offline else _download(repo, revision, _TOKENIZER_FILES)


def _resolve(name: str, revision: str | None, offline: bool) -> Path:
    """Of a name that cannot be had, this says what is wrong and what to do."""
    from ostro.checkpoint.hub import resolve

    return resolve(name, revision=revision, offline=offline)


def _snapshot(repo: str, revision: str | None, patterns: Sequence[str]) -> Path | None:
    """The folder where the cache has these files of a repository, or, as far as older versions know, some of them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=list(patterns)))
    except LocalEntryNotFoundError:
        return None


def _download(repo: str, revision: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    from ostro.checkpoint.hub_errors import hub_error

    try:
        HfApi().model_info(repo, revision=revision, timeout=_TIMEOUT)
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:
        raise hub_error(repo, revision, error) from error


def _plain_repo(name: str) -> str | None:
    """The repository that a name stands for; None where it is no alias and no OWNER/NAME."""
    from ostro.checkpoint.aliases import find_alias

    alias = find_alias(name)
    if alias is not None:
        return alias.repo
    return name if re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII) else None


def _gguf(name: str, path: Path) -> ModelFiles:
    from ostro.checkpoint.open import open_checkpoint

    checkpoint = open_checkpoint(path)
    files = tuple((file.name, file.stat().st_size) for file in checkpoint.files)
    return ModelFiles(name, path, "gguf", checkpoint.config, files, lambda: _tokenizer_at(path))


def _folder(name: str, folder: Path) -> ModelFiles:
    files = tuple((file.name, file.stat().st_size) for file in sorted(folder.iterdir()) if file.is_file())
    return ModelFiles(name, folder, _form(folder), _config_in(folder), files, lambda: _tokenizer_at(folder))


def _form(folder: Path) -> str:
    return "hf" if (folder / "config.json").is_file() else "native"


def _config_in(folder: Path) -> ModelConfig:
    """The configuration alone: weights are neither needed nor looked at, but for the vocabulary of Meta's files."""
    from ostro.checkpoint.text import read_json
    from ostro.config import from_hf, from_params

    config, generation, params = (folder / f"{n}.json" for n in ("config", "generation_config", "params"))
    if config.is_file():
        more = read_json(generation) if generation.is_file() else None
        return from_hf(read_json(config), source=str(config), generation=more)
    if not params.is_file():
        raise ModelNotFoundError(f"{folder} has neither config.json nor params.json, nor a GGUF file: it is no model.")
    try:
        return from_params(read_json(params), source=str(params))
    except ConfigError:
        from ostro.checkpoint.open import open_checkpoint

        return open_checkpoint(folder).config


def _from_hub(name: str, revision: str | None, offline: bool) -> ModelFiles:
    repo = _plain_repo(name)
    folder = None if repo is None else _snapshot(repo, revision, _CONFIG_FILES)
    if repo is None or (offline and folder is None):
        return _at(name, _resolve(name, revision, offline=True))
    if folder is None or not _has_config(folder):
        folder = _download(repo, revision, _CONFIG_FILES)
    version = bundled_version(repo)
    load = None if version is None else lambda: find_tokenizer(version).tokenizer
    return ModelFiles(name, None, "hub", _config_in(folder), (), load)
