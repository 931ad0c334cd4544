"""The index of vectors: faiss, beside the store that it is made from.

Its file is written under another name and then renamed, so there is a whole one or none; one that is missing, damaged
or of another past than the store is made again from the store's vectors. Deleted texts stay in it until they are many,
and a search drops them.

Shapes: N vectors, D dimensions, Q questions, K results.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from ostro.errors import MissingExtraError
from ostro.rag.store import Float32, Int64, Store

Kind: TypeAlias = Literal["flat", "hnsw", "ivfpq"]

_MAGIC = b"OSTROVEC"
_SIZES = struct.Struct("<II")
"""A check sum of all that follows, and the length of the header in JSON."""
_CANDIDATES = 10
"""Approximate kinds find so many times more than asked for; exact vectors from the store put them in order."""
_QUESTIONS, _RANKS = 100, 10
_NEIGHBOURS, _BUILD_BREADTH = 32, 80
_MOST_DEAD = 0.25


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Up to how many vectors an index is flat (exact), and up to how many it is HNSW; beyond, it is IVF-PQ.

    An approximate index is tuned until it finds `min_recall` of what an exact search has among its first ten.
    """

    max_flat: int = 20_000
    max_hnsw: int = 500_000
    min_recall: float = 0.95

    def kind(self, count: int) -> Kind:
        """What an index of so many vectors is."""
        return "flat" if count <= self.max_flat else "hnsw" if count <= self.max_hnsw else "ivfpq"


@dataclass(frozen=True, slots=True)
class Description:
    """What an index is. `breadth` is HNSW's efSearch or IVF's nprobe; `recall` was measured when it was built.

    `max_id` and `max_hash` name the newest text in it, `state` is the store's when the two were the same.
    """

    kind: Kind
    dimensions: int
    count: int = 0
    max_id: int = 0
    max_hash: str = ""
    state: str = ""
    breadth: int = 0
    recall: float = 1.0


class VectorIndex:
    """The index of a store's vectors in the file `path`, as new as the store after `refresh`."""

    def __init__(self, path: Path, store: Store, dimensions: int, settings: IndexSettings | None = None) -> None:
        self._path, self._store, self._settings = path, store, settings or IndexSettings()
        self._faiss = _import_faiss()
        self._empty = Description("flat", dimensions)
        found = _read(path, self._faiss, dimensions)
        self._index: Any = found[0] if found else None
        self.description = found[1] if found else self._empty
        self._is_saved = found is not None

    def refresh(self) -> None:
        """Take over what was added to the store since; from the beginning where the two do not fit together."""
        known = self.description
        is_known = self._index is not None and known.state == self._store.state()
        if is_known and self._settings.kind(known.count) == known.kind:
            return
        with self._store.reading():
            live = self._store.counts()[2]
            fits = self._index is not None and self._store.hash_of(known.max_id) == known.max_hash
            if fits:
                self._extend()
            total = self.description.count
            if not fits or self._settings.kind(live) != known.kind or total - live > _MOST_DEAD * total:
                self._build()
            self.description = replace(self.description, state=self._store.state())
        self._is_saved = False

    def save(self) -> None:
        """Write the file, if it is not as new as this."""
        if self._is_saved or self._index is None:
            return
        payload = self._faiss.serialize_index(self._index).tobytes()
        header = json.dumps({**asdict(self.description), "length": len(payload)}).encode()
        check = zlib.crc32(payload, zlib.crc32(header))
        part = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}.part")
        try:
            with part.open("xb") as file:
                file.write(_MAGIC + _SIZES.pack(check, len(header)) + header)
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, self._path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._is_saved = True

    def search(self, question: Float32, count: int) -> list[tuple[int, float]]:
        """Ids of the nearest texts to a vector (D,) with their dot products, the best first."""
        if self._index is None or not self.description.count:
            return []
        wanted = count if self.description.kind == "flat" else count * _CANDIDATES
        while True:
            _, ids = self._index.search(question[None], min(self.description.count, wanted))
            found = self._store.vectors_of([int(each) for each in ids[0] if each >= 0])
            # Deleted texts may have taken the places of others.
            if len(found) >= count or wanted >= self.description.count:
                break
            wanted *= 4
        # Dot products of the stored vectors, whatever the index made of them: the same number from every kind.
        scores = {key: float(question @ vector) for key, vector in found.items()}
        return sorted(scores.items(), key=lambda entry: (-entry[1], entry[0]))[:count]

    def _extend(self) -> None:
        for ids, vectors in self._store.vectors_after(self.description.max_id, self.description.dimensions):
            self._index.add_with_ids(vectors, ids)
            self._note(ids)

    def _build(self) -> None:
        dimensions = self._empty.dimensions
        parts = list(self._store.vectors_after(0, dimensions))
        ids: Int64 = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, np.int64)
        vectors: Float32 = np.concatenate([part[1] for part in parts]) if parts else np.empty((0, dimensions), "f4")
        kind = self._settings.kind(len(ids))
        self._index = _made(self._faiss, kind, vectors, dimensions)
        self.description = replace(self._empty, kind=kind)
        if len(ids):
            self._index.add_with_ids(vectors, ids)
            self._note(ids)
        if kind != "flat":
            breadth, recall = self._tuned(ids, vectors)
            self.description = replace(self.description, breadth=breadth, recall=recall)

    def _note(self, ids: Int64) -> None:
        newest = int(ids[-1])
        self.description = replace(
            self.description,
            count=self.description.count + len(ids),
            max_id=newest,
            max_hash=self._store.hash_of(newest) or "",
        )

    def _tuned(self, ids: Int64, vectors: Float32) -> tuple[int, float]:
        """The smallest breadth that reaches the recall, or the largest one, and the recall that it has."""
        questions, expected = _exact(ids, vectors)
        breadths = (32, 64, 128, 256, 512, 1024) if self.description.kind == "hnsw" else (8, 16, 32, 64, 128, 256, 512)
        recall, breadth = 0.0, breadths[0]
        place = {int(key): index for index, key in enumerate(ids)}
        for breadth in breadths:
            _set_breadth(self._faiss, self._index, breadth)
            _, found = self._index.search(questions, _RANKS * _CANDIDATES)
            recall = _recall(questions, vectors, place, found, expected)
            if recall >= self._settings.min_recall:
                break
        return breadth, recall


def _made(faiss: Any, kind: Kind, vectors: Float32, dimensions: int) -> Any:
    """An empty index that takes ids; IVF-PQ is trained on (a part of) the vectors."""
    if kind == "flat":
        return faiss.IndexIDMap2(faiss.IndexFlatIP(dimensions))
    if kind == "hnsw":
        graph = faiss.IndexHNSWFlat(dimensions, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = _BUILD_BREADTH
        return faiss.IndexIDMap2(graph)
    lists = max(4, int(4 * len(vectors) ** 0.5))
    pieces = next(count for count in (64, 48, 32, 24, 16, 8, 4, 2, 1) if dimensions % count == 0)
    bits = 8 if len(vectors) >= 256 * 39 else 4  # faiss wants 39 examples of each of the 2**bits codes
    index = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(dimensions), dimensions, min(lists, max(1, len(vectors) // 39)), pieces, bits,
        faiss.METRIC_INNER_PRODUCT,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    sample = vectors if len(vectors) <= 200_000 else vectors[rng.choice(len(vectors), 200_000, replace=False)]
    index.train(np.ascontiguousarray(sample))
    return index


def _exact(ids: Int64, vectors: Float32) -> tuple[Float32, list[set[int]]]:
    """Questions (Q, D), which are stored vectors moved a little, and the ids of the texts nearest to each."""
    rng = np.random.default_rng(0)
    chosen = vectors[rng.choice(len(vectors), min(_QUESTIONS, len(vectors)), replace=False)]
    noise = rng.standard_normal(chosen.shape).astype(np.float32)
    questions = chosen + 0.5 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    questions /= np.linalg.norm(questions, axis=1, keepdims=True)
    nearest = [np.argpartition(-(vectors @ each), _RANKS)[:_RANKS] for each in questions]
    return np.ascontiguousarray(questions, np.float32), [{int(ids[index]) for index in each} for each in nearest]


def _recall(
    questions: Float32, vectors: Float32, place: dict[int, int], found: Int64, expected: Sequence[set[int]]
) -> float:
    """The share of the nearest texts that are found among the candidates and, put in order, among the first."""
    hits = 0
    for question, row, wanted in zip(questions, found, expected, strict=True):
        candidates = [int(each) for each in row if each >= 0]
        scores = {key: float(question @ vectors[place[key]]) for key in candidates}
        hits += len(wanted & set(sorted(scores, key=lambda key: -scores[key])[:_RANKS]))
    return hits / (_RANKS * len(expected))


def _set_breadth(faiss: Any, index: Any, breadth: int) -> None:
    if isinstance(index, faiss.IndexIDMap2):
        faiss.downcast_index(index.index).hnsw.efSearch = breadth
    else:
        index.nprobe = breadth


def _read(path: Path, faiss: Any, dimensions: int) -> tuple[Any, Description] | None:
    """The index in a file, or None where there is none that can be used."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    try:
        if not data.startswith(_MAGIC):
            return None
        begin = len(_MAGIC) + _SIZES.size
        check, size = _SIZES.unpack_from(data, len(_MAGIC))
        # faiss trusts what it reads: a damaged file must not come that far.
        if check != zlib.crc32(memoryview(data)[begin:]):
            return None
        header = json.loads(data[begin : begin + size])
        payload = np.frombuffer(data, np.uint8, offset=begin + size)
        if header.pop("length") != len(payload):
            return None
        description = Description(**header)
        if description.dimensions != dimensions:
            return None
        index = faiss.deserialize_index(payload)
        if description.kind != "flat":
            _set_breadth(faiss, index, description.breadth)
    except (ValueError, KeyError, TypeError, struct.error, RuntimeError):
        return None
    return index, description


def _import_faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("faiss-cpu", "rag", "A collection of documents") from None
    return faiss
