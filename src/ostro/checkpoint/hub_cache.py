"""What of a hub repository lies in the cache, by the layout that `huggingface_hub` documents.

    models--OWNER--NAME/blobs/<etag>                    a file's content
    models--OWNER--NAME/blobs/<etag>.ostro-partial      the beginning of one: ours, see `hub_resume`
    models--OWNER--NAME/snapshots/<commit>/<file>       a link to the content

An etag is the sha256 of a large file, and git's name of a small one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["RemoteFile", "Snapshot", "missing_bytes", "remote_files", "remove_stale"]

LARGE = 8 << 20  # bytes; smaller files are soon fetched again
PARTIAL = ".ostro-partial"
_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the repository's listing has it. `etag` is its name in the cache, None where the listing lacks it."""

    name: str
    size: int
    etag: str | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A commit of a repository: where it comes from, and its folder `storage` in the cache (`models--OWNER--NAME`)."""

    repo: str
    commit: str
    storage: Path
    endpoint: str | None = None

    @property
    def blobs(self) -> Path:
        """The folder of the files' contents."""
        return self.storage / "blobs"

    def lock(self, etag: str) -> Path:
        """The file by whose lock programs agree on who fetches a blob."""
        return self.storage.parent / ".locks" / self.storage.name / f"{etag}.lock"

    def has(self, file: RemoteFile) -> bool:
        """Whether `file` is complete."""
        if (self.storage / "snapshots" / self.commit / file.name).exists():
            return True
        return file.etag is not None and (self.blobs / file.etag).exists()

    def bytes_here(self, file: RemoteFile) -> int:
        """How much of `file` need not be fetched."""
        if self.has(file):
            return file.size
        return min(file.size, size_of(self.blobs / (file.etag + PARTIAL))) if file.etag else 0


def remote_files(siblings: Iterable[Any] | None) -> dict[str, RemoteFile]:
    """The files of `HfApi.model_info(..., files_metadata=True).siblings`, by name."""
    files: dict[str, RemoteFile] = {}
    for sibling in siblings or ():
        etag = sibling.lfs.sha256 if sibling.lfs is not None else sibling.blob_id
        known = etag if etag and _ETAG.fullmatch(etag) else None
        files[sibling.rfilename] = RemoteFile(sibling.rfilename, sibling.size or 0, known)
    return files


def missing_bytes(snapshot: Snapshot, files: Iterable[RemoteFile]) -> int:
    """Bytes of `files` that must still be fetched."""
    return sum(file.size - snapshot.bytes_here(file) for file in files)


def remove_stale(snapshot: Snapshot, files: Iterable[RemoteFile]) -> None:
    """Delete partial files that nobody continues: the blob is there, or none of `files`, the whole commit, has it."""
    listed = list(files)
    complete = all(file.etag is not None for file in listed if file.size > LARGE)
    known = {file.etag for file in listed}
    for partial in snapshot.blobs.glob("*" + PARTIAL):
        etag = partial.name.removesuffix(PARTIAL)
        if (snapshot.blobs / etag).exists() or (complete and etag not in known):
            # Whoever holds the lock is at work on the file.
            with suppress(OSError), hub_utils().WeakFileLock(snapshot.lock(etag), timeout=0.1):
                partial.unlink(missing_ok=True)


def hub_utils() -> Any:
    """`huggingface_hub.utils`, whose public names come about too late for a type checker."""
    from huggingface_hub import utils

    return utils


def size_of(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
