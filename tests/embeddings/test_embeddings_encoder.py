"""Embedding models with an encoder, against transformers' own encoders and sentence-transformers' definitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tiny_encoders import CLS, FAMILIES, SEP, TEXTS, WORDPIECE, hidden_states, save_embedder, write_json

from ostro.embeddings import open_embedder
from ostro.embeddings.base import TOKENS_AT_ONCE
from ostro.errors import InputLengthError, RequestError

LONG = "the cat sat on the mat in the tower of paris " * 20  # beyond the distances that MPNet tells apart
PROMPTS = {"query": "query: ", "document": "passage: "}


def unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """A folder and its transformers model, by family."""
    folders = {family: tmp_path_factory.mktemp(family) / "model" for family in FAMILIES}
    return {family: (folder, save_embedder(folder, family, prompts=PROMPTS)) for family, folder in folders.items()}


@pytest.mark.parametrize("backend", ["cpu", "reference", "torch"])
@pytest.mark.parametrize("family", FAMILIES)
def test_mean_pooling_equals_transformers(family: str, backend: str, saved: dict[str, tuple[Path, Any]]) -> None:
    folder, model = saved[family]
    embedder = open_embedder(folder, backend=backend, device="cpu" if backend == "torch" else None)
    texts = [*TEXTS, LONG]
    made = embedder.embed(texts)
    assert made.vectors.dtype == np.float32
    for text, vector, num_tokens in zip(texts, made.vectors, made.num_tokens, strict=True):
        ids = [CLS, *embedder.tokenize(text), SEP]
        assert len(ids) == num_tokens
        np.testing.assert_allclose(vector, unit(hidden_states(model, ids).mean(axis=0)), atol=3e-6)


def test_token_ids_are_those_of_transformers_but_for_special_tokens_in_texts(
    saved: dict[str, tuple[Path, Any]],
) -> None:
    from transformers import AutoTokenizer

    folder, _ = saved["bert"]
    theirs, ours = AutoTokenizer.from_pretrained(folder), open_embedder(folder)
    for text in [*TEXTS[:3], LONG, "", "  Ünïcode CAT  "]:
        assert theirs(text)["input_ids"] == [CLS, *ours.tokenize(text), SEP]
    assert SEP in theirs("[SEP]", add_special_tokens=False)["input_ids"]
    assert SEP not in ours.tokenize("[SEP]")


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_the_same_bits_alone_batched_and_on_any_number_of_threads(
    family: str, saved: dict[str, tuple[Path, Any]]
) -> None:
    folder, _ = saved[family]
    one, two = open_embedder(folder, num_threads=1), open_embedder(folder, num_threads=2)
    texts = [*TEXTS, LONG] * 14
    assert sum(one.embed(texts).num_tokens) > TOKENS_AT_ONCE
    together = two.embed(texts).vectors
    assert one.embed(texts).vectors.tobytes() == together.tobytes()
    for index, text in enumerate(texts[:5]):
        assert one.embed([text]).vectors[0].tobytes() == together[index].tobytes()


def test_prompts_by_input_type(saved: dict[str, tuple[Path, Any]]) -> None:
    embedder = open_embedder(saved["bert"][0])
    for input_type, prompt in (("query", "query: "), ("document", "passage: "), ("text", "")):
        asked = embedder.embed(["a cat"], input_type=input_type).vectors  # type: ignore[arg-type]
        assert asked.tobytes() == embedder.embed([prompt + "a cat"]).vectors.tobytes()
    own = open_embedder(saved["bert"][0], prompts={"text": "the "})
    assert [own.prompt(each) for each in ("text", "query", "document")] == ["the ", "query: ", "passage: "]
    with pytest.raises(RequestError, match="prompts must give a text for text, query, document"):
        open_embedder(saved["bert"][0], prompts={"search": "x"})  # type: ignore[dict-item]


POOLS = {
    "cls": lambda h: h[0],
    "mean": lambda h: h.mean(axis=0),
    "max": lambda h: h.max(axis=0),
    "mean_sqrt_len_tokens": lambda h: h.sum(axis=0) / np.sqrt(len(h)),
    "weightedmean": lambda h: np.average(h, axis=0, weights=np.arange(1, len(h) + 1)),
    "lasttoken": lambda h: h[-1],
}


@pytest.mark.parametrize("pooling", [*POOLS, ["mean", "cls"]], ids=str)
def test_every_pooling(pooling: Any, tmp_path: Path) -> None:
    model = save_embedder(tmp_path, pooling=pooling, num_hidden_layers=1)
    embedder = open_embedder(tmp_path)
    modes = [pooling] if isinstance(pooling, str) else pooling
    assert embedder.dimensions == 24 * len(modes)
    for text, vector in zip(TEXTS, embedder.embed(TEXTS).vectors, strict=True):
        hidden = hidden_states(model, [CLS, *embedder.tokenize(text), SEP])
        expected = unit(np.concatenate([POOLS[mode](hidden) for mode in modes]))
        np.testing.assert_allclose(vector, expected, atol=3e-6)


@pytest.mark.parametrize("activation", ["torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"])
def test_dense_modules_behind_the_pooling(activation: str, tmp_path: Path) -> None:
    model = save_embedder(tmp_path, num_hidden_layers=1, extra=["Dense", "Dense", "Dropout", "Normalize"])
    rng = np.random.default_rng(1)
    first, bias, second = (rng.standard_normal(s).astype(np.float32) for s in ((10, 24), (10,), (7, 10)))
    sizes = {"in_features": 24, "out_features": 10, "bias": True, "activation_function": activation}
    write_json(tmp_path / "2_Dense" / "config.json", sizes)
    save_file({"linear.weight": first, "linear.bias": bias}, tmp_path / "2_Dense" / "model.safetensors")
    identity = {"bias": False, "activation_function": "torch.nn.modules.linear.Identity"}
    write_json(tmp_path / "3_Dense" / "config.json", {"in_features": 10, "out_features": 7, **identity})
    save_file({"linear.weight": second}, tmp_path / "3_Dense" / "model.safetensors")
    embedder = open_embedder(tmp_path)
    assert embedder.dimensions == 7
    hidden = hidden_states(model, [CLS, *embedder.tokenize(TEXTS[0]), SEP])
    inner = first @ hidden.mean(axis=0) + bias
    expected = unit(second @ (np.tanh(inner) if "Tanh" in activation else inner))
    np.testing.assert_allclose(embedder.embed(TEXTS[:1]).vectors[0], expected, atol=3e-6)


def test_the_smallest_limit_of_tokens_counts(tmp_path: Path) -> None:
    save_embedder(tmp_path, num_hidden_layers=1)
    assert open_embedder(tmp_path).max_tokens == 320
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": 128})
    assert open_embedder(tmp_path).max_tokens == 128
    write_json(tmp_path / "sentence_bert_config.json", {"max_seq_length": 6, "do_lower_case": False})
    embedder = open_embedder(tmp_path)
    assert embedder.max_tokens == 6
    with pytest.raises(InputLengthError, match=r"maximum context length is 6 tokens\. However, input 0 has 8 tokens"):
        embedder.embed(["the tower is in paris."])
    made = embedder.embed(["the tower is in paris.", "a cat"], truncate=True)
    assert made.truncated == [True, False]
    assert made.vectors[0].tobytes() == embedder.embed(["the tower is in"]).vectors[0].tobytes()


def test_vectors_are_cut_only_where_the_model_says_so(tmp_path: Path) -> None:
    save_embedder(tmp_path, num_hidden_layers=1)
    with pytest.raises(RequestError, match="was not trained for shorter vectors"):
        open_embedder(tmp_path).embed(["a"], dimensions=8)
    assert open_embedder(tmp_path, matryoshka_dimensions=[8]).embed(["a"], dimensions=8).vectors.shape == (1, 8)
    config = tmp_path / "config.json"
    stated = config.read_text()
    config.write_text(stated.replace("{", '{"matryoshka_dimensions": [4, 12],', 1))
    assert list(open_embedder(tmp_path).allowed_dimensions) == [4, 12, 24]
    config.write_text(stated.replace("{", '{"is_matryoshka": true,', 1))
    embedder = open_embedder(tmp_path)
    assert list(embedder.allowed_dimensions) == list(range(1, 25))
    whole, cut = embedder.embed(["a cat"]).vectors[0], embedder.embed(["a cat"], dimensions=5).vectors[0]
    np.testing.assert_allclose(cut, unit(whole[:5]), atol=1e-6)


def test_an_encoder_without_modules_needs_a_pooling(tmp_path: Path) -> None:
    model = save_embedder(tmp_path, num_hidden_layers=1)
    with pytest.raises(RequestError, match="pooling cannot be chosen"):
        open_embedder(tmp_path, pooling="cls")
    (tmp_path / "modules.json").unlink()
    with pytest.raises(RequestError, match=r"encoder without a modules.json.*choose a pooling \(cls, mean, max"):
        open_embedder(tmp_path)
    with pytest.raises(RequestError, match="pooling must be one of"):
        open_embedder(tmp_path, pooling="last")  # type: ignore[arg-type]
    vector = open_embedder(tmp_path, pooling="cls").embed(["a cat"]).vectors[0]
    ids = [CLS, WORDPIECE.index("a"), WORDPIECE.index("cat"), SEP]
    np.testing.assert_allclose(vector, unit(hidden_states(model, ids)[0]), atol=3e-6)


def test_half_weights_and_older_names(tmp_path: Path) -> None:
    """As the first checkpoints have them: float16, TensorFlow's names of norms, a buffer and a pooler beside."""
    model = save_embedder(tmp_path, num_hidden_layers=1)
    tensors = {}
    for name, values in load_file(tmp_path / "model.safetensors").items():
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        tensors[f"bert.{old}"] = values.astype(np.float16)
    tensors["bert.embeddings.position_ids"] = np.arange(320)[None]
    tensors["cls.predictions.bias"] = np.zeros(4, np.float32)
    save_file(tensors, tmp_path / "model.safetensors")
    embedder = open_embedder(tmp_path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    hidden = hidden_states(model, [CLS, *embedder.tokenize(TEXTS[2]), SEP])
    np.testing.assert_allclose(embedder.embed(TEXTS[2:3]).vectors[0], unit(hidden.mean(axis=0)), atol=3e-6)
