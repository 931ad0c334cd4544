"""`ostro embed`: texts in, a table, JSON lines or an array out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_encoders import save_embedder

from ostro.embeddings import open_embedder

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("embed") / "tiny-encoder"
    save_embedder(folder, prompts={"query": "query: "}, max_seq_length=8, num_hidden_layers=1)
    return folder


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_table_of_the_default(run: Run) -> None:
    done = run("embed", "a cat", "a kitten", "the price of oil")
    assert done.code == 0
    header, *rows = done.out.splitlines()
    assert header.split() == ["#", "TOKENS", "TO", "FIRST", "TEXT"]
    assert rows[0].split() == ["0", "2", "1.000", "a", "cat"]
    assert float(rows[1].split()[2]) > float(rows[2].split()[2])


def test_json_lines_give_the_vectors_exactly(run: Run, encoder: Path) -> None:
    done = run("embed", "-m", encoder, "a cat", "the mat", "--jsonl", "--input-type", "query")
    expected = open_embedder(encoder).embed(["a cat", "the mat"], input_type="query")
    found = lines(done.out)
    assert [line["text"] for line in found] == ["a cat", "the mat"]
    assert [line["index"] for line in found] == [0, 1]
    assert [line["num_tokens"] for line in found] == expected.num_tokens
    assert {line["truncated"] for line in found} == {False}
    vectors = np.array([line["embedding"] for line in found], np.float32)
    assert vectors.tobytes() == expected.vectors.tobytes()


def test_texts_from_arguments_files_lines_and_stdin(run: Run, tmp_path: Path) -> None:
    (tmp_path / "whole.txt").write_text("one\ntwo\n")
    (tmp_path / "lines.txt").write_text("three\n네\n")
    both = ("--file", tmp_path / "whole.txt", "--lines", tmp_path / "lines.txt")
    assert [line["text"] for line in lines(run("embed", "zero", *both, "--jsonl").out)] == [
        "zero", "one\ntwo", "three", "네",
    ]  # fmt: skip
    assert [line["text"] for line in lines(run("embed", "--jsonl", stdin="a\r\nb\n").out)] == ["a", "b"]
    assert [line["text"] for line in lines(run("embed", "--jsonl", "--file", "-", stdin="a\nb\n").out)] == ["a\nb"]


def test_dimensions_and_an_array(run: Run, tmp_path: Path) -> None:
    done = run("embed", "a cat", "a dog", "--dimensions", "64", "--out", tmp_path / "v.npy")
    assert (done.code, done.out) == (0, "")
    assert "2 vectors of 64 numbers are in" in done.err
    vectors = np.load(tmp_path / "v.npy")
    assert (vectors.shape, vectors.dtype) == ((2, 64), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_what_is_cut_is_told(run: Run, encoder: Path) -> None:
    done = run("embed", "-m", encoder, "a cat", "the cat sat on the mat in paris", "--jsonl")
    assert done.code == 1
    assert (
        "However, input 1 has 10 tokens: split it into shorter texts, or have its end cut off (--truncate)" in done.err
    )
    assert done.out == ""
    done = run("embed", "-m", encoder, "a cat", "the cat sat on the mat in paris", "--jsonl", "--truncate")
    assert done.code == 0
    assert "The end of input 1 was cut off" in done.err
    assert [line["truncated"] for line in lines(done.out)] == [False, True]


def test_a_model_that_generates_has_its_hidden_states_pooled(run: Run, chat_model: Path) -> None:
    found = lines(run("embed", "-m", chat_model, "a", "b", "--jsonl", "--threads", "1").out)
    assert [len(line["embedding"]) for line in found] == [16, 16]
    last = lines(run("embed", "-m", chat_model, "a", "--jsonl", "--pooling", "last").out)
    assert last[0]["embedding"] != found[0]["embedding"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["a", "--dimensions", "100"], 1, "--dimensions 100 is not possible; wordllama allows 64, 128 or 256"),
        (["a", "--dimensions", "0"], 2, "too small"),
        (["a", "--input-type", "search"], 2, "is none of text, query, document"),
        (["a", "--pooling", "median"], 2, "is none of"),
        (["a", "--pooling", "mean"], 1, "--pooling cannot be chosen for wordllama"),
        (["a", "--threads", "1"], 1, "--threads cannot be chosen for wordllama"),
        (["a", "--quantize", "4"], 2, "This is for models that generate"),
        (["a", "--file", "nowhere.txt"], 1, "nowhere.txt cannot be read"),
        (["a", "--out", "/nowhere/v.npy"], 1, "/nowhere/v.npy cannot be written"),
        (["a", "-m", "./nowhere"], 1, "no such folder or file"),
        ([], 2, "Give texts"),
        ([""], 1, "Input 0 is empty"),
    ],
)
def test_what_is_refused(args: list[str], code: int, message: str, run: Run) -> None:
    done = run("embed", *args)
    assert done.code == code
    assert message in " ".join(done.err.replace("│", " ").split())
