"""Embeddings from a model that generates: against transformers' hidden states, alone, batched and in chunks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_model, save_tiny

from ostro import LLM, SamplingParams
from ostro.embeddings import PooledEmbedder
from ostro.engine.pooling import Pooling
from ostro.errors import InputLengthError, RequestError, TokenizerNotFoundError

IDS = [[1, 5, 9, 77, 3], [1, 7], list(range(3, 90))]


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("variant", ["mistral-7b-v0.1", "mixtral", "llama-3.2"])
def test_the_hidden_states_of_transformers(variant: str, tiny_checkpoint: Callable[[str], Path]) -> None:
    llm, model = LLM(tiny_checkpoint(variant), num_threads=1), make_model(variant)
    with torch.no_grad():
        hidden = [model.model(torch.tensor([ids])).last_hidden_state[0].numpy() for ids in IDS]
    poolings: dict[Pooling, Any] = {"mean": lambda h: h.mean(axis=0), "last": lambda h: h[-1]}
    for pooling, pool in poolings.items():
        expected = np.stack([pool(each) for each in hidden])
        np.testing.assert_allclose(llm.embed(IDS, pooling=pooling), expected, atol=2e-5)
        made = PooledEmbedder(llm, pooling=pooling).embed(IDS)
        np.testing.assert_allclose(made.vectors, [unit(each) for each in expected], atol=5e-6)
        assert made.num_tokens == [5, 2, 87]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Mistral with the v3 vocabulary of mistral-common."""
    from ostro.tokenizer.mistral import bundled

    folder = tmp_path_factory.mktemp("pooled") / "tiny-model"
    save_tiny("mistral-7b-v0.3", folder, vocab_size=32768)
    shutil.copy(bundled("v3").source, folder / "tokenizer.model.v3")
    return folder


TEXTS = ["Where is the tower?", "The tower is in Paris, </s> and it is tall.", "안녕하세요", "a"]


def test_the_same_bits_alone_batched_in_chunks_and_beside_answers(folder: Path) -> None:
    llm = LLM(folder, num_threads=1)
    alone = [PooledEmbedder(llm).embed([text]).vectors[0].tobytes() for text in TEXTS]
    for options in ({}, {"num_threads": 2}, {"max_num_batched_tokens": 5}, {"max_num_seqs": 1}):
        other = LLM(folder, **options)  # type: ignore[arg-type]
        assert [row.tobytes() for row in PooledEmbedder(other).embed(TEXTS).vectors] == alone
    greedy = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    answer = llm.generate("Once upon", greedy)[0].outputs[0].token_ids
    with llm.stream("Once upon", greedy) as stream:
        first = next(stream)
        assert [row.tobytes() for row in PooledEmbedder(llm).embed(TEXTS).vectors] == alone
        rest = [token for chunk in stream for token in chunk.token_ids]
    assert [*first.token_ids, *rest] == answer


def test_texts_begin_with_bos_once_and_never_hold_control_tokens(folder: Path) -> None:
    embedder = PooledEmbedder(LLM(folder, num_threads=1))
    text = TEXTS[1]
    ids = embedder.tokenize(text)
    assert not {1, 2} & set(ids)
    made = embedder.embed([text, ids, [1, *ids], ""])
    assert made.num_tokens == [len(ids) + 1] * 3 + [1]
    assert len({row.tobytes() for row in made.vectors[:3]}) == 1
    np.testing.assert_allclose(made.vectors[0], unit(embedder._llm.embed([[1, *ids]])[0]), atol=1e-6)


def test_name_limits_and_what_is_refused(folder: Path) -> None:
    llm = LLM(folder, num_threads=1, max_model_len=16)
    embedder = PooledEmbedder(llm)
    assert (embedder.name, PooledEmbedder(llm, name="other").name) == ("tiny-model", "other")
    assert (embedder.dimensions, embedder.max_tokens, list(embedder.allowed_dimensions)) == (32, 16, [32])
    with pytest.raises(InputLengthError, match="input 1 has"):
        embedder.embed(["a", "word " * 40])
    made = embedder.embed(["a", "word " * 40], truncate=True)
    assert (made.num_tokens[1], made.truncated) == (16, [False, True])
    with pytest.raises(RequestError, match="not trained for shorter vectors"):
        embedder.embed(["a"], dimensions=16)
    with pytest.raises(RequestError, match="pooling must be one of mean, last"):
        PooledEmbedder(llm, pooling="max")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="maximum context length is 16"):
        llm.embed([[3], [3] * 17])
    assert llm.embed([]).shape == (0, 32)
    assert llm.embed([3, 4]).shape == (1, 32)


def test_a_model_without_a_tokenizer_takes_ids_alone(tiny_checkpoint: Callable[[str], Path]) -> None:
    embedder = PooledEmbedder(LLM(tiny_checkpoint("mistral-7b-v0.3"), num_threads=1))
    assert embedder.embed([[5, 6]]).num_tokens == [2]
    with pytest.raises(TokenizerNotFoundError):
        embedder.embed(["text"])
