"""From the name a user gives to a folder or GGUF file on this machine, fetched from the hub where it must be.

    resolve("./my-model")                                  # a folder, or a .gguf file
    resolve("mistral-7b-instruct")                         # an alias, see `aliases`
    resolve("ostro-mini")                                  # the model that comes with ostro, see `bundled`
    resolve("mistralai/Mistral-7B-Instruct-v0.3")          # a repository of the Hugging Face hub
    resolve("bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M") # one GGUF file of a repository

Files come into the cache of `huggingface_hub`, which other programs share. Nothing is fetched twice: a dropped
connection is resumed where it broke, and so is a large file that an earlier run left half-finished when it was
interrupted or killed (see `hub_resume`); smaller files are fetched by `huggingface_hub`, whole or not at all.
`HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE` have the meaning that its documentation gives them.
"""

from __future__ import annotations

import difflib
import glob
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostro.checkpoint import bundled
from ostro.checkpoint.aliases import aliases, find_alias
from ostro.checkpoint.hub_cache import Snapshot, missing_bytes, remote_files, remove_stale
from ostro.checkpoint.hub_errors import hub_error, is_network_error
from ostro.checkpoint.hub_files import missing_parts, select_files
from ostro.checkpoint.hub_resume import fetch_large
from ostro.errors import CheckpointError, ModelNotFoundError, OstroError, RequestError
from ostro.log import logger

__all__ = ["LocalModel", "PullReport", "list_local", "pull", "resolve", "select_files"]

_REPO = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json")
_TIMEOUT = 10.0  # seconds to wait for the hub's answer


@dataclass(frozen=True, slots=True)
class PullReport:
    """A model on this machine: its folder or GGUF file, and its files with their bytes in all."""

    name: str
    path: Path
    num_bytes: int
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A repository in the local cache. `gguf_files` is empty for a safetensors checkpoint."""

    repo: str
    revision: str
    path: Path
    num_bytes: int
    gguf_files: tuple[str, ...]


def resolve(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    offline: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Path:
    """The folder or GGUF file that `name` stands for; what is not on this machine yet is downloaded.

    `name` is a folder, a GGUF file, "ostro-mini" (the bundled model), an alias, OWNER/NAME of a hub repository, or one
    of the latter two with `:PART` to choose a GGUF file by a part of its name. `revision` is a branch, tag or commit
    hash of the repository (default: main). With `offline`, or when the hub cannot be reached, only the local cache is
    used. `cache_dir` is `huggingface_hub`'s folder by default. Only the files that `select_files` names are fetched.

    Raises `ModelNotFoundError`, whose text says what to do, and `RequestError` for a revision of a local path.
    """
    return _locate(name, revision, offline, cache_dir, progress).path


def pull(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    offline: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> PullReport:
    """As `resolve`, with a report of what lies there."""
    return _locate(name, revision, offline, cache_dir, progress)


def list_local(cache_dir: str | os.PathLike[str] | None = None) -> list[LocalModel]:
    """The cached models that ostro can read (safetensors or GGUF), sorted by name; an empty list without a cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir(_cache(cache_dir)).repos
    except CacheNotFound:
        return []
    found: list[LocalModel] = []
    for repo in repos:
        for revision in repo.revisions if repo.repo_type == "model" else ():
            names = _names(revision.snapshot_path)
            gguf = tuple(name for name in names if name.endswith(".gguf"))
            if gguf or any(name.endswith(".safetensors") for name in names):
                label = min(revision.refs, default=revision.commit_hash)
                found.append(LocalModel(repo.repo_id, label, revision.snapshot_path, revision.size_on_disk, gguf))
    return sorted(found, key=lambda model: (model.repo.lower(), model.revision))


def _locate(
    name: str | os.PathLike[str],
    revision: str | None,
    offline: bool,
    cache_dir: str | os.PathLike[str] | None,
    progress: bool,
) -> PullReport:
    local = _local(name)
    if local is not None:
        if revision is not None:
            raise RequestError(
                f"revision={revision!r} was given for {local}, which is on this machine and has none. Leave it out.",
                param="revision",
            )
        return _local_report(str(name), local)
    repo, gguf = _repository(str(name).strip())
    cache = _cache(cache_dir)
    if offline or _env_offline():
        return _cached(repo, gguf, revision, cache)
    try:
        return _download(repo, gguf, revision, cache, progress)
    except OstroError:
        raise
    except Exception as error:  # the client's own, and those of its HTTP library: none may reach the user
        if is_network_error(error):
            try:
                found = _cached(repo, gguf, revision, cache)
            except CheckpointError:
                raise hub_error(repo, revision, error) from error
            logger.warning("The hub cannot be reached; %s is taken from the local cache.", repo)
            return found
        raise hub_error(repo, revision, error) from error


def _local(name: str | os.PathLike[str]) -> Path | None:
    """The folder or file of that name, the bundled model too; None when it can only be an alias or a repository."""
    text = os.fspath(name)
    if not text:
        return None
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            return path
        if path.is_file():
            if path.suffix.lower() == ".gguf" or _is_gguf(path):
                return path
            raise ModelNotFoundError(
                f"{path} is a file, but no GGUF file. Of a safetensors checkpoint give the folder, "
                f"{str(path.absolute().parent)!r}, which holds the configuration too."
            )
    except (OSError, ValueError):  # too long for a path, for instance
        pass
    if text.strip().lower() == bundled.NAME:
        return bundled.require_bundled_model()
    if isinstance(name, Path) or looks_like_path(text):
        raise ModelNotFoundError(
            f"{text}: no such folder or file. Check the path; a model of the hub is written OWNER/NAME, and one of its "
            "GGUF files OWNER/NAME:PART."
        )
    return None


def looks_like_path(name: str) -> bool:
    """Whether a name can only be that of a folder or file, so that the hub need not be asked for it."""
    return name.startswith(("/", ".", "~", "\\")) or name.count("/") > 1 or (":" not in name and name.endswith(".gguf"))


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _repository(name: str) -> tuple[str, str | None]:
    """The hub repository that `name` stands for, and the part that chooses a GGUF file."""
    base, colon, part = name.partition(":")
    if colon and not part:
        raise ModelNotFoundError(
            f"{name!r}: nothing follows the colon. Write a part of a GGUF file's name, as :Q4_K_M."
        )
    alias = find_alias(base)
    if alias is None and _REPO.fullmatch(base) is None:
        known = sorted({bundled.NAME, *(alias.name for alias in aliases())})
        close = difflib.get_close_matches(base.lower(), known, n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(close)}? " if close else ""
        raise ModelNotFoundError(
            f"{name!r} is no folder, no .gguf file and no known alias. {hint}`ostro list` shows the aliases; a model "
            "of the hub is written OWNER/NAME."
        )
    return (alias.repo if alias else base), (part or None)


def _download(repo: str, gguf: str | None, revision: str | None, cache: Path, progress: bool) -> PullReport:
    """Fetch what is missing. Errors of the hub's client pass through, to be put into words by the caller."""
    from huggingface_hub import HfApi, snapshot_download

    endpoint = os.environ.get("HF_ENDPOINT") or None
    info = HfApi(endpoint=endpoint).model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT)
    listed = remote_files(info.siblings)
    files = _selected(repo, list(listed), gguf)
    gone = missing_parts(files)
    if gone:
        raise ModelNotFoundError(f"{repo}: the repository lacks {', '.join(gone)}. Choose another one.")
    wanted = [listed[name] for name in files]
    snapshot = Snapshot(repo, info.sha or "", _storage(cache, repo), endpoint)
    _check_space(repo, cache, missing_bytes(snapshot, wanted))
    fetch_large(snapshot, wanted, progress)
    folder = snapshot_download(
        repo,
        revision=revision,
        cache_dir=cache,
        endpoint=endpoint,
        allow_patterns=[glob.escape(name) for name in files],
        tqdm_class=None if progress else _silent_progress(),
    )
    remove_stale(snapshot, listed.values())
    return _report(repo, Path(folder), files)


def _cached(repo: str, gguf: str | None, revision: str | None, cache: Path) -> PullReport:
    """The model as the cache has it; what is missing is named."""
    remedy = f"Run `ostro pull {repo}{':' + gguf if gguf else ''}` once with a network."
    ref = _storage(cache, repo) / "refs" / (revision or "main")
    commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else (revision or "main")
    folder = _storage(cache, repo) / "snapshots" / commit
    if not folder.is_dir():
        wanted = f"revision {revision!r} of {repo}" if revision else repo
        raise ModelNotFoundError(
            f"{wanted} is not in the local cache ({cache}), and nothing may be downloaded. {remedy}"
        )
    files = _selected(repo, _names(folder), gguf, f" in the local cache ({cache}). {remedy}")
    missing = _missing(folder, files)
    if missing:
        raise ModelNotFoundError(f"{repo}: the local cache ({cache}) lacks {', '.join(missing)}. {remedy}")
    return _report(repo, folder, files)


def _missing(folder: Path, files: list[str]) -> list[str]:
    """What a cached checkpoint lacks, as far as its own files tell."""
    missing = missing_parts(files)
    if files[0].endswith(".gguf"):
        return missing
    for name in files:
        if name.endswith(".index.json"):
            try:
                shards = set(json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"].values())
            except (ValueError, KeyError, AttributeError, TypeError, OSError):
                raise CheckpointError(f"{folder / name}: no index of safetensors: download it again.") from None
            missing += [shard for shard in sorted(map(str, shards)) if not (folder / shard).is_file()]
    if not {"config.json", "params.json", "modules.json"} & set(files):
        missing.append("config.json")
    if not any(name.rpartition("/")[2].startswith(_TOKENIZERS) for name in files):
        missing.append("a tokenizer (" + ", ".join(_TOKENIZERS) + ")")
    return list(dict.fromkeys(missing))


def _selected(repo: str, names: list[str], gguf: str | None, where: str = "") -> list[str]:
    try:
        return select_files(names, gguf)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"{repo}: {str(error).removesuffix('.') + where if where else error}") from None


def _check_space(repo: str, cache: Path, needed: int) -> None:
    """Refuse a download of `needed` bytes that the disk cannot hold, before it begins."""
    disk = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(disk).free
    if needed > free:
        raise ModelNotFoundError(
            f"{repo}: {needed / 1e9:.1f} GB must be downloaded, but the disk of {cache} has {free / 1e9:.1f} GB free. "
            "Make room, or choose another cache folder with HF_HOME."
        )


def _report(name: str, folder: Path, files: list[str]) -> PullReport:
    ggufs = [file for file in files if file.endswith(".gguf")]
    path = folder / min(ggufs) if ggufs and len(ggufs) == len(files) else folder
    return PullReport(name, path, sum((folder / file).stat().st_size for file in files), tuple(files))


def _local_report(name: str, local: Path) -> PullReport:
    folder, files = (local, _names(local)) if local.is_dir() else (local.parent, [local.name])
    if local.is_file():
        files += [part for part in missing_parts(files) if (folder / part).is_file()]
    return PullReport(name, local, sum((folder / file).stat().st_size for file in files), tuple(files))


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _cache(cache_dir: str | os.PathLike[str] | None) -> Path:
    from huggingface_hub import constants

    return Path(cache_dir or constants.HF_HUB_CACHE).expanduser().resolve()


def _storage(cache: Path, repo: str) -> Path:
    return cache / ("models--" + repo.replace("/", "--"))


def _env_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _silent_progress() -> type[Any]:
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Silent(tqdm):
        """A bar that is never drawn."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

    return Silent
