"""What a conversion leaves in its folder while it runs, so that an ended one goes on where it stood."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ostro.checkpoint.hub_files import CONFIG_FILES, TOKENIZER_FILES
from ostro.checkpoint.packed_folder import MANIFEST, STATE, is_packed
from ostro.checkpoint.text import read_json, some
from ostro.errors import CheckpointError, RequestError

INDEX = "model.safetensors.index.json"
REPORT = "report.md"
PART = ".part"
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")

_OURS = (STATE, MANIFEST, INDEX, REPORT, *CONFIG_FILES, *TOKENIZER_FILES, *LICENCES)
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_CHUNK = 1 << 22


@dataclass(slots=True)
class Written:
    """A complete shard: its size, the checksum of its bytes, and the entries of its packed matrices."""

    nbytes: int
    blake2b: str
    tensors: dict[str, dict[str, Any]]


@dataclass(slots=True)
class State:
    """`request` tells one conversion from another: source, settings, version of ostro."""

    request: Mapping[str, Any]
    shards: dict[str, Written] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        shards = {
            name: {"bytes": shard.nbytes, "blake2b": shard.blake2b, "tensors": shard.tensors}
            for name, shard in self.shards.items()
        }
        write_json(folder / STATE, {"request": dict(self.request), "shards": shards})


def load_state(folder: Path) -> State | None:
    """The state of a conversion that ended early; None where there is none, or none that can be read."""
    try:
        data = read_json(folder / STATE)
        shards = {
            str(name): Written(int(shard["bytes"]), str(shard["blake2b"]), dict(shard["tensors"]))
            for name, shard in dict(data["shards"]).items()  # type: ignore[call-overload]
        }
        return State(dict(data["request"]), shards)  # type: ignore[call-overload]
    except (CheckpointError, KeyError, TypeError, ValueError, AttributeError):
        return None


def is_written(path: Path, written: Written | None) -> bool:
    """Whether a file is complete and as it was written, byte for byte."""
    if written is None or not path.is_file() or path.stat().st_size != written.nbytes:
        return False
    return checksum(path) == written.blake2b


def checksum(path: Path) -> str:
    """BLAKE2b of a file, 16 bytes of it in hexadecimal."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """A JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    part = path.with_name(path.name + PART)
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def fingerprint(files: Mapping[str, Path]) -> str:
    """Names, sizes and times of change of files: another one means that the source has changed."""
    found = sorted((name, path.stat().st_size, path.stat().st_mtime_ns) for name, path in files.items())
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:32]


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What the system refuses within becomes a RequestError that names the place."""
    try:
        yield
    except OSError as error:
        where, reason = error.filename or folder, error.strerror or error
        raise RequestError(f"{where}: {reason}. Give an output folder that can be written.", param="out") from error


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the folder against another conversion; where one is running, wait for it or raise RequestError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    except BlockingIOError:
        raise RequestError(
            f"Another process is writing the packed model in {folder}. Wait until it is done, or end it.", param="out"
        ) from None
    finally:
        os.close(descriptor)


def prepare(folder: Path) -> None:
    """Make the folder, or RequestError where it is a file or has content that is not of a conversion."""
    if folder.exists() and not folder.is_dir():
        raise RequestError(f"{folder} is a file: give a folder that is empty or does not exist.", param="out")
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(path.name for path in folder.iterdir())
    if names and STATE not in names and not is_packed(folder):
        raise RequestError(
            f"{folder} has other content ({some(names)}): give a folder that is empty or does not exist.", param="out"
        )


def clear(folder: Path) -> None:
    """Take away what conversions write, first what would make a half model of the rest, and nothing else."""
    (folder / "config.json").unlink(missing_ok=True)
    for path in folder.iterdir():
        name = path.name.removesuffix(PART)
        if path.is_file() and (_SHARD.fullmatch(name) or any(fnmatchcase(name, pattern) for pattern in _OURS)):
            path.unlink()


def require_space(folder: Path, nbytes: int) -> None:
    """RequestError where the disk has less than `nbytes` free."""
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise RequestError(
            f"{folder}: {nbytes / 1e9:.2f} GB are still to be written, and the disk has {free / 1e9:.2f} GB free. "
            "Make room, or give a folder on another disk.",
            param="out",
        )
