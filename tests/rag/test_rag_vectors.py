"""The index of vectors: every kind finds what an exact search finds, and its file is never trusted blindly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ostro.rag.chunks import Chunk
from ostro.rag.documents import Document
from ostro.rag.fusion import reciprocal_ranks
from ostro.rag.store import Prepared, Store
from ostro.rag.vectors import IndexSettings, VectorIndex

D = 32
KINDS = {
    "flat": IndexSettings(),
    "hnsw": IndexSettings(max_flat=100),
    "ivfpq": IndexSettings(max_flat=100, max_hnsw=200),
}


def vectors(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, D))
    made = centres[rng.integers(0, 20, count)] + 0.7 * rng.standard_normal((count, D))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def put(store: Store, made: np.ndarray, source: str = "a") -> None:
    chunks = [Chunk(f"{source} {index}", 0, 1, None, "") for index in range(len(made))]
    store.add([Prepared(Document(source, source, "text/plain", "x"), "h", chunks, made)])


def refreshed(tmp_path: Path, store: Store, settings: IndexSettings) -> VectorIndex:
    index = VectorIndex(tmp_path / "index", store, D, settings)
    index.refresh()
    return index


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_near_to_exact_and_says_how_near(tmp_path: Path, kind: str) -> None:
    store = Store(tmp_path / "db")
    made = vectors(2000)
    put(store, made)
    index = refreshed(tmp_path, store, KINDS[kind])
    assert index.description.kind == kind
    assert index.description.recall >= 0.95
    questions = vectors(50, seed=5)
    hits = 0
    for question in questions:
        exact = np.argsort(-(made @ question))[:10] + 1
        found = index.search(question, 10)
        assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
        hits += len(set(exact.tolist()) & {key for key, _ in found})
    assert hits >= 0.9 * 500
    index.save()
    again = VectorIndex(tmp_path / "index", store, D, KINDS[kind])
    assert again.description == index.description
    assert again.search(questions[0], 10) == index.search(questions[0], 10)
    store.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_added_and_removed_later(tmp_path: Path, kind: str) -> None:
    store = Store(tmp_path / "db")
    made = vectors(1000)
    put(store, made)
    index = refreshed(tmp_path, store, KINDS[kind])
    new = vectors(10, seed=9)
    put(store, new, "b")
    index.refresh()
    assert index.description.count == 1010
    assert index.search(new[3], 1)[0][0] == 1004
    put(store, vectors(1, seed=11), "c")
    index.refresh()
    store.remove(["b"])
    index.refresh()
    assert index.description.count == 1011  # the dead stay until they are many
    assert index.search(new[3], 1)[0][0] not in range(1001, 1011)
    store.remove(["a", "c"])
    index.refresh()
    assert (index.description.count, index.description.kind) == (0, "flat")
    assert index.search(new[3], 1) == []
    store.close()


def test_a_file_that_is_damaged_or_of_another_past_is_made_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    made = vectors(300)
    put(store, made)
    refreshed(tmp_path, store, IndexSettings()).save()
    whole = (tmp_path / "index").read_bytes()
    other = Store(tmp_path / "other")
    put(other, vectors(300, seed=1), "c")
    for data in (
        b"",
        whole[:100],
        whole[:-5],
        whole[:-5] + b"\xff" * 5,
        whole.replace(b"flat", b"hnsw", 1),
        b"x" * 500,
    ):
        (tmp_path / "index").write_bytes(data)
        assert refreshed(tmp_path, store, IndexSettings()).search(made[7], 1)[0][0] == 8
    (tmp_path / "index").write_bytes(whole)
    assert refreshed(tmp_path, other, IndexSettings()).search(vectors(300, seed=1)[7], 1)[0][0] == 8
    store.close()
    other.close()


def test_reciprocal_ranks() -> None:
    assert reciprocal_ranks([["a", "b", "c"], ["c", "a"]]) == {
        "a": 1 / 61 + 1 / 62, "c": 1 / 63 + 1 / 61, "b": 1 / 62,
    }  # fmt: skip
    assert reciprocal_ranks([]) == {}
