"""The vocabulary of GGUF files: bundled vocabularies written as metadata encode as the originals do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from tokenizer_conversions import SAMPLES, STORIES, TEXT, byte_level_metadata, ranks_of, sentencepiece_metadata

from ostro.errors import TokenizerError
from ostro.tokenizer.bpe import BYTE_TO_LETTER, from_letters, to_letters
from ostro.tokenizer.gguf import load_gguf
from ostro.tokenizer.mistral import bundled, load_sentencepiece
from ostro.tokenizer.vocabulary import VocabularyTokenizer


def processor(version: str) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=bundled(version).source)


@pytest.fixture(scope="module")
def spm() -> Mapping[str, VocabularyTokenizer]:
    return {v: load_gguf(sentencepiece_metadata(processor(v)), f"{v}.gguf") for v in ("v1", "v3")}


@pytest.fixture(scope="module")
def tekken_metadata() -> dict[str, object]:
    tekken = bundled("v3-tekken")
    return byte_level_metadata(tekken, ranks_of(tekken), "tekken")


@pytest.fixture(scope="module")
def tekken(tekken_metadata: dict[str, object]) -> VocabularyTokenizer:
    return load_gguf(tekken_metadata, "tekken.gguf")


@pytest.mark.parametrize("version", ["v1", "v3"])
@given(text=TEXT)
@settings(max_examples=150)
def test_sentencepiece_is_exact(spm: Mapping[str, VocabularyTokenizer], version: str, text: str) -> None:
    ours, original = spm[version], bundled(version)
    ids = original.encode(text)
    assert ours.encode(text) == ids
    assert ours.encode_continuation(text) == original.encode_continuation(text)
    assert ours.decode(ids) == original.decode(ids)


@given(text=TEXT)
@settings(max_examples=150)
def test_tekken_is_exact(tekken: VocabularyTokenizer, text: str) -> None:
    ids = bundled("v3-tekken").encode(text)
    assert tekken.encode(text) == tekken.encode_continuation(text) == ids
    assert tekken.decode(ids) == text


def test_what_the_files_say_of_themselves(spm: Mapping[str, VocabularyTokenizer], tekken: VocabularyTokenizer) -> None:
    for ours in (*spm.values(), tekken):
        original = bundled(ours.version or "")
        assert (ours.kind, ours.bos_id, ours.eos_id) == (original.kind, original.bos_id, original.eos_id)
        assert ours.vocab_size == original.vocab_size
        assert ours.control_tokens == original.control_tokens
        assert ours.dummy_prefix == original.dummy_prefix
        for token_id in range(0, ours.vocab_size, 7):
            assert ours.token_bytes(token_id) == original.token_bytes(token_id)
            assert ours.piece(token_id) == original.piece(token_id)


def test_a_missing_pre_is_taken_from_the_vocabulary(tekken_metadata: dict[str, object]) -> None:
    tokenizer = load_gguf({k: v for k, v in tekken_metadata.items() if k != "tokenizer.ggml.pre"}, "old.gguf")
    assert tokenizer.kind == "tekken"
    for text in SAMPLES:
        assert tokenizer.encode(text) == bundled("v3-tekken").encode(text)


@pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout")
def test_a_real_file() -> None:
    from ostro.checkpoint.gguf import GGUFFile

    path = STORIES / "stories260K.gguf"
    ours = load_gguf(GGUFFile(path).metadata, str(path))
    original = load_sentencepiece(STORIES / "hf" / "tokenizer.model")
    assert (ours.bos_id, ours.eos_id, ours.vocab_size) == (1, 2, 512)
    for text in SAMPLES:
        ids = original.encode(text)
        assert ours.encode(text) == ids
        assert ours.encode_continuation(text) == original.encode_continuation(text)
        assert ours.decode(ids) == original.decode(ids) == text


def test_arrays_may_be_numpys_and_strings_bytes() -> None:
    metadata = sentencepiece_metadata(processor("v1"))
    tokens = [token.encode() for token in metadata["tokenizer.ggml.tokens"]]  # type: ignore[attr-defined]
    metadata |= {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": np.array(metadata["tokenizer.ggml.scores"], np.float32),
        "tokenizer.ggml.token_type": np.array(metadata["tokenizer.ggml.token_type"], np.int32),
        "tokenizer.ggml.bos_token_id": np.uint32(1),
        "tokenizer.ggml.add_space_prefix": np.bool_(True),
        "tokenizer.chat_template": b"{{ bos_token }}",
    }
    tokenizer = load_gguf(metadata, "v1.gguf")
    assert tokenizer.encode("안녕 hi") == bundled("v1").encode("안녕 hi")
    assert tokenizer.chat_template == "{{ bos_token }}"


def test_without_a_space_prefix_nothing_is_added_or_dropped() -> None:
    metadata = sentencepiece_metadata(processor("v1"), **{"tokenizer.ggml.add_space_prefix": False})
    tokenizer = load_gguf(metadata, "v1.gguf")
    assert not tokenizer.dummy_prefix
    for text in SAMPLES:
        assert tokenizer.encode(text) == bundled("v1").encode_continuation(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def small_spm(**more: object) -> dict[str, object]:
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{i:02X}>" for i in range(256)),
        "▁",
        "a",
        "b",
        "ab",
        "▁ab",
        "<|im_end|>",
        "USER",
    ]
    kinds = [2, 3, 3, *[6] * 256, 1, 1, 1, 1, 1, 4, 4]
    scores = [0.0, 0.0, 0.0, *[0.0] * 256, -5.0, -4.0, -4.0, -1.0, -2.0, 0.0, 0.0]
    keys = ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores")
    return {"tokenizer.ggml.model": "llama", **dict(zip(keys, (pieces, kinds, scores), strict=True)), **more}


def test_user_defined_tokens_are_text_and_those_like_control_tokens_are_not() -> None:
    tokenizer = load_gguf(small_spm(**{"tokenizer.ggml.eos_token_id": 264}), "small.gguf")
    assert tokenizer.control_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2, "<|im_end|>": 264}
    assert tokenizer.encode("abUSERab") == [263, 265, 262]
    assert tokenizer.decode([263, 265, 262]) == "abUSERab"
    assert 264 not in tokenizer.encode("<|im_end|>")
    assert tokenizer.decode(tokenizer.encode("<|im_end|>")) == "<|im_end|>"
    assert tokenizer.encode_with_control("ab<|im_end|>") == [263, 264]
    assert (tokenizer.bos_id, tokenizer.version) == (None, None)


def test_one_unknown_token_is_enough_and_not_needed() -> None:
    metadata = small_spm()
    for kinds in ([3, 3, 3], [2, 2, 3]):
        metadata["tokenizer.ggml.token_type"] = [*kinds, *small_spm()["tokenizer.ggml.token_type"][3:]]  # type: ignore[index]
        tokenizer = load_gguf(metadata, "small.gguf")
        assert tokenizer.vocab_size == 266
        assert tokenizer.encode("ab") == [263]


def test_whether_text_begins_with_bos_is_as_the_file_says() -> None:
    for small in (small_spm, small_bpe):
        ends = {"tokenizer.ggml.bos_token_id": 258, "tokenizer.ggml.add_eos_token": True}
        assert load_gguf(small(**ends), "small.gguf").adds_bos
        for said in (False, True, np.bool_(False)):
            assert load_gguf(small(**ends, **{"tokenizer.ggml.add_bos_token": said}), "s.gguf").adds_bos is bool(said)
        assert not load_gguf(small(**{"tokenizer.ggml.add_bos_token": True}), "small.gguf").adds_bos
        with pytest.raises(TokenizerError, match="add_bos_token is 1, not of type bool"):
            load_gguf(small(**ends, **{"tokenizer.ggml.add_bos_token": 1}), "small.gguf")


def test_holes_that_a_converter_filled_stand_for_nothing() -> None:
    for metadata, fill in ((small_spm(), "[PAD266]"), (small_bpe(), "[PAD262]")):
        metadata["tokenizer.ggml.tokens"] = [*metadata["tokenizer.ggml.tokens"], fill]  # type: ignore[misc]
        metadata["tokenizer.ggml.token_type"] = [*metadata["tokenizer.ggml.token_type"], 5]  # type: ignore[misc]
        if "tokenizer.ggml.scores" in metadata:
            metadata["tokenizer.ggml.scores"] = [*metadata["tokenizer.ggml.scores"], -1000.0]  # type: ignore[misc]
        tokenizer = load_gguf(metadata, "padded.gguf")
        hole = tokenizer.vocab_size - 1
        assert (tokenizer.token_bytes(hole), tokenizer.piece(hole), tokenizer.is_control(hole)) == (b"", fill, False)
        assert tokenizer.decode([hole, *tokenizer.encode("ab"), hole]) == "ab"
        assert hole not in tokenizer.encode(fill)
        with pytest.raises(TokenizerError, match="is outside the vocabulary"):
            tokenizer.token_bytes(hole + 1)


def small_bpe(**more: object) -> dict[str, object]:
    tokens = [*BYTE_TO_LETTER.values(), "ab", "abc", "</s>", "<|eot_id|>", "USER X", "[PAD]"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 258 + [3, 1, 4, 5],
        "tokenizer.ggml.merges": ["a b", "ab c"],
        **more,
    }


def test_merges_never_make_a_control_token() -> None:
    metadata = small_bpe(**{"tokenizer.ggml.merges": ["a b", "ab c"]})
    tokenizer = load_gguf(metadata, "small.gguf")
    assert tokenizer.control_tokens == {"</s>": 258, "<|eot_id|>": 259}
    assert [tokenizer.token_bytes(i) for i in tokenizer.encode("abc")] == [b"abc"]
    assert tokenizer.encode("USER X")[:1] == [260]
    for name in ("</s>", "<|eot_id|>"):
        ids = tokenizer.encode(name)
        assert not any(map(tokenizer.is_control, ids))
        assert tokenizer.decode(ids) == name
    assert tokenizer.token_bytes(261) == b""


def test_gpt2s_letters() -> None:
    assert to_letters(b" a\n\x00") == "ĠaĊĀ"
    assert from_letters("ĠaĊĀ") == b" a\n\x00"
    assert [from_letters(BYTE_TO_LETTER[b])[0] for b in range(256)] == list(range(256))
    assert from_letters("한") == "한".encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.model": "t5"}, "tokenizer.ggml.model is 't5'"),
        ({"tokenizer.ggml.model": 7}, "tokenizer.ggml.model is 7, not of type str"),
        ({"tokenizer.ggml.pre": "qwen2"}, "tokenizer.ggml.pre is 'qwen2', a way to cut text that is not known"),
        ({"tokenizer.ggml.tokens": []}, "tokens is empty"),
        ({"tokenizer.ggml.token_type": [1, 2]}, "token_type has 2 entries, but tokenizer.ggml.tokens has 262"),
        ({"tokenizer.ggml.token_type": [9] * 262}, "token_type has a 9; types are 1 to 6"),
        ({"tokenizer.ggml.merges": ["a b", "ab"]}, "merges has 'ab', not two pieces and a space"),
        ({"tokenizer.ggml.merges": ["a zz"]}, "is no tokenizer that can be read"),
        ({"tokenizer.ggml.eos_token_id": 262}, "eos_id is 262, but the vocabulary has ids 0 to 261"),
        ({"tokenizer.ggml.bos_token_id": "1"}, "bos_token_id is '1', not of type int"),
        ({"tokenizer.ggml.add_space_prefix": True}, "add_space_prefix is true"),
        ({"tokenizer.ggml.tokens": ["x", *["y"] * 261]}, "lacks 25[0-9] of the 256 single bytes"),
        ({"tokenizer.ggml.tokens": 5}, "is malformed"),
        ({"tokenizer.ggml.token_type": ["x"] * 262}, "is malformed"),
        ({"tokenizer.ggml.tokens": [b"\xff"] * 262}, "is not UTF-8"),
    ],
)
def test_bad_metadata_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        load_gguf(small_bpe(**{"tokenizer.ggml.merges": ["a b"], **change}), "bad.gguf")


@pytest.mark.parametrize("key", ["model", "tokens", "scores"])
def test_missing_metadata_is_refused(key: str) -> None:
    metadata = small_spm()
    del metadata[f"tokenizer.ggml.{key}"]
    with pytest.raises(TokenizerError, match=f"bad.gguf: the metadata has no tokenizer.ggml.{key}"):
        load_gguf(metadata, "bad.gguf")


def test_a_score_must_be_a_number() -> None:
    scores = [*small_spm()["tokenizer.ggml.scores"][:-1], float("nan")]  # type: ignore[index]
    with pytest.raises(TokenizerError, match=r"scores has a NaN"):
        load_gguf(small_spm(**{"tokenizer.ggml.scores": scores}), "bad.gguf")


def test_scores_must_fit_and_pieces_be_unique() -> None:
    with pytest.raises(TokenizerError, match=r"scores has 1 entries"):
        load_gguf(small_spm(**{"tokenizer.ggml.scores": [0.0]}), "bad.gguf")
    twice = [*small_spm()["tokenizer.ggml.tokens"][:-1], "ab"]  # type: ignore[index]
    with pytest.raises(TokenizerError, match=r"bad.gguf is no SentencePiece model"):
        load_gguf(small_spm(**{"tokenizer.ggml.tokens": twice}), "bad.gguf")
