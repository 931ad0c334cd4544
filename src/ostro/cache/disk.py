"""`DiskCache`: blocks of K/V in files, so that a prefix need not be computed again after a restart.

One file holds one block: the tokens in it, which block it follows, its K/V as bytes, and a checksum over all of it. Its
name is a digest of every token from the beginning on (`ostro.cache.prefix.Node.digest`), below a folder that stands for
all else that the bytes depend on (`namespace`). Nothing is believed for its name: a block is given out if its checksum
holds and its tokens and its predecessor are those that were asked for. Any other file is deleted.

Files are written by a thread, beside the work: first under another name, then renamed, so that a process that is killed
leaves whole files. When they pass the bound, those that were used longest ago go, and of one text the last block first,
since no block is of use without those before it: a file's time of change is when it was last used, less a microsecond
for every block before it. Several caches, of one process or of several, may share a folder; each counts what the others
wrote every few seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import os
import queue
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ostro.cache.prefix import DIGEST_BYTES
from ostro.errors import RequestError
from ostro.log import logger

SUFFIX = ".kv"
_PART = ".part"
_MAGIC = b"OSTROKV1"
_CHECKSUM = 16
_HEAD = struct.Struct(f"<{len(_MAGIC)}s{_CHECKSUM}s")
_BODY = struct.Struct(f"<{DIGEST_BYTES}sQQ")  # the digest of the block before, bytes of the tokens, bytes of K/V

_PAGE = 4096  # what a file takes at least, and multiples of it
_MAX_QUEUED = 64 << 20  # bytes that may wait to be written
_RESCAN_SECONDS = 10.0
_SCAN_SHARE = 50  # times as long as it takes: a folder of many small files is looked through less often
_STALE_SECONDS = 600.0  # a part as old as that was left by a process that ended
_STEP = 1000  # nanoseconds by which a block counts as older than the one before it
_TOUCH_NANOSECONDS = 60 * 10**9  # a use so soon after another one is not written down
_POLL_SECONDS = 0.1
_CLOSE_SECONDS = 10.0


class DiskCache:
    """Blocks of `block_bytes` each, in `folder`, whose files may take `max_bytes` altogether.

    `namespace` names all that the bytes depend on beside the tokens: blocks of another one are never found.
    RequestError (param `prefix_cache_dir`) where the folder cannot be written.
    """

    def __init__(self, folder: Path, namespace: str, *, block_bytes: int, max_bytes: int) -> None:
        self._own = folder / namespace
        self._block_bytes = block_bytes
        try:
            self._own.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(self._own / f"probe-{os.getpid()}-{threading.get_ident()}{_PART}", "wb") as probe:
                Path(probe.name).unlink()
        except OSError as error:
            raise RequestError(
                f"prefix_cache_dir: {folder} cannot be written ({error.strerror or error}). Give a folder of your own.",
                param="prefix_cache_dir",
            ) from None
        self._writer = _Writer(folder, max_bytes)
        # Also when the process ends: what is queued then is a matter of milliseconds.
        self._finish = weakref.finalize(self, self._writer.close)

    def has(self, key: bytes) -> bool:
        """Whether there is a file for the block; `read` tells what it is worth."""
        return self._path(key).exists()

    def read(self, key: bytes, parent: bytes, tokens: bytes) -> memoryview | None:
        """The bytes of the block of these tokens behind the block `parent`; None where it is not there.

        A file that is damaged, or not what its name says, is deleted.
        """
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.warning("%s cannot be read (%s); its tokens are computed again.", path, error)
            return None
        found = _parsed(data, parent, tokens, self._block_bytes)
        if found is None:
            logger.warning("%s is damaged: it is deleted, and its tokens are computed again.", path)
            _remove(path)
        return found

    def put(
        self, key: bytes, parent: bytes, tokens: bytes, data: bytes | memoryview, *, is_first: bool = False
    ) -> bool:
        """Have a block written; False where too much is waiting to be written already, or nothing is written.

        `parent` is the block before or, where it `is_first`, the root. What follows a block that is not there is of no
        use and left out.
        """
        behind = None if is_first else self._path(parent)
        return self._writer.put(self._path(key), behind, partial(_packed, parent, tokens, data), len(data))

    @property
    def has_room(self) -> bool:
        """Whether `put` would take a block."""
        return self._writer.has_room

    @property
    def is_writable(self) -> bool:
        """Whether blocks are still written: not after the disk refused one."""
        return self._writer.is_writable

    def touch(self, keys: Iterable[bytes]) -> None:
        """These blocks, each behind the one before, were used."""
        self._writer.touch([self._path(key) for key in keys])

    def clear(self) -> None:
        """Delete every block of the namespace."""
        self.flush()
        for path in self._own.rglob(f"*{SUFFIX}"):
            _remove(path)
        self._writer.rescan()

    def flush(self) -> None:
        """Wait until everything that was put is written."""
        self._writer.flush()

    def close(self) -> None:
        """Write what was put, and end the thread."""
        self._finish()

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self._own / name[:2] / f"{name}{SUFFIX}"


class _Writer:
    """The thread that writes, and its account of the folder: the size of every file, and the rank by which it goes."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._num_queued = 0
        self._files: dict[Path, _File] = {}
        self._by_rank: list[tuple[int, Path]] = []  # a heap; what `_files` does not confirm is out of date
        self._total = 0
        self._scanned = self._scan_seconds = 0.0
        self.is_writable = True
        self._thread = threading.Thread(target=self._run, name="ostro-prefix-cache", daemon=True)
        self._thread.start()
        self.rescan()

    @property
    def has_room(self) -> bool:
        return self._num_queued < _MAX_QUEUED or not self.is_writable

    def put(self, path: Path, parent: Path | None, pack: Callable[[], bytes], num_bytes: int) -> bool:
        """Have a file written with what `pack` returns; the checksum is made in the thread, too."""
        if not self.has_room or not self.is_writable:
            return False
        with self._lock:
            self._num_queued += num_bytes
        self._jobs.put(partial(self._write, path, parent, pack, num_bytes))
        return True

    def touch(self, paths: list[Path]) -> None:
        self._jobs.put(partial(self._touch, paths))

    def rescan(self) -> None:
        self._jobs.put(self._scan)

    def flush(self) -> None:
        done = threading.Event()
        self._jobs.put(done.set)
        while self._thread.is_alive() and not done.wait(_POLL_SECONDS):
            pass

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join(_CLOSE_SECONDS)
        self.is_writable = False

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # most likely the disk is full or gone
                if self.is_writable:
                    self.is_writable = False
                    logger.warning("The prefix cache in %s is not written any more: %s", self._folder, error)

    def _write(self, path: Path, parent: Path | None, pack: Callable[[], bytes], num_bytes: int) -> None:
        try:
            rank = time.time_ns() if parent is None else self._rank_behind(parent)
            if self.is_writable and rank is not None and not path.exists():
                content = pack()
                self._make(path, content, rank)
                self._note(path, len(content), rank)
                if time.monotonic() - self._scanned > max(_RESCAN_SECONDS, _SCAN_SHARE * self._scan_seconds):
                    self._scan()
                self._evict()
        finally:
            with self._lock:
                self._num_queued -= num_bytes

    def _rank_behind(self, parent: Path) -> int | None:
        """The rank of a block behind this one; None where that is gone."""
        try:
            rank = parent.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        known = self._files.get(parent)  # another process may have written it
        return (rank if known is None else known.rank) - _STEP

    def _make(self, path: Path, content: bytes, rank: int) -> None:
        part = path.with_name(f"{path.stem}-{os.getpid()}-{threading.get_ident()}{_PART}")
        path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", buffering=0) as file:
                file.write(content)
            os.utime(part, ns=(rank, rank))
            part.rename(path)
        except OSError:
            _remove(part)
            raise

    def _note(self, path: Path, num_bytes: int, rank: int) -> None:
        self._forget(path)
        self._files[path] = _File(-(-num_bytes // _PAGE) * _PAGE, rank, rank)
        self._total += self._files[path].num_bytes
        heapq.heappush(self._by_rank, (rank, path))

    def _forget(self, path: Path) -> None:
        file = self._files.pop(path, None)
        self._total -= file.num_bytes if file else 0

    def _evict(self) -> None:
        while self._total > self._max_bytes and self._by_rank:
            rank, path = heapq.heappop(self._by_rank)
            if path in self._files and self._files[path].rank == rank:
                self._forget(path)
                _remove(path)

    def _touch(self, paths: list[Path]) -> None:
        now = time.time_ns()
        for count, path in enumerate(paths):
            file = self._files.get(path)
            if file is not None:
                file.rank = now - count * _STEP
                heapq.heappush(self._by_rank, (file.rank, path))
                if file.rank - file.written_rank > _TOUCH_NANOSECONDS:
                    file.written_rank = file.rank
                    with contextlib.suppress(OSError):
                        os.utime(path, ns=(file.rank, file.rank))
        if len(self._by_rank) > 2 * len(self._files) + 1000:
            self._sort()

    def _sort(self) -> None:
        self._by_rank = [(file.rank, path) for path, file in self._files.items()]
        heapq.heapify(self._by_rank)

    def _scan(self) -> None:
        """Count what is there, and take away what processes that ended left unfinished."""
        began = time.monotonic()
        known, self._files, self._total = self._files, {}, 0
        for path in self._folder.rglob("*"):
            if path.suffix in (SUFFIX, _PART):
                with contextlib.suppress(OSError):
                    status = path.stat()
                    if path.suffix == SUFFIX:
                        used = max(status.st_mtime_ns, known[path].rank if path in known else 0)
                        self._note(path, status.st_size, used)
                    elif time.time() - status.st_mtime > _STALE_SECONDS:
                        _remove(path)
        self._sort()
        self._scanned = time.monotonic()
        self._scan_seconds = self._scanned - began
        self._evict()


@dataclass(slots=True)
class _File:
    """What a file takes, when it was used, and when its time of change says that it was."""

    num_bytes: int
    rank: int
    written_rank: int


def _packed(parent: bytes, tokens: bytes, data: bytes | memoryview) -> bytes:
    body = b"".join((_BODY.pack(parent, len(tokens), len(data)), tokens, data))
    return _HEAD.pack(_MAGIC, _checksum(body)) + body


def _parsed(file: bytes, parent: bytes, tokens: bytes, block_bytes: int) -> memoryview | None:
    """The K/V of a file that is whole, and of these tokens behind that block; else None."""
    start = _HEAD.size + _BODY.size + len(tokens)
    if len(file) != start + block_bytes:
        return None
    magic, checksum = _HEAD.unpack_from(file)
    body = memoryview(file)[_HEAD.size :]
    if magic != _MAGIC or checksum != _checksum(body):
        return None
    if _BODY.unpack_from(body) != (parent, len(tokens), block_bytes) or body[_BODY.size :][: len(tokens)] != tokens:
        return None
    return memoryview(file)[start:]


def _checksum(body: bytes | memoryview) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM).digest()


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
