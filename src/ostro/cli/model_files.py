"""What can be known of a model without its weights: its configuration, its tokenizer, its files.

Of a model of the hub that is not on this machine only the configuration is fetched, a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ostro.errors import ConfigError, ModelNotFoundError

if TYPE_CHECKING:
    from ostro.config import ModelConfig
    from ostro.tokenizer.base import Tokenizer

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


def bundled_version(name: str) -> str | None:
    """The bundled tokenizer that a version, a short name or a repository stands for, or None."""
    from ostro.checkpoint.aliases import find_alias

    if name in BUNDLED:
        return name
    alias = find_alias(name)
    return None if alias is None else _BUNDLED_OF.get(alias.repo)


def find_tokenizer(name: str, *, revision: str | None = None, offline: bool = False) -> Tokenizer:
    """The tokenizer of a bundled version, of a short name that has one, or of a model's files (fetched if need be)."""
    from ostro.tokenizer import mistral

    version = None if revision else bundled_version(name)
    if version is not None and not Path(name).exists():
        return mistral.bundled(version)
    path = Path(name).expanduser()
    if not path.exists():
        from ostro.checkpoint.hub import resolve

        path = resolve(name, revision=revision, offline=offline)
    return _tokenizer_at(path)


def look_at(name: str, *, revision: str | None = None, offline: bool = False) -> ModelFiles:
    """What there is of a model: of a folder or GGUF file all of it, of the hub's what the cache has or its config."""
    path = Path(name).expanduser()
    if path.is_dir():
        return _folder(name, path)
    if path.exists() and path.suffix == ".gguf":
        return _gguf(name, path)
    from ostro.checkpoint.hub import resolve

    try:
        path = resolve(name, revision=revision, offline=True)
    except ModelNotFoundError:
        return _from_hub(name, revision, offline)
    return _folder(name, path) if path.is_dir() else _gguf(name, path)


def _tokenizer_at(path: Path) -> Tokenizer:
    from ostro.tokenizer import load_tokenizer

    if path.suffix != ".gguf":
        return load_tokenizer(path)
    from ostro.checkpoint.gguf import GGUFFile

    return load_tokenizer(gguf_metadata=GGUFFile(path).metadata, source=str(path))


def _gguf(name: str, path: Path) -> ModelFiles:
    from ostro.checkpoint.open import open_checkpoint

    checkpoint = open_checkpoint(path)
    files = tuple((file.name, file.stat().st_size) for file in checkpoint.files)
    return ModelFiles(name, path, "gguf", checkpoint.config, files, lambda: _tokenizer_at(path))


def _folder(name: str, folder: Path) -> ModelFiles:
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs and not any((folder / config).is_file() for config in ("config.json", "params.json")):
        return _gguf(name, folder)
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
    from ostro.checkpoint.aliases import find_alias
    from ostro.checkpoint.hub import resolve

    alias = find_alias(name)
    repo = alias.repo if alias else name
    if offline or Path(name).suffix == ".gguf" or ":" in repo or repo.count("/") != 1:
        resolve(name, revision=revision, offline=True)  # says what is wrong, and what to do
    config = _fetch_config(repo, revision)
    version = bundled_version(repo)
    load = None if version is None else lambda: find_tokenizer(version)
    return ModelFiles(name, None, "hub", config, (), load)


def _fetch_config(repo: str, revision: str | None) -> ModelConfig:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    from ostro.checkpoint.hub_errors import hub_error
    from ostro.checkpoint.text import read_json
    from ostro.config import from_hf, from_params

    try:
        try:
            path = Path(hf_hub_download(repo, "config.json", revision=revision))
        except EntryNotFoundError:
            path = Path(hf_hub_download(repo, "params.json", revision=revision))
            return from_params(read_json(path), source=f"params.json of {repo}")
    except EntryNotFoundError:
        raise ModelNotFoundError(
            f"{repo} has neither config.json nor params.json. For a GGUF file write {repo}:PART and pull it first."
        ) from None
    except Exception as error:
        raise hub_error(repo, revision, error) from error
    return from_hf(read_json(path), source=f"config.json of {repo}")
