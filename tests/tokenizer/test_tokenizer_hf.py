"""tokenizer.json of both kinds, against the files it was made from and against transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from tokenizer_conversions import (
    SAMPLES,
    STORIES,
    TEXT,
    letter_pieces,
    merges_of,
    ranks_of,
    sentencepiece_merges,
    tokenizer_json,
)

from ostro.errors import TokenizerError
from ostro.tokenizer.bpe import BYTE_TO_LETTER, GPT2_PATTERN, pre_tokenizer
from ostro.tokenizer.files import Settings
from ostro.tokenizer.hf import HfTokenizer, load_hf
from ostro.tokenizer.mistral import bundled, load_sentencepiece
from ostro.tokenizer.tiktoken import LLAMA3_PATTERN

FEW = {"a": 0, "b": 1, **{f"word {i}": i for i in range(2, 100)}}
PREPEND: dict[str, Any] = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
METASPACE: dict[str, Any] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}


@pytest.fixture(scope="module", params=["normalizer", "metaspace"])
def v3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HfTokenizer:
    original = bundled("v3")
    processor = sentencepiece.SentencePieceProcessor(model_file=original.source)
    pieces = [original.piece(i) for i in range(original.vocab_size)]
    how = {"normalizer": PREPEND} if request.param == "normalizer" else {"normalizer": None}
    cut = None if request.param == "normalizer" else METASPACE
    text = tokenizer_json(
        pieces, sentencepiece_merges(processor), original.control_tokens,
        pre_tokenizer=cut, **how, byte_fallback=True, unk_token="<unk>", fuse_unk=True,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("v3") / "tokenizer.json"
    path.write_text(text)
    return load_hf(path)


@pytest.fixture(scope="module")
def tekken(tmp_path_factory: pytest.TempPathFactory) -> HfTokenizer:
    """With the regex of Llama 3, as several of Mistral's own repositories have it."""
    original = bundled("v3-tekken")
    text = tokenizer_json(
        letter_pieces(original), merges_of(ranks_of(original)), original.control_tokens,
        pre_tokenizer=pre_tokenizer(LLAMA3_PATTERN), ignore_merges=True,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tekken") / "tokenizer.json"
    path.write_text(text)
    return load_hf(path)


@given(text=TEXT)
@settings(max_examples=120)
def test_sentencepiece_like_files_encode_as_sentencepiece(v3: HfTokenizer, text: str) -> None:
    original = bundled("v3")
    ids = original.encode(text)
    assert v3.encode(text) == ids
    assert v3.encode_continuation(text) == original.encode_continuation(text)
    assert v3.decode(ids) == original.decode(ids)
    assert not any(map(v3.is_control, ids))


@given(text=TEXT)
@settings(max_examples=120)
def test_tekkens_wrong_regex_is_mended(tekken: HfTokenizer, text: str) -> None:
    ids = bundled("v3-tekken").encode(text)
    assert tekken.encode(text) == tekken.encode_continuation(text) == ids
    assert tekken.decode(ids) == text
    assert tekken.encode_with_control(f"<s>[INST]{text}") == bundled("v3-tekken").encode_with_control(
        f"<s>[INST]{text}"
    )


def test_what_the_files_say_of_themselves(v3: HfTokenizer, tekken: HfTokenizer) -> None:
    # The oldest Tekken file names [SYSTEM_PROMPT] already, so a conversion of it passes for v7.
    for ours, original, version in ((v3, bundled("v3"), "v3"), (tekken, bundled("v3-tekken"), "v7-tekken")):
        assert (ours.kind, ours.version, ours.vocab_size) == (original.kind, version, original.vocab_size)
        assert (ours.bos_id, ours.eos_id) == (1, 2)
        assert ours.control_tokens == original.control_tokens
        for token_id in range(0, ours.vocab_size, 7):
            assert ours.token_bytes(token_id) == original.token_bytes(token_id)
            assert ours.piece(token_id) == original.piece(token_id)


def test_a_template_is_encoded_as_transformers_does(v3: HfTokenizer, tekken: HfTokenizer) -> None:
    from transformers import PreTrainedTokenizerFast

    texts = ("<s>[INST] hi [/INST]", "hi</s>", "<s> hi", "[INST]한국[/INST] [TOOL_CALLS]", "")
    theirs = PreTrainedTokenizerFast(tokenizer_file=v3.source)
    for text in texts:
        assert v3.encode_with_control(text) == theirs.encode(text, add_special_tokens=False)
    for text in texts:
        assert tekken.encode_with_control(text) == bundled("v3-tekken").encode_with_control(text)


@pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout")
@given(text=TEXT)
@settings(max_examples=120)
def test_a_real_file(text: str) -> None:
    ours = load_hf(STORIES / "hf" / "tokenizer.json")
    original = load_sentencepiece(STORIES / "hf" / "tokenizer.model")
    assert ours.encode(text) == original.encode(text)
    assert ours.encode_continuation(text) == original.encode_continuation(text)
    assert ours.decode(ours.encode(text)) == text.replace("▁", " ")


def small(path: Path, **change: Any) -> Path:
    """A byte-level file with two merges, of which one spells a control token, and four added tokens."""
    pieces = [*BYTE_TO_LETTER.values(), "ab", "</", "s>", "</s>"]
    merges = [("a", "b"), ("<", "/"), ("s", ">"), ("</", "s>")]
    data = json.loads(
        tokenizer_json(
            pieces, merges, ["</s>"], pre_tokenizer=pre_tokenizer(r"[\s\S]+"), ignore_merges=True, unk_token=None
        )
    )
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    data["added_tokens"] += [
        {"id": 300, "content": "<|im_start|>", **plain},
        {"id": 262, "content": "TEXT", **plain},
        {"id": 263, "content": "<s>", **plain, "special": True},
    ]
    data["post_processor"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    path.write_text(json.dumps(data | change))
    return path


def test_no_text_reaches_a_control_token(tmp_path: Path) -> None:
    tokenizer = load_hf(small(tmp_path / "tokenizer.json"))
    assert tokenizer.control_tokens == {"</s>": 259, "<|im_start|>": 300, "<s>": 263}
    assert tokenizer.vocab_size == 301
    for name in tokenizer.control_tokens:
        ids = tokenizer.encode(name)
        assert not any(map(tokenizer.is_control, ids))
        assert tokenizer.decode(ids) == name
        assert tokenizer.encode_with_control(name) == [tokenizer.control_id(name)]


def test_added_tokens_that_are_text_keep_their_ids(tmp_path: Path) -> None:
    tokenizer = load_hf(small(tmp_path / "tokenizer.json"))
    assert tokenizer.encode("abTEXTab") == [256, 262, 256]
    assert tokenizer.decode([256, 262, 256]) == "abTEXTab"
    assert tokenizer.piece(262) == "TEXT"
    assert (tokenizer.piece(280), tokenizer.token_bytes(280)) == ("", b"")


def test_ids_that_the_file_leaves_out_stand_for_nothing(tmp_path: Path) -> None:
    """Of a byte-level file (264 to 299) and of a SentencePiece-like one."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a"]
    description = json.loads(
        tokenizer_json(pieces, [], ["<unk>"], pre_tokenizer=None, normalizer=PREPEND, byte_fallback=True)
    )
    description["model"]["vocab"]["a"] = 300
    path = tmp_path / "spm.json"
    path.write_text(json.dumps(description))
    for tokenizer in (load_hf(small(tmp_path / "tokenizer.json")), load_hf(path)):
        assert tokenizer.vocab_size == 301
        for hole in (264, 280, 299):
            assert (tokenizer.token_bytes(hole), tokenizer.piece(hole)) == (b"", "")
            assert not tokenizer.is_control(hole)
            assert tokenizer.decode([hole, *tokenizer.encode("a b"), hole], keep_control=True) == "a b"
        assert not tokenizer.is_control(301)
        for beyond in (301, 10**6, -1):
            with pytest.raises(TokenizerError, match=rf"{beyond} is outside the vocabulary .* 0 to 300"):
                tokenizer.token_bytes(beyond)
        assert "" not in tokenizer.control_tokens


def test_bos_and_eos_are_those_named(tmp_path: Path) -> None:
    path = small(tmp_path / "tokenizer.json")
    assert (load_hf(path).bos_id, load_hf(path).eos_id) == (263, 259)
    named = load_hf(path, Settings(bos="ab", eos="<|im_start|>", chat_template="T"))
    assert (named.bos_id, named.eos_id, named.chat_template) == (256, 300, "T")
    assert named.is_control(256)
    assert 256 not in named.encode("ab")


@pytest.mark.parametrize("text", SAMPLES)
def test_gpt2s_regex_is_the_librarys_own(text: str, tmp_path: Path) -> None:
    own = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    first = load_hf(small(tmp_path / "a.json", pre_tokenizer=own))
    second = load_hf(small(tmp_path / "b.json", pre_tokenizer=pre_tokenizer(GPT2_PATTERN)))
    assert first.encode(text) == second.encode(text)
    assert first.decode(first.encode(text)) == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}}}, "model WordPiece is not known"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": []}}, "has no model.vocab"),
        ({"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []}}, "the id of 'a' is 'b', not a number"),
        ({"model": {"type": "BPE", "vocab": FEW, "merges": []}}, "lacks 254 of the 256 single bytes"),
        ({"model": None}, "has no model.vocab"),
        ({"added_tokens": [{"content": "x"}]}, "has no id or no content"),
        ({"added_tokens": [{"content": "x", "id": 10**9}]}, "the largest id is 1000000000"),
        ({"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}}, "ByteLevel with add_prefix_space"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "pre_tokenizer Whitespace is not known"),
        ({"pre_tokenizer": None}, "BPE, neither byte-level nor with byte fallback, is not known"),
        ({"pre_tokenizer": {"kind": "ByteLevel"}}, "is malformed"),
        ({"pre_tokenizer": "ByteLevel"}, "is malformed"),
        ({"added_tokens": [7]}, "is malformed"),
        ({"added_tokens": {"a": 1}}, "is malformed"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b c"]}}, "tokenizer.json: "),
        ({"normalizer": {"type": "Fancy"}}, "is no tokenizer that can be read"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        load_hf(small(tmp_path / "tokenizer.json", **change))


def test_a_sentencepiece_like_file_without_byte_fallback_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer_json(["<unk>", "▁", "a"], [], ["<unk>"], pre_tokenizer=METASPACE, unk_token="<unk>"))
    with pytest.raises(TokenizerError, match="byte fallback"):
        load_hf(path)
    path.write_text(path.read_text().replace('"unk_token"', '"byte_fallback": true, "unk_token"'))
    with pytest.raises(TokenizerError, match="lacks 256 of the 256 single bytes, the first '<0x00>'"):
        load_hf(path)


def test_other_normalizers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    pieces = ["<unk>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a"]
    for normalizer, name in (
        ({"type": "NFKC"}, "NFKC"),
        ({"type": "Sequence", "normalizers": [{"type": "Strip"}]}, "Strip"),
    ):
        path.write_text(
            tokenizer_json(pieces, [], ["<unk>"], pre_tokenizer=None, normalizer=normalizer, byte_fallback=True)
        )
        with pytest.raises(TokenizerError, match=f"normalizer {name} is not known"):
            load_hf(path)


@pytest.mark.parametrize("content", ["", "{", '{"model": {"type": "BPE", "vocab": {"a": 0', "[]", "{}", "\x00"])
def test_damaged_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer.json"):
        load_hf(path)
