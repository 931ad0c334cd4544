"""Static embeddings, and the small default that comes with the package wordllama."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny_encoders import TEXTS, WORDPIECE, write_json, write_tokenizer

from ostro.embeddings import default, open_embedder
from ostro.errors import CheckpointError, MissingExtraError, RequestError

TABLE = np.random.default_rng(5).standard_normal((len(WORDPIECE), 6)).astype(np.float32)


def static_folder(folder: Path, tensors: dict[str, np.ndarray], where: str = "0_StaticEmbedding") -> Path:
    write_json(
        folder / "modules.json",
        [
            {"idx": 0, "name": "0", "path": where, "type": "sentence_transformers.models.StaticEmbedding"},
            {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
    )
    (folder / where).mkdir(exist_ok=True)
    save_file(tensors, folder / where / "model.safetensors")
    write_tokenizer(folder / where)
    return folder


@pytest.mark.parametrize("name", ["embedding.weight", "embeddings"])
@pytest.mark.parametrize("where", ["", "0_StaticEmbedding"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_mean_of_the_rows(name: str, where: str, dtype: type, tmp_path: Path) -> None:
    embedder = open_embedder(static_folder(tmp_path, {name: TABLE.astype(dtype)}, where))
    made = embedder.embed([*TEXTS, "the cat " * 3000])
    assert embedder.max_tokens is None
    assert made.num_tokens == [6, 2, 16, 5, 6000]
    for vector, text in zip(made.vectors, TEXTS, strict=False):
        mean = TABLE.astype(dtype).astype(np.float64)[embedder.tokenize(text)].mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(made.vectors[4], embedder.embed(["the cat"]).vectors[0], atol=1e-6)


def test_the_special_token_of_a_text_stays_text(tmp_path: Path) -> None:
    embedder = open_embedder(static_folder(tmp_path, {"embedding.weight": TABLE}))
    assert WORDPIECE.index("[SEP]") not in embedder.tokenize("[SEP] a mat")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"table": TABLE}, "has the tensors table"),
        ({"embeddings": TABLE, "weights": TABLE[:, 0].copy()}, "has the tensors embeddings, weights"),
        ({"embedding.weight": TABLE[:, 0].copy()}, "has the tensors embedding.weight"),
        ({"embedding.weight": TABLE[:5]}, "21 tokens, but the table 5 rows"),
    ],
)
def test_tables_that_do_not_fit(tensors: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_embedder(static_folder(tmp_path, tensors))


def test_options_that_a_table_does_not_have(tmp_path: Path) -> None:
    folder = static_folder(tmp_path, {"embedding.weight": TABLE})
    for option, value in (("backend", "cpu"), ("num_threads", 2), ("device", "cpu"), ("pooling", "mean")):
        with pytest.raises(RequestError, match=f"{option} cannot be chosen"):
            open_embedder(folder, **{option: value})  # type: ignore[arg-type]
        with pytest.raises(RequestError, match=f"{option} cannot be chosen for wordllama"):
            open_embedder(**{option: value})  # type: ignore[arg-type]


def test_the_default_gives_the_similarity_that_its_author_published() -> None:
    """The README of wordllama has 0.06641249096796882 for this pair; the last digits are float32's."""
    embedder = open_embedder()
    one, other = embedder.embed(["i went to the car", "i went to the pawn shop"]).vectors
    assert float(one @ other) == pytest.approx(0.06641249, abs=2e-6)
    assert (embedder.name, embedder.dimensions, embedder.max_tokens) == ("wordllama", 256, None)
    assert list(embedder.allowed_dimensions) == [64, 128, 256]
    assert "wordllama" not in sys.modules


def test_the_default_finds_what_is_near() -> None:
    embedder = open_embedder("wordllama")
    texts = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose again this quarter."]
    for size in (64, 256):
        vectors = embedder.embed(texts, dimensions=size).vectors
        assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    with pytest.raises(RequestError, match="Input 0 is empty"):
        embedder.embed([""])
    assert embedder.embed(["</s>"]).num_tokens[0] > 1


def test_the_default_where_it_is_missing_or_damaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(default, "find_spec", lambda _: None)
    assert not default.is_installed()
    with pytest.raises(MissingExtraError, match=r"pip install 'ostro\[embeddings\]'"):
        open_embedder()

    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(default, "find_spec", lambda _: Spec)
    with pytest.raises(CheckpointError, match=r"has no weights/l2_supercat_256\.safetensors"):
        open_embedder()
