"""The vocabulary of ostro-mini: Mistral's control tokens, and words that are the same tokens wherever they stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostro.tokenizer import load_tokenizer
from ostro.tokenizer.base import Tokenizer
from recipes.ostro_mini import pools
from recipes.ostro_mini import tokenizer as recipe

SIZE = 1800


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    recipe.main(["--out", str(folder), "--size", str(SIZE), "--documents", "500", "--conversations", "300"])
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.piece(i) for i in tokenizer.encode(text)]


def test_ids_are_those_of_mistral(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == SIZE
    assert tokenizer.version == "v3"
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)
    assert [tokenizer.control_id(name) for name in ("[INST]", "[/INST]", "[TOOL_CALLS]")] == [3, 4, 5]


def test_a_word_has_the_same_tokens_wherever_it_stands(tokenizer: Tokenizer) -> None:
    word = [piece for piece in pieces(tokenizer, "Grocen") if piece != "▁"]
    for text in (
        "Grocen, and",
        '{"name": "Grocen"}',
        "(Grocen)",
        "Grocen's",
        "x: Grocen\n",
        "Grocen이 Grocen을",
        "_Grocen1",
    ):
        found = pieces(tokenizer, text)
        assert any(found[start : start + len(word)] == word for start in range(len(found))), (text, found)


def test_spaces_digits_and_syllables_stand_alone(tokenizer: Tokenizer) -> None:
    assert pieces(tokenizer, "1234.5") == ["▁", "1", "2", "3", "4", ".", "5"]
    assert pieces(tokenizer, "서현이  옵니다") == ["▁", "서", "현", "이", "▁", "▁", "옵", "니", "다"]
    known = {tokenizer.piece(i) for i in range(tokenizer.vocab_size)}
    assert set(pools.HANGUL) <= known
    assert not any("▁" in piece and piece != "▁" for piece in known)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40).filter(lambda text: "▁" not in text))
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_transformers_reads_the_same_vocabulary(folder: Path, tokenizer: Tokenizer) -> None:
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in recipe.corpus(40, 40, seed=9):
        assert theirs.encode(text) == [1, *tokenizer.encode(text)]
        assert theirs.decode(tokenizer.encode(text)) == text
    assert json.loads((folder / "tokenizer_config.json").read_text())["bos_token"] == "<s>"
