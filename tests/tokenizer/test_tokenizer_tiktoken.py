"""Meta's `tokenizer.model`: a small vocabulary of the same form, against an independent BPE."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from tokenizer_conversions import SAMPLES, TEXT, byte_level_metadata, ranks_of

from ostro.errors import TokenizerError
from ostro.tokenizer.gguf import load_gguf
from ostro.tokenizer.mistral import bundled
from ostro.tokenizer.tiktoken import (
    LLAMA3_PATTERN,
    TiktokenTokenizer,
    chunks,
    load_tiktoken,
    looks_like_ranks,
    special_tokens,
)
from ostro.tokenizer.vocabulary import VocabularyTokenizer

NUM_RANKS = 20_000


def ranks_file(num_ranks: int) -> bytes:
    """The first tokens of Tekken, in the form of Meta's file."""
    tekken = bundled("v3-tekken")
    tokens = [tekken.token_bytes(1000 + i) for i in range(num_ranks)]
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama3") / "tokenizer.model"
    path.write_bytes(ranks_file(NUM_RANKS))
    return path


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> TiktokenTokenizer:
    return load_tiktoken(path)


@pytest.fixture(scope="module")
def other(tokenizer: TiktokenTokenizer) -> VocabularyTokenizer:
    return load_gguf(byte_level_metadata(tokenizer, ranks_of(tokenizer), "llama-bpe"), "llama3.gguf")


def test_the_special_tokens_of_llama_3() -> None:
    ids = {name: 128000 + i for i, name in enumerate(special_tokens())}
    assert len(ids) == 256
    assert {name: ids[name] for name in ids if not name.startswith("<|reserved")} == {
        "<|begin_of_text|>": 128000,
        "<|end_of_text|>": 128001,
        "<|finetune_right_pad_id|>": 128004,
        "<|step_id|>": 128005,
        "<|start_header_id|>": 128006,
        "<|end_header_id|>": 128007,
        "<|eom_id|>": 128008,
        "<|eot_id|>": 128009,
        "<|python_tag|>": 128010,
        "<|image|>": 128011,
    }
    assert (ids["<|reserved_special_token_1|>"], ids["<|reserved_special_token_2|>"]) == (128003, 128012)


def test_special_tokens_follow_the_ranks(tokenizer: TiktokenTokenizer) -> None:
    assert tokenizer.vocab_size == NUM_RANKS + 256
    assert (tokenizer.bos_id, tokenizer.eos_id) == (NUM_RANKS, NUM_RANKS + 1)
    assert tokenizer.control_id("<|eot_id|>") == NUM_RANKS + 9
    assert (tokenizer.kind, tokenizer.version, tokenizer.dummy_prefix) == ("tiktoken", None, False)
    assert tokenizer.piece(0xE1) == "<0xE1>"
    assert tokenizer.piece(NUM_RANKS + 9) == "<|eot_id|>"


@given(text=TEXT)
@settings(max_examples=150)
def test_it_encodes_as_another_bpe_does(tokenizer: TiktokenTokenizer, other: VocabularyTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids == tokenizer.encode_continuation(text) == other.encode(text)
    assert tokenizer.decode(ids) == text == other.decode(ids)
    assert not any(map(tokenizer.is_control, ids))
    assert tokenizer.encode_with_control(text) == other.encode_with_control(text)


def test_templates_are_encoded_with_control_tokens(tokenizer: TiktokenTokenizer) -> None:
    control = tokenizer.control_id
    header = [control("<|start_header_id|>"), *tokenizer.encode("user"), control("<|end_header_id|>")]
    text = "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
    ids = [*header, *tokenizer.encode("\n\nhi"), control("<|eot_id|>")]
    assert tokenizer.encode_with_control(text) == ids
    assert tokenizer.decode(ids, keep_control=True) == text
    assert tokenizer.decode(ids) == "user\n\nhi"
    assert not any(map(tokenizer.is_control, tokenizer.encode(text)))


def test_long_texts_are_cut_as_meta_cuts_them() -> None:
    assert list(chunks("")) == []
    assert [list(chunks(text)) for text in SAMPLES if text] == [[text] for text in SAMPLES if text]
    assert [*map(len, chunks("a" * 60_000))] == [25_000, 25_000, 10_000]
    assert [*map(len, chunks("a" * 25_000 + " "))] == [25_001]
    assert [*map(len, chunks("b a" + " " * 60_000 + "c"))] == [25_003, 25_000, 10_001]
    assert [*map(len, chunks("ab " * 150_000))] == [400_000, 50_000]


def test_very_long_texts_come_back(tokenizer: TiktokenTokenizer) -> None:
    for text in (" " * 200_000, "한" * 200_000, "\n" * 200_000, "hello 12 " * 100_000):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ranks_are_told_from_sentencepiece(path: Path) -> None:
    assert looks_like_ranks(path.read_bytes()[:4096])
    assert not looks_like_ranks(Path(bundled("v1").source).read_bytes()[:4096])
    assert not looks_like_ranks(b"")
    assert not looks_like_ranks(b"hello world\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[: len(data) // 2], "is no tiktoken vocabulary"),
        (lambda data: data + b"!!! 20000\n", r"line 20001 is b'!!! 20000', not a new base64 token and its rank"),
        (lambda data: data + b"AA== 20000\n", "line 20001 .* not a new base64 token"),
        (lambda data: data + b"\xff\xfe", "line 20001"),
        (lambda data: data.replace(b" 19999\n", b" 20005\n"), "ranks of its 20000 tokens are not 0 to 19999"),
        (lambda _: b"YWJj 0\n", "256 single bytes have no rank, the first 0x00"),
        (lambda _: b"", "256 single bytes have no rank"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, path: Path, spoil: object, message: str) -> None:
    bad = tmp_path / "tokenizer.model"
    bad.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(TokenizerError, match=message):
        load_tiktoken(bad)


def test_the_pattern_is_llama_3s() -> None:
    assert r"\p{N}{1,3}" in LLAMA3_PATTERN
