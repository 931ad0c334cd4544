"""Mistral's own files against sentencepiece and mistral-common, id for id."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mistral_common
import pytest
import sentencepiece
from hypothesis import given, settings
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizer_conversions import CONTROL_NAMES, SAMPLES, STORIES, TEXT

from ostro.errors import TokenizerError
from ostro.tokenizer.base import Tokenizer
from ostro.tokenizer.mistral import bundled, load_sentencepiece, load_tekken, spm_version, tekken_version
from ostro.tokenizer.spm import serialize_model

DATA = Path(mistral_common.__file__).parent / "data"
SPM = ("v1", "v2", "v3", "v7")
TEKKEN = ("v3-tekken", "v7-tekken")


@pytest.mark.parametrize("version", SPM)
@given(text=TEXT)
@settings(max_examples=80)
def test_sentencepiece_encodes_and_decodes_as_the_library_does(version: str, text: str) -> None:
    ours = bundled(version)
    theirs = sentencepiece.SentencePieceProcessor(model_file=ours.source)
    ids = ours.encode(text)
    assert ids == theirs.encode(text)
    assert ours.decode(ids) == text.replace("▁", " ") == theirs.decode(ids)
    assert not any(map(ours.is_control, ids))
    mixed = [1, *ids, 2, *ids]
    assert ours.decode(mixed) == theirs.decode(mixed)


@pytest.mark.parametrize("version", TEKKEN)
@given(text=TEXT)
@settings(max_examples=80)
def test_tekken_encodes_and_decodes_as_mistral_common_does(version: str, text: str) -> None:
    ours = bundled(version)
    ids = ours.encode(text)
    assert ids == ours.encode_continuation(text) == tekkenizer(version).encode(text, bos=False, eos=False)
    assert ours.decode(ids) == text
    assert not any(map(ours.is_control, ids))


def tekkenizer(version: str, made: dict[str, Tekkenizer] = {}) -> Tekkenizer:  # noqa: B006 - a cache on purpose
    if version not in made:
        made[version] = Tekkenizer.from_file(bundled(version).source)
    return made[version]


@pytest.mark.parametrize("version", [*SPM, *TEKKEN])
def test_control_tokens_are_mistral_commons(version: str) -> None:
    ours = bundled(version)
    path = ours.source
    theirs = MistralTokenizer.from_file(path).instruct_tokenizer.tokenizer
    assert ours.version == version
    assert ours.vocab_size == theirs.n_words
    assert (ours.bos_id, ours.eos_id) == (theirs.bos_id, theirs.eos_id)
    assert set(ours.control_tokens.values()) - {0} == theirs.special_ids - {0}
    for name, token_id in ours.control_tokens.items():
        assert ours.control_id(name) == theirs.get_special_token(name) == token_id
        assert ours.piece(token_id) == name
        assert ours.is_control(token_id)
        assert ours.token_bytes(token_id) == b""


@pytest.mark.parametrize("version", [*SPM, *TEKKEN])
def test_bytes_of_tokens_make_up_the_text(version: str) -> None:
    tokenizer = bundled(version)
    for text in SAMPLES:
        for ids, prefix in (
            (tokenizer.encode(text), " " * tokenizer.dummy_prefix),
            (tokenizer.encode_continuation(text), ""),
        ):
            assert b"".join(map(tokenizer.token_bytes, ids)).decode() == (prefix if text else "") + text
    assert {tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)} >= {bytes([b]) for b in range(256)}


@pytest.mark.parametrize(
    ("version", "text", "ids"),
    [
        ("v1", "Hello", [22557]),
        ("v1", "안녕 🙋", [28705, 30325, 238, 136, 152, 28705, 243, 162, 156, 142]),
        ("v3", "Hello", [23325]),
        ("v3", "한국어", [29473, 30050, 31547, 30201]),
        ("v7", "[INST] hi", [1501, 17057, 29561, 12782]),
        ("v3-tekken", "Hello 한국어 🙋", [22177, 38243, 2897, 119685, 1153, 1139]),
    ],
)
def test_golden_ids(version: str, text: str, ids: list[int]) -> None:
    assert bundled(version).encode(text) == ids


@pytest.mark.parametrize("version", [*SPM, *TEKKEN])
def test_names_of_control_tokens_in_text_stay_text(version: str) -> None:
    tokenizer = bundled(version)
    for name in {*CONTROL_NAMES, *tokenizer.control_tokens}:
        for ids in (tokenizer.encode(name), tokenizer.encode_continuation(name), tokenizer.encode(f"a{name}b {name}")):
            assert not any(map(tokenizer.is_control, ids))


def test_templates_are_encoded_with_control_tokens() -> None:
    v3 = bundled("v3")
    assert v3.encode_with_control("<s>[INST] hi[/INST]") == [1, 3, *v3.encode("hi"), 4]
    assert v3.encode_with_control("hi</s>") == [*v3.encode("hi"), 2]
    assert v3.encode_with_control("") == []
    assert v3.decode([1, 3, *v3.encode("hi"), 4], keep_control=True) == "<s>[INST] hi[/INST]"


def test_continuation_has_no_dummy_space() -> None:
    v3 = bundled("v3")
    assert v3.piece(v3.encode("hi")[0]) == "▁hi"
    assert v3.piece(v3.encode_continuation("hi")[0]) == "hi"
    assert v3.encode_continuation(" hi") == v3.encode("hi")
    assert v3.encode("") == v3.encode_continuation("") == []


def test_tekken_pieces_can_be_read() -> None:
    tekken = bundled("v3-tekken")
    assert [tekken.piece(i) for i in (1, 3, 1000 + 0xE1, 22177)] == ["<s>", "[INST]", "<0xE1>", "Hello"]
    assert bundled("v1").piece(3 + 0xE1) == "<0xE1>"


@pytest.mark.parametrize("version", ["v1", "v3-tekken"])
def test_what_is_out_of_range_is_refused(version: str) -> None:
    tokenizer = bundled(version)
    for token_id in (-1, tokenizer.vocab_size):
        with pytest.raises(TokenizerError, match=rf"Token id {token_id} is outside .* 0 to {tokenizer.vocab_size - 1}"):
            tokenizer.decode([token_id])
    with pytest.raises(TokenizerError, match=r"lone surrogate, U[+]D800, at character 1"):
        tokenizer.encode("a\ud800")
    with pytest.raises(TokenizerError, match=r"has no control token '<.eot_id.>'; it has '<unk>', '<s>'"):
        tokenizer.control_id("<|eot_id|>")


def test_very_long_runs_are_encoded() -> None:
    # mistral-common itself gives up here ("Max stack size exceeded for backtracking").
    for text in (" " * 300_000, "a" * 300_000, "\n" * 300_000):
        for version in ("v3", "v3-tekken"):
            assert bundled(version).decode(bundled(version).encode(text)) == text


def test_encoding_from_many_threads_gives_the_same_ids() -> None:
    for tokenizer in (load_sentencepiece(DATA / "tokenizer.model.v1"), bundled("v3-tekken")):
        texts = [text * 20 for text in SAMPLES] * 4
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(tokenizer.encode, texts)) == [tokenizer.encode(text) for text in texts]
            assert list(pool.map(tokenizer.encode_continuation, texts)) == [*map(tokenizer.encode_continuation, texts)]


def test_versions_are_told_by_suffix_then_by_content() -> None:
    v1, v3, v7 = (bundled(v) for v in ("v1", "v3", "v7"))

    def pieces(tokenizer: Tokenizer) -> list[str]:
        return [tokenizer.piece(i) for i in range(tokenizer.vocab_size)]

    assert spm_version("tokenizer.model.v2", pieces(v3), v3.control_tokens) == "v2"
    assert spm_version("x.model.v7m1", pieces(v7), v7.control_tokens) == "v7"
    assert spm_version("tokenizer.model", pieces(v3), v3.control_tokens) == "v3"
    assert spm_version("tokenizer.model", pieces(v7), v7.control_tokens) == "v7"
    assert spm_version("tokenizer.model", [*pieces(v1), "<|im_end|>"], v1.control_tokens) == "v1"
    assert spm_version("tokenizer.model", [*pieces(v1)[:-1], "x"], v1.control_tokens) is None
    assert tekken_version({"<s>", "[INST]"}) == "v3-tekken"
    assert tekken_version({"<s>", "[INST]", "[SYSTEM_PROMPT]"}) == "v7-tekken"
    assert tekken_version({"<s>", "[INST]", "[SYSTEM_PROMPT]", "[ARGS]"}) is None
    assert tekken_version({"<|eot_id|>"}) is None


@pytest.mark.skipif(not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout")
def test_another_familys_sentencepiece_model() -> None:
    tokenizer = load_sentencepiece(STORIES / "hf" / "tokenizer.model")
    assert (tokenizer.kind, tokenizer.version, tokenizer.vocab_size) == ("spm", None, 512)
    assert tokenizer.control_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.dummy_prefix) == (1, 2, True)


def test_a_vocabulary_without_byte_fallback_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(serialize_model([("<unk>", 0, 2), ("a", -1, 1)], add_dummy_prefix=True))
    with pytest.raises(TokenizerError, match=r"tokenizer.model"):
        load_sentencepiece(path)


@pytest.mark.parametrize("content", [b"", b"\x00\xff garbage", b"\n\x0e\n\x05"])
def test_damaged_sentencepiece_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.model"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer.model is no SentencePiece model that can be read"):
        load_sentencepiece(path)


def test_truncated_sentencepiece_files_are_refused(tmp_path: Path) -> None:
    whole = (DATA / "tokenizer.model.v1").read_bytes()
    for size in (100, 5_000, len(whole) // 2, len(whole) - 1):
        path = tmp_path / "tokenizer.model"
        path.write_bytes(whole[:size])
        with pytest.raises(TokenizerError, match=r"tokenizer.model"):
            load_sentencepiece(path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"config": {"version": "v99"}}', '{"config": {"version": "v3"}}']
)
def test_damaged_tekken_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tekken.json"
    path.write_text(content)
    with pytest.raises(TokenizerError, match=r"tekken.json is no Tekken vocabulary"):
        load_tekken(path)


def test_user_defined_pieces_like_control_tokens_are_control_tokens(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), *((f"<0x{i:02X}>", 0.0, 6) for i in range(256))]
    more = [("<|im_end|>", 0.0, 4), ("USER", 0.0, 4), ("▁", -1.0, 1)]
    path = tmp_path / "tokenizer.model"
    path.write_bytes(serialize_model([*pieces, *more], add_dummy_prefix=True))
    tokenizer = load_sentencepiece(path)
    assert tokenizer.control_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2, "<|im_end|>": 259}
    assert 259 not in tokenizer.encode("<|im_end|>")
    assert tokenizer.decode(tokenizer.encode("<|im_end|> USER")) == "<|im_end|> USER"
    assert tokenizer.encode("USER") == [261, 260]


def test_only_bundled_versions_are_bundled() -> None:
    with pytest.raises(TokenizerError, match="No bundled tokenizer 'v4': there are v1, v2, v3, v7"):
        bundled("v4")
    assert bundled("v1") is bundled("v1")
