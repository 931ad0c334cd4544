"""Files of training data as numbered values, read one at a time: a file of 10 GB takes an index and not its size.

JSON lines, a JSON array, Parquet (by way of a temporary file of JSON lines) and plain text.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ostro.errors import DataError, MissingExtraError

Ints: TypeAlias = npt.NDArray[np.int64]
SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet", ".txt", ".md", ".text")
"""What a folder is searched for."""
SEPARATOR = b"<|endoftext|>"
"""A line of it parts two documents of a plain text."""
PIECE_BYTES = 1 << 20
"""A longer document of plain text is read in pieces of about this size, cut between lines."""
MAX_ARRAY_BYTES = 2 << 30
_CHUNK = 16 << 20
_TEXT_SUFFIXES = (".txt", ".md", ".text")


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A document of plain text, or a piece of one that does not begin or end it."""

    text: str
    begins: bool = True
    ends: bool = True


class DataFile(Protocol):
    """Numbered values of a file. `value` gives what JSON holds (or a `TextPiece`); `where` says its place."""

    path: Path
    digest: str

    def __len__(self) -> int: ...

    def value(self, index: int) -> Any:
        """The value; DataError if it cannot be read."""

    def where(self, index: int) -> str:
        """ "train.jsonl, line 17"."""


def open_data_files(paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[DataFile]:
    """The files of some paths in order; of a folder those of `SUFFIXES`, by name. DataError where there is none."""
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not listed:
        raise DataError("No file of data is named: give at least one.")
    return [_open(path) for each in listed for path in _files_of(Path(each).expanduser())]


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(each for each in path.iterdir() if each.is_file() and each.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f"The folder {path} has no data: looked for files that end with {', '.join(SUFFIXES)}.")
    return found


def _open(path: Path) -> DataFile:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Check the path and its permissions.") from None
    if head[:2] == b"\x1f\x8b" or head[:4] in (b"\x28\xb5\x2f\xfd", b"PK\x03\x04"):
        raise DataError(f"{path} is compressed, and single records cannot be read from it: unpack it first.")
    if head[:4] == b"PAR1":
        return JsonLines(path, _unpacked_parquet(path), unit="row")
    if path.suffix.lower() in _TEXT_SUFFIXES:
        return PlainText(path)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] == b"[":
        return JsonArray(path)
    if start[:1] == b"{":
        return JsonLines(path)
    if not start:
        raise DataError(f"{path} is empty: give a file with at least one record.")
    raise DataError(
        f"{path} is neither JSON lines, nor a JSON array, nor Parquet, and its name does not end with "
        f"{', '.join(_TEXT_SUFFIXES)}, which would make it plain text. Rename or convert it."
    )


class _Bytes:
    """A file that stays open for reading at any place, from any thread."""

    def __init__(self, path: Path, file: IO[bytes] | None = None) -> None:
        self._path = path
        self._descriptor = os.dup(file.fileno()) if file else os.open(path, os.O_RDONLY)
        if file:
            file.close()
        weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, start: int, end: int) -> bytes:
        """Bytes start .. end-1. DataError if the file has been exchanged or written to since it was opened."""
        if os.fstat(self._descriptor).st_size != self.size:
            raise DataError(f"{self._path} was changed while it was in use: start again with files that stay as are.")
        return os.pread(self._descriptor, end - start, start)

    def chunks(self) -> Iterator[bytes]:
        """All of it from the start."""
        for start in range(0, self.size, _CHUNK):
            yield self.read(start, min(start + _CHUNK, self.size))


class JsonLines:
    """One JSON value a line; empty lines are passed over. `unit` is what a line is called ("row" for Parquet)."""

    def __init__(self, path: Path, file: IO[bytes] | None = None, *, unit: str = "line") -> None:
        self.path = path
        self._bytes = _Bytes(path, file)
        self._unit = unit
        self._starts, self._ends, self._numbers, self.digest = _index(self._bytes)

    def __len__(self) -> int:
        return len(self._starts)

    def where(self, index: int) -> str:
        """The line counts from 1, empty lines included."""
        return f"{self.path}, {self._unit} {self._numbers[index] + 1}"

    def value(self, index: int) -> Any:
        """The value of a line."""
        line = self._bytes.read(int(self._starts[index]), int(self._ends[index]))
        try:
            return json.loads(line.removeprefix(b"\xef\xbb\xbf"))
        except UnicodeDecodeError as error:
            raise DataError(f"{self.where(index)} is not UTF-8 ({error.reason}): save the file as UTF-8.") from None
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{self.where(index)} is no JSON ({error}): every line must hold one whole record, such as "
                '{"messages": [...]}.'
            ) from None


def _index(source: _Bytes) -> tuple[Ints, Ints, Ints, str]:
    """Begin, end and number (from 0) of every line that is not empty, and a digest of the whole."""
    digest, newlines, position = hashlib.blake2b(digest_size=16), [], 0
    for chunk in source.chunks():
        digest.update(chunk)
        newlines.append(np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + position)
        position += len(chunk)
    ends = np.concatenate([*newlines, np.array([position], np.int64)]).astype(np.int64)
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    full = ends > starts
    for number in np.flatnonzero(full & (ends - starts <= 16)):
        full[number] = bool(source.read(int(starts[number]), int(ends[number])).strip())
    return starts[full], ends[full], np.flatnonzero(full), digest.hexdigest()


class JsonArray:
    """A file with one JSON array of records; it is held in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        size = path.stat().st_size
        if size > MAX_ARRAY_BYTES:
            raise DataError(
                f"{path} is one JSON array of {size:,} bytes, which would have to be held in memory; the limit is "
                f"{MAX_ARRAY_BYTES:,}. Write it as JSON lines, one record a line."
            )
        content = path.read_bytes()
        self.digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        try:
            text = content.decode("utf-8-sig")
            values = json.loads(text)
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 ({error.reason}): save the file as UTF-8.") from None
        except RecursionError:
            raise DataError(f"{path} is nested too deeply to be read as JSON.") from None
        except ValueError as error:
            raise DataError(f"{path} is no JSON: {error}.") from None
        assert isinstance(values, list)
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def where(self, index: int) -> str:
        """The record counts from 1."""
        return f"{self.path}, record {index + 1}"

    def value(self, index: int) -> Any:
        """An element of the array."""
        return self._values[index]


class PlainText:
    """Documents of plain text: the whole file is one, unless lines of <|endoftext|> part it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes = _Bytes(path)
        self._pieces, self.digest = self._cut()

    def __len__(self) -> int:
        return len(self._pieces)

    def where(self, index: int) -> str:
        """The line that the piece begins with."""
        return f"{self.path}, line {self._pieces[index].line}"

    def value(self, index: int) -> TextPiece:
        """A document or a piece of one; the end of its last line is left out where the document ends."""
        piece = self._pieces[index]
        try:
            text = self._bytes.read(piece.start, piece.end).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{self.where(index)} is not UTF-8 ({error.reason}): save the file as UTF-8.") from None
        text = text.removeprefix("\ufeff").replace("\r\n", "\n")
        return TextPiece(text.removesuffix("\n") if piece.ends else text, piece.begins, piece.ends)

    def _cut(self) -> tuple[list[_Span], str]:
        """The pieces, and a digest of the whole."""
        digest = hashlib.blake2b(digest_size=16)
        pieces: list[_Span] = []
        start, position, begins, first, line = 0, 0, True, 1, 1
        for text in _lines(self.path):
            digest.update(text)
            end = position + len(text)
            if text.strip() == SEPARATOR:
                pieces.append(_Span(start, position, first, begins, True))
                start, begins, first = end, True, line + 1
            elif position > start and end - start > PIECE_BYTES:
                pieces.append(_Span(start, position, first, begins, False))
                start, begins, first = position, False, line
            position, line = end, line + text.endswith(b"\n")
        pieces.append(_Span(start, position, first, begins, True))
        return [piece for piece in pieces if not self._is_blank(piece)], digest.hexdigest()

    def _is_blank(self, piece: _Span) -> bool:
        whole = piece.begins and piece.ends
        return piece.start == piece.end or (whole and not self._bytes.read(piece.start, piece.end).strip())


@dataclass(frozen=True, slots=True)
class _Span:
    """Bytes start .. end-1 of a text, whose first line is `line` (from 1)."""

    start: int
    end: int
    line: int
    begins: bool
    ends: bool


def _lines(path: Path) -> Iterator[bytes]:
    """Lines with their ends; one of more than a piece is cut behind a space, or else between two characters."""
    with path.open("rb") as file:
        while line := file.readline(PIECE_BYTES):
            if not line.endswith(b"\n") and len(line) == PIECE_BYTES:
                space = line.rfind(b" ") + 1
                end = space if space > PIECE_BYTES // 2 else _character_boundary(line)
                file.seek(end - len(line), os.SEEK_CUR)
                line = line[:end]
            yield line


def _character_boundary(data: bytes) -> int:
    """Where the last character of UTF-8 begins."""
    end = len(data) - 1
    while end > len(data) - 4 and 0x80 <= data[end] < 0xC0:
        end -= 1
    return end


def _unpacked_parquet(path: Path) -> IO[bytes]:
    """The rows as JSON lines in a temporary file, which is deleted when it is closed.

    Parquet gives every struct all keys of the column, null where a row has none, so keys that are null are left out.
    """
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", f"Reading {path}") from None
    import pyarrow

    spool = tempfile.TemporaryFile(prefix="ostro-parquet-")  # noqa: SIM115 - the reader keeps it open
    try:
        with parquet.ParquetFile(path) as opened:
            for batch in opened.iter_batches(batch_size=1024):
                spool.writelines(_dumped(batch.to_pylist()))
    except (pyarrow.ArrowException, OSError) as error:
        spool.close()
        raise DataError(f"{path} cannot be read as Parquet: {error}.") from None
    spool.flush()
    return spool


def _dumped(rows: Iterable[Any]) -> Iterator[bytes]:
    for row in rows:
        yield json.dumps(_without_nulls(row), ensure_ascii=False, default=str).encode("utf-8", "surrogatepass") + b"\n"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
