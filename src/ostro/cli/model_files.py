"""What can be known of a model without its weights: its configuration, its tokenizer, its files.

Of a model of the hub that is not on this machine only the configuration is fetched, a few kilobytes. The hub is asked
for the model's page first: that answers or fails at once, where a download would try again for half a minute. Where it
cannot be had, the numbers of a model with a short name are known all the same (`ostro.config.published`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ostro.errors import CheckpointError, ModelNotFoundError

if TYPE_CHECKING:
    from ostro.checkpoint.open import Checkpoint
    from ostro.config import ModelConfig, Quantization
    from ostro.tokenizer.base import Tokenizer

_TIMEOUT = 10.0  # seconds to wait for the hub's answer

BUNDLED = ("v1", "v2", "v3", "v3-tekken", "v7", "v7-tekken")
"""Tokenizers that mistral-common brings, by the version of their prompt format."""


@dataclass(frozen=True)
class ModelFiles:
    """A model as far as it can be seen. `path` is None for one of the hub of which only the configuration is here.

    `form` is that of its files: hf, native, gguf; "hub" for one that is not here, "published" for one whose numbers
    come from our own table, and `note` then says why. `files` are names and bytes; `load_tokenizer` is None where
    there is no tokenizer without a download.

    `num_stored` is how many numbers the files hold of each type; empty where there are no weights, and where `problem`
    says what is wrong with them. `quantization` of a packed model has bits, codebook and bits_per_weight.
    """

    name: str
    path: Path | None
    form: str
    config: ModelConfig
    files: tuple[tuple[str, int], ...]
    load_tokenizer: Callable[[], Tokenizer] | None
    note: str | None = None
    num_stored: Mapping[str, int] = field(default_factory=dict)
    problem: str | None = None
    quantization: Mapping[str, object] | None = None


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
    return None if alias is None else alias.tokenizer


def find_tokenizer(name: str, *, revision: str | None = None, offline: bool = False) -> NamedTokenizer:
    """The tokenizer of a bundled version, of a short name that has one, or of a model's files (fetched if need be)."""
    from ostro.tokenizer import load_tokenizer, mistral

    version = None if revision else bundled_version(name)
    if version is not None and not Path(name).exists():
        return NamedTokenizer(name, mistral.bundled(version), "mistral")
    path = _here(name, revision)
    if path is None:
        path = _fetch_tokenizer(name, revision, offline)
        if path.is_dir():  # the files of the tokenizer, whatever else the cache has of the repository
            return NamedTokenizer(name, load_tokenizer(path), _family_in(path))
    family = _at(name, path).config.family if _gguf_of(path) is not None else _family_in(path)
    return NamedTokenizer(name, _tokenizer_at(path), family)


def _family_in(folder: Path) -> str | None:
    """The family of a model's config; None where there is a tokenizer alone."""
    from ostro.checkpoint.open import read_config

    return read_config(folder).family if _has_config(folder) else None


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
    """The GGUF file that `path` is, or that is the model of a folder."""
    from ostro.checkpoint.open import find_gguf

    return path if path.is_file() else find_gguf(path)


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
    from ostro.checkpoint.hub_files import CONFIG_FILES, TOKENIZER_FILES

    repo = _plain_repo(name)
    if repo is None:
        return _resolve(name, revision, offline)  # one GGUF file is fetched whole
    wanted = CONFIG_FILES + TOKENIZER_FILES
    here = _snapshot(repo, revision, wanted)
    if here is not None and (any(here.glob("tokenizer.*")) or (here / "tekken.json").is_file()):
        return here
    return _resolve(name, revision, offline) if offline else _download(repo, revision, wanted)


def _resolve(name: str, revision: str | None, offline: bool) -> Path:
    """Of a name that cannot be had, this says what is wrong and what to do."""
    from ostro.checkpoint.hub import resolve

    return resolve(name, revision=revision, offline=offline)


def _snapshot(repo: str, revision: str | None, patterns: Sequence[str]) -> Path | None:
    """The folder where the cache has these files of a repository, or, as far as older versions know, some of them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    from ostro.checkpoint.hub_errors import hub_error

    try:
        return Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=list(patterns)))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise hub_error(repo, revision, error) from None


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
    from ostro.checkpoint.hub import looks_like_path

    alias = find_alias(name)
    if alias is not None:
        return alias.repo
    if looks_like_path(name):
        return None
    return name if re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII) else None


def _gguf(name: str, path: Path) -> ModelFiles:
    from ostro.checkpoint.gguf import GGUFFile
    from ostro.checkpoint.open import open_checkpoint

    checkpoint = open_checkpoint(path)
    files = tuple((file.name, file.stat().st_size) for file in checkpoint.files)
    num_stored = _numbers_by_type((info.kind, info.shape) for info in GGUFFile(path).tensor_infos.values())
    return ModelFiles(name, path, "gguf", checkpoint.config, files, lambda: _tokenizer_at(path), num_stored=num_stored)


def _folder(name: str, folder: Path) -> ModelFiles:
    from ostro.checkpoint.open import folder_form, read_config

    files = tuple((file.name, file.stat().st_size) for file in sorted(folder.iterdir()) if file.is_file())
    config, form = read_config(folder), folder_form(folder)
    num_stored: Mapping[str, int] = {}
    problem: str | None = None
    quantization: Mapping[str, object] | None = None
    try:
        num_stored, quantization = _stored_in(folder)
    except ModelNotFoundError:
        pass  # no weights at all, which is no fault: the numbers of a configuration are worth seeing too
    except CheckpointError as error:
        problem = str(error)
    return ModelFiles(
        name,
        folder,
        form,
        config,
        files,
        lambda: _tokenizer_at(folder),
        num_stored=num_stored,
        problem=problem,
        quantization=quantization,
    )


def _stored_in(folder: Path) -> tuple[Mapping[str, int], Mapping[str, object] | None]:
    """What the headers of the safetensors state, and how the weights are packed, if they are.

    The errors of `open_checkpoint` if they are not the model's.
    """
    from ostro.checkpoint.folder import read_weights
    from ostro.checkpoint.open import open_checkpoint

    checkpoint = open_checkpoint(folder)
    if checkpoint.quantization is not None:
        return _packed_in(checkpoint, checkpoint.quantization)
    holder = read_weights(folder).holder
    return _numbers_by_type((file.infos[name].dtype, file.infos[name].shape) for name, file in holder.items()), None


def _packed_in(checkpoint: Checkpoint, quantization: Quantization) -> tuple[Mapping[str, int], Mapping[str, object]]:
    import numpy as np

    from ostro.checkpoint.open import num_weights, stored_bytes

    tensors = checkpoint.tensors
    kinds = {name: str(t.dtype) if isinstance(t, np.ndarray) else t.kind for name, t in tensors.items()}
    found = {
        "bits": quantization.bits,
        "codebook": quantization.codebook,
        "bits_per_weight": round(8 * stored_bytes(checkpoint) / num_weights(checkpoint), 4),
    }
    return _numbers_by_type((kind, tensors.shapes[name]) for name, kind in kinds.items()), found


def _numbers_by_type(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> Mapping[str, int]:
    """The most frequent type first."""
    counts: Counter[str] = Counter()
    for kind, shape in tensors:
        counts[kind] += math.prod(shape)
    return dict(counts.most_common())


def _from_hub(name: str, revision: str | None, offline: bool) -> ModelFiles:
    repo = _plain_repo(name)
    if repo is None:
        return _at(name, _resolve(name, revision, offline=True))
    try:
        folder = _config_folder(repo, revision, offline)
    except ModelNotFoundError as error:
        if revision is None and (published := _published(name, error)) is not None:
            return published
        raise
    from ostro.checkpoint.open import read_config

    return ModelFiles(name, None, "hub", read_config(folder), (), _bundled_tokenizer(repo))


def _config_folder(repo: str, revision: str | None, offline: bool) -> Path:
    """Where the cache has the configuration of a repository; it is fetched if need be."""
    from ostro.checkpoint.hub_files import CONFIG_FILES

    folder = _snapshot(repo, revision, CONFIG_FILES)
    if folder is not None and _has_config(folder):
        return folder
    return _resolve(repo, revision, offline=True) if offline else _download(repo, revision, CONFIG_FILES)


def _published(name: str, error: ModelNotFoundError) -> ModelFiles | None:
    """The numbers of a model with a short name as they were published; None for other models."""
    from ostro.checkpoint.aliases import find_alias
    from ostro.config.published import PUBLISHED

    alias = find_alias(name)
    if alias is None:
        return None
    config = next(model for model in PUBLISHED if model.name == alias.published).config()
    note = f"from ostro's own table of published models, because the hub gave no config.json: {error}"
    return ModelFiles(name, None, "published", config, (), _bundled_tokenizer(alias.repo), note)


def _bundled_tokenizer(repo: str) -> Callable[[], Tokenizer] | None:
    version = bundled_version(repo)
    return None if version is None else lambda: find_tokenizer(version).tokenizer
