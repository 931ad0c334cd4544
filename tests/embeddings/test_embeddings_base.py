"""What all embedders share: special tokens, prompts, limits, dimensions, unit length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostro.embeddings.base import Embedder, Float32, Frame, TextEmbedder
from ostro.errors import ContextLengthError, InputLengthError, RequestError

CLS, SEP = 100, 101
AROUND = Frame((CLS,), (SEP,))


class Letters(TextEmbedder):
    """A token for each letter; the vector counts tokens by their id modulo 8."""

    def __init__(self, frame: Frame = AROUND, **changes: Any) -> None:
        settings: dict[str, Any] = {"dimensions": 8, "max_tokens": 10, "vocab_size": 128, "frame": frame}
        super().__init__("letters", **{**settings, **changes})
        self.seen: list[list[int]] = []

    def tokenize(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def _vectors(self, sequences: Sequence[list[int]], _: object) -> Float32:
        self.seen = [list(ids) for ids in sequences]
        return np.array([np.bincount(np.array(ids) % 8, minlength=8) for ids in sequences], np.float32)


def inside(embedder: Letters) -> list[str]:
    return ["".join(map(chr, ids[1:-1])) for ids in embedder.seen]


def test_texts_and_ids_get_the_special_tokens_once() -> None:
    embedder: Letters = Letters()
    made = embedder.embed(["abc", [97, 98, 99], [CLS, 97, 98, 99, SEP], np.array([97, 98, 99])])
    assert embedder.seen == [[CLS, 97, 98, 99, SEP]] * 4
    assert made.num_tokens == [5, 5, 5, 5]
    assert made.truncated == [False] * 4
    assert all(row.tobytes() == made.vectors[0].tobytes() for row in made.vectors)


def test_texts_are_computed_some_at_a_time_and_may_be_given_up() -> None:
    texts = ["a" * length for length in (200, 200, 113, 600, 1, 2)]
    embedder = Letters(Frame(), max_tokens=None)
    groups: list[list[int]] = []
    compute = embedder._vectors

    def watched(sequences: Sequence[list[int]], on_step: object) -> Float32:
        groups.append([len(ids) for ids in sequences])
        return compute(sequences, on_step)

    embedder._vectors = watched  # type: ignore[method-assign]
    assert embedder.embed(texts).num_tokens == [len(text) for text in texts]
    assert groups == [[200, 200], [113], [600], [1, 2]]
    groups.clear()
    steps = iter(range(len(texts) + 2))

    def on_step() -> None:
        if next(steps, None) is None:
            raise KeyError

    with pytest.raises(KeyError):
        embedder.embed(texts, on_step=on_step)
    assert groups == [[200, 200], [113]]


def test_ids_that_only_begin_like_special_tokens() -> None:
    assert list(Frame((1, 2), (3,)).without([1, 2, 9])) == [9]
    assert list(Frame((1, 2), (3,)).without([1, 9, 3])) == [1, 9, 3]
    assert list(Frame((1,), ()).without([1])) == []
    assert list(Frame((), (3,)).without([9, 3])) == [9, 3]


def test_a_prompt_stands_in_front_of_texts_and_ids() -> None:
    embedder = Letters(prompts={"query": "q:", "document": "d:"})
    for input_type, expected in (("query", "q:ab"), ("document", "d:ab"), ("text", "ab")):
        made = embedder.embed(["ab", [97, 98]], input_type=input_type)  # type: ignore[arg-type]
        assert inside(embedder) == [expected] * 2
        assert made.num_tokens == [2 + len(expected)] * 2
    assert embedder.prompt("query") == "q:"
    with pytest.raises(RequestError, match="input_type must be one of text, query, document, not 'search'") as caught:
        embedder.embed(["ab"], input_type="search")  # type: ignore[arg-type]
    assert caught.value.param == "input_type"


def test_too_long_is_refused_or_cut_and_told() -> None:
    embedder = Letters(prompts={"query": "q:"})
    with pytest.raises(
        InputLengthError, match=r"maximum context length is 10 tokens. However, input 1 has 11"
    ) as error:
        embedder.embed(["a" * 8, "b" * 9])
    assert isinstance(error.value, ContextLengthError)
    assert (error.value.index, error.value.num_prompt_tokens, error.value.max_model_len) == (1, 11, 10)
    assert error.value.param == "input"
    made = embedder.embed(["a" * 8, "b" * 9], truncate=True)
    assert inside(embedder) == ["a" * 8, "b" * 8]
    assert (made.num_tokens, made.truncated) == ([10, 10], [False, True])
    embedder.embed(["abcdefgh"], input_type="query", truncate=True)
    assert inside(embedder) == ["q:abcdef"]


def test_dimensions_where_the_model_allows_them() -> None:
    embedder = Letters(smaller_dimensions=(2, 4))
    assert list(embedder.allowed_dimensions) == [2, 4, 8]
    whole = embedder.embed(["hello"]).vectors[0]
    for size in (2, 4, 8):
        made = embedder.embed(["hello"], dimensions=size).vectors[0]
        assert made.shape == (size,)
        assert np.linalg.norm(made) == pytest.approx(1, abs=1e-6)
        np.testing.assert_allclose(made, whole[:size] / np.linalg.norm(whole[:size]), atol=1e-6)
    for wrong in (3, 0, -1, 16, True, "4"):
        with pytest.raises(RequestError, match="allows 2, 4 or 8") as caught:
            embedder.embed(["hello"], dimensions=wrong)  # type: ignore[arg-type]
        assert caught.value.param == "dimensions"
    with pytest.raises(RequestError, match="letters allows 8: it was not trained for shorter vectors"):
        Letters().embed(["hello"], dimensions=4)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("hello", "inputs must be a list of texts, not str"),
        (None, "inputs must be a list of texts, not NoneType"),
        ([1, 2], "put the token ids of one text into a list"),
        (["a", 3.5], "Input 1 must be a text or a list of token ids, not 3.5"),
        (["a", b"b"], "Input 1 must be a text or a list of token ids"),
        (["a", [97, 128]], "Input 1 has 128; the model's token ids go from 0 to 127"),
        ([[-1]], "Input 0 has -1"),
        ([[True]], "Input 0 has True"),
        ([["a"]], "Input 0 has 'a'"),
        (["a", "b\ud800"], "Input 1 has '\\\\ud800' at position 1, which is no character"),
    ],
)
def test_what_is_no_input(inputs: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        Letters().embed(inputs)
    assert caught.value.param == "input"


def test_nothing_to_embed() -> None:
    made = Letters().embed([])
    assert made.vectors.shape == (0, 8)
    assert Letters().embed([""]).num_tokens == [2]
    with pytest.raises(RequestError, match="Input 1 is empty"):
        Letters(frame=Frame()).embed(["a", ""])


def test_a_vector_without_a_direction() -> None:
    class Zeros(Letters):
        def _vectors(self, sequences: Sequence[list[int]], _: object) -> Float32:
            return np.array([[1, 0], [0, 0], [np.nan, 1]], np.float32)[: len(sequences)]

    with pytest.raises(RequestError, match="Input 1 has a vector of length 0"):
        Zeros(dimensions=2).embed(["a", "b"])


@given(st.lists(st.text(st.characters(codec="ascii"), min_size=1, max_size=8), min_size=1, max_size=6))
def test_vectors_are_unit_float32_and_do_not_depend_on_company(texts: list[str]) -> None:
    embedder: Embedder = Letters()
    together = embedder.embed(texts)
    assert together.vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together.vectors, axis=1), 1, atol=1e-6)
    for index, text in enumerate(texts):
        assert embedder.embed([text]).vectors[0].tobytes() == together.vectors[index].tobytes()
