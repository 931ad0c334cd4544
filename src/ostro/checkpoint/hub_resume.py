"""Large files of a hub repository, fetched so that an ended process loses next to nothing.

`huggingface_hub` writes to a temporary file of its own and deletes it when it fails, so an interrupted shard of 5 GB
starts again. Here a large file grows in the same cache as `blobs/<etag>.ostro-partial`, which a later run continues by
an HTTP Range request. Complete and checked against its sha256, it takes the name `blobs/<etag>`, which
`huggingface_hub.snapshot_download` then finds and only links. The lock is the one that `huggingface_hub` itself takes
for that blob, so other programs wait for the file instead of fetching it too.

Left to `huggingface_hub` are small files, files whose etag is no sha256 (they could not be checked), files beyond
50 GB (Xet alone serves them), and everything where the cache has no symlinks.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit

from ostro.checkpoint.hub_cache import LARGE, PARTIAL, RemoteFile, Snapshot, hub_utils, size_of
from ostro.checkpoint.hub_errors import is_network_error
from ostro.errors import CheckpointError
from ostro.log import logger

__all__ = ["fetch_large"]

_CHUNK = 1 << 20  # bytes; at most this much of what was received is lost
_WORKERS = 4
_RETRIES = 5  # attempts in a row that bring nothing new
_WAIT = 1.0  # seconds between two attempts, and between two looks whether to stop
_GRACE = 1.0  # seconds that the workers have to end after an error or an interrupt
_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch_large(snapshot: Snapshot, files: Iterable[RemoteFile], progress: bool = True) -> None:
    """Bring the large ones of `files` into the cache, each continued where an earlier run left it.

    Raises `CheckpointError` for a file that arrives damaged, and the errors of `huggingface_hub` and of its HTTP
    library. After any error, and after an interrupt, what was received is kept.
    """
    wanted = [file for file in files if file.size > LARGE and not snapshot.has(file)]
    if not wanted or not snapshot.commit or not _links_work(snapshot.storage.parent):
        return
    snapshot.blobs.mkdir(parents=True, exist_ok=True)
    with _bar(snapshot, wanted, progress) as bar:
        shared = _Shared(snapshot, bar)
        _run([_Download(shared, file) for file in wanted], shared.stop)


class _StoppedError(Exception):
    """Another worker failed, or the user interrupted."""


class _Shared:
    """What the downloads of one call have in common."""

    def __init__(self, snapshot: Snapshot, bar: Any) -> None:
        self.snapshot = snapshot
        self.stop = threading.Event()
        self._bar = bar
        self._bar_lock = threading.Lock()

    def advance(self, num_bytes: int) -> None:
        """Move the bar, back where `num_bytes` is negative."""
        with self._bar_lock:
            self._bar.update(num_bytes)

    def note(self, text: str) -> None:
        """Show `text` behind the bar."""
        with self._bar_lock:
            self._bar.set_postfix_str(text)

    def check(self) -> None:
        """Raise where the download shall end."""
        if self.stop.is_set():
            raise _StoppedError


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a file is to be had, and under which headers."""

    url: str
    headers: dict[str, str]
    etag: str
    size: int


class _Download:
    """One large file."""

    def __init__(self, shared: _Shared, file: RemoteFile) -> None:
        self._shared = shared
        self._snapshot = shared.snapshot
        self._file = file
        self._have = self._most = shared.snapshot.bytes_here(file)

    def run(self) -> None:
        """Fetch the file; again after a dropped connection, while new bytes arrive, and a few times when none do."""
        idle = 0
        while True:
            self._shared.check()
            before = self._most
            try:
                return self._attempt()
            except Exception as error:
                self._shared.check()
                grown = self._most > before
                idle = 0 if grown else idle + 1
                if idle > _RETRIES or not is_network_error(error):
                    raise
                logger.warning("%s: the connection broke (%s); trying again.", self._file.name, type(error).__name__)
            self._shared.stop.wait(_WAIT)

    def _attempt(self) -> None:
        source = _locate(self._snapshot, self._file.name)  # anew for each attempt: the hub's links expire
        if source is None:
            return
        blob = self._snapshot.blobs / source.etag
        partial = blob.with_name(blob.name + PARTIAL)
        with self._lock(source.etag):
            if not blob.exists():
                self._receive(source, partial)
                self._verify(source, partial)
                os.replace(partial, blob)
        self._show(self._file.size)

    def _receive(self, source: _Source, partial: Path) -> None:
        """Append what `partial` lacks."""
        from huggingface_hub import constants

        with partial.open("ab") as file:
            start = file.tell()
            self._show(start)
            if start >= source.size:
                return
            headers = source.headers | ({"Range": f"bytes={start}-"} if start else {})
            with hub_utils().http_stream_backoff(
                "GET",
                source.url,
                headers=headers,
                timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
                retry_on_exceptions=(),
                retry_on_status_codes=(408, 429),
            ) as response:
                if start and response.status_code in (200, 416):  # Range is not understood, or not satisfiable
                    self._show(file.truncate(0))
                hub_utils().hf_raise_for_status(response)
                for chunk in response.iter_bytes(chunk_size=_CHUNK):
                    self._shared.check()
                    file.write(chunk)
                    self._show(self._have + len(chunk))

    def _verify(self, source: _Source, partial: Path) -> None:
        """Make sure that `partial` is the whole file, and on the disk; delete it where it cannot become that."""
        size = size_of(partial)
        if size < source.size:
            raise ConnectionError(f"the answer ended after {size} of {source.size} bytes")
        found = f"its size is {size}, not {source.size}"
        if size == source.size:
            self._shared.note(f"checking {self._file.name}")
            with partial.open("r+b") as file:
                os.fsync(file.fileno())  # before the name says that it is complete
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._shared.note("")
            if digest == source.etag:
                return
            found = f"its sha256 is {digest}, not {source.etag}"
        partial.unlink()
        raise CheckpointError(
            f"{self._snapshot.repo}: {self._file.name} arrived damaged: {found}. It was deleted; run the command again "
            "to fetch it anew. If that does not help, look to the disk and to proxies between you and the hub."
        )

    def _show(self, size: int) -> None:
        self._shared.advance(size - self._have)
        self._have = size
        self._most = max(self._most, size)

    @contextmanager
    def _lock(self, etag: str) -> Iterator[None]:
        path = self._snapshot.lock(etag)
        path.parent.mkdir(parents=True, exist_ok=True)
        told = False
        with ExitStack() as stack:
            while True:
                self._shared.check()
                try:
                    stack.enter_context(hub_utils().WeakFileLock(path, timeout=_WAIT))
                    break
                except TimeoutError:
                    if not told:
                        logger.warning("%s is being fetched already; waiting for that (%s).", self._file.name, path)
                    told = True
            yield


def _locate(snapshot: Snapshot, name: str) -> _Source | None:
    """Ask the hub for the file; None where it is to be left to `huggingface_hub`."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(snapshot.repo, name, revision=snapshot.commit, endpoint=snapshot.endpoint)
    found = get_hf_file_metadata(url, endpoint=snapshot.endpoint)
    if found.commit_hash is None or found.size is None or found.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
        return None
    if found.etag is None or not _SHA256.fullmatch(found.etag):
        return None
    headers = {**hub_utils().build_hf_headers(), "Accept-Encoding": "identity"}  # a range counts bytes of the file
    if found.xet_file_data is not None:
        # The hub redirects to where Xet files can be had by HTTP; the client then drops the token.
        return None if _in_shared_store(snapshot, name) else _Source(url, headers, found.etag, found.size)
    hub = {_origin(url), _origin(constants.ENDPOINT), _origin("https://huggingface.co")}
    if _origin(found.location) not in hub:  # such a link is its own permission; the token must not leave the hub
        headers = {key: value for key, value in headers.items() if key.lower() != "authorization"}
    return _Source(found.location, headers, found.etag, found.size)


def _in_shared_store(snapshot: Snapshot, name: str) -> bool:
    """Whether `huggingface_hub` has the file from another repository: it keeps Xet files of all in one store."""
    from huggingface_hub import hf_hub_download

    cache = snapshot.storage.parent
    if not (cache / "blobs").is_dir():
        return False
    return hf_hub_download(
        snapshot.repo, name, revision=snapshot.commit, cache_dir=cache, endpoint=snapshot.endpoint, dry_run=True
    ).is_cached


def _run(downloads: Sequence[_Download], stop: threading.Event) -> None:
    """Run `downloads` side by side; the first error ends all.

    The threads are daemons, so that neither an error nor an interrupt need wait for a server that is silent.
    """
    pending = iter(downloads)
    ended: SimpleQueue[BaseException | None] = SimpleQueue()

    def work() -> None:
        try:
            while (download := next(pending, None)) is not None:
                download.run()
        except BaseException as error:
            ended.put(error)
        else:
            ended.put(None)

    threads = [threading.Thread(target=work, daemon=True, name="ostro-pull") for _ in downloads[:_WORKERS]]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            error = ended.get()
            if error is not None:
                raise error
    finally:
        stop.set()
        deadline = time.monotonic() + _GRACE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _bar(snapshot: Snapshot, files: Sequence[RemoteFile], progress: bool) -> Any:
    """One bar for all files, drawn where `huggingface_hub` would draw its own."""
    from huggingface_hub.utils import logging
    from huggingface_hub.utils.tqdm import is_tqdm_disabled, tqdm

    return tqdm(  # type: ignore[no-untyped-call]
        total=sum(file.size for file in files),
        initial=sum(snapshot.bytes_here(file) for file in files),
        desc=Path(files[0].name).name if len(files) == 1 else f"Downloading {len(files)} large files",
        unit="B",
        unit_scale=True,
        disable=is_tqdm_disabled(logging.get_verbosity()) if progress else True,
        name="huggingface_hub.http_get",
    )


def _links_work(cache: Path) -> bool:
    from huggingface_hub.file_download import are_symlinks_supported

    return are_symlinks_supported(cache)


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
