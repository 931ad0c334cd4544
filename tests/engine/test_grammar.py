"""Grammars over every kind of vocabulary: whatever tokens are drawn, the answer has the form."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from random_answers import Vocabularies, validator
from schemas import PERSON, SCHEMAS, schemas
from tokenizer_conversions import (
    STORIES,
    byte_level_metadata,
    letter_pieces,
    merges_of,
    ranks_of,
    sentencepiece_merges,
    sentencepiece_metadata,
    tokenizer_json,
)
from toy_tokenizer import toy

from ostro.engine.grammar import Guide
from ostro.engine.guided import Guided
from ostro.errors import RequestError
from ostro.tokenizer import bpe
from ostro.tokenizer.base import Tokenizer
from ostro.tokenizer.load import load_tokenizer
from ostro.tokenizer.mistral import bundled
from ostro.tokenizer.tiktoken import LLAMA3_PATTERN

CASES = [*SCHEMAS.items()]


def tiktoken_file(folder: Path) -> Tokenizer:
    """The first tokens of Tekken, which are all bytes and what is made of them, in the form of Meta's file."""
    tekken = bundled("v3-tekken")
    lines = [base64.b64encode(tekken.token_bytes(1000 + rank)) + b" %d\n" % rank for rank in range(4000)]
    (folder / "tokenizer.model").write_bytes(b"".join(lines))
    return load_tokenizer(folder)


def llama3(_folder: Path) -> Tokenizer:
    spec = importlib.util.find_spec("llama_models")
    if spec is None or spec.origin is None:
        pytest.skip("llama_models is not installed")
    return load_tokenizer(Path(spec.origin).parent / "llama3" / "tokenizer.model")


def hf_byte_level(folder: Path) -> Tokenizer:
    own = tiktoken_file(folder)
    names = [own.piece(i) for i in range(own.vocab_size) if own.is_control(i)]
    cut = bpe.pre_tokenizer(LLAMA3_PATTERN)
    written = tokenizer_json(letter_pieces(own), merges_of(ranks_of(own)), names, pre_tokenizer=cut)
    (folder / "tokenizer.json").write_text(written, encoding="utf-8")
    return load_tokenizer(folder / "tokenizer.json")


def hf_sentencepiece(folder: Path) -> Tokenizer:
    processor = sentencepiece.SentencePieceProcessor(model_file=bundled("v1").source)
    pieces = [processor.id_to_piece(i) for i in range(processor.vocab_size())]
    normalizers = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    written = tokenizer_json(
        pieces,
        sentencepiece_merges(processor),
        ["<unk>", "<s>", "</s>"],
        pre_tokenizer=None,
        normalizer={"type": "Sequence", "normalizers": normalizers},
        byte_fallback=True,
        fuse_unk=True,
        unk_token="<unk>",
    )
    (folder / "tokenizer.json").write_text(written, encoding="utf-8")
    return load_tokenizer(folder)


def gguf_sentencepiece(_folder: Path) -> Tokenizer:
    processor = sentencepiece.SentencePieceProcessor(model_file=bundled("v3").source)
    return load_tokenizer(gguf_metadata=sentencepiece_metadata(processor))


def gguf_byte_level(folder: Path) -> Tokenizer:
    own = tiktoken_file(folder)
    return load_tokenizer(gguf_metadata=byte_level_metadata(own, ranks_of(own), "llama-bpe"))


def stories(_folder: Path) -> Tokenizer:
    if not STORIES.exists():
        pytest.skip("the stories260K checkpoint is not beside this checkout")
    return load_tokenizer(STORIES / "hf")


KINDS: dict[str, Callable[[Path], Tokenizer]] = {
    "spm v1": lambda _: bundled("v1"),
    "spm v7": lambda _: bundled("v7"),
    "tekken": lambda _: bundled("v3-tekken"),
    "tiktoken": tiktoken_file,
    "llama 3": llama3,
    "hf byte-level": hf_byte_level,
    "hf sentencepiece": hf_sentencepiece,
    "gguf sentencepiece": gguf_sentencepiece,
    "gguf byte-level": gguf_byte_level,
    "stories": stories,
    "bytes": lambda _: toy(),
}


@pytest.fixture(scope="module", params=KINDS)
def vocabularies(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vocabularies:
    return Vocabularies(KINDS[request.param](tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture(scope="module")
def v3() -> Vocabularies:
    return Vocabularies(bundled("v3"))


def one_line(text: str) -> bool:
    """Whether JSON has no whitespace outside of strings but a space behind a comma or a colon."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    return re.fullmatch(r"(?:[^\s,:]|[,:] ?)*", bare) is not None


@pytest.mark.parametrize("at_start", [True, False])
def test_answers_satisfy_their_schema(vocabularies: Vocabularies, at_start: bool) -> None:
    for number, (name, schema) in enumerate(CASES):
        text, ids = vocabularies.answer(Guided(json_schema=schema), number, at_start=at_start)
        validator(schema).validate(json.loads(text))
        assert one_line(text), (name, text)
        assert not any(vocabularies.tokenizer.is_control(i) for i in ids)


def test_other_forms(vocabularies: Vocabularies) -> None:
    for seed in range(3):
        text, _ = vocabularies.answer(Guided(json_object=True), seed)
        assert isinstance(json.loads(text), dict)
        text, _ = vocabularies.answer(Guided(regex=r"(\d{3}-\d{4}|전화 없음 ?)/[a-z]+"), seed)
        assert re.fullmatch(r"(\d{3}-\d{4}|전화 없음 ?)/[a-z]+", text)
        choices = ["예", "아니요", " yes", "yes and no", '"', "a\nb"]
        text, _ = vocabularies.answer(Guided(choice=choices), seed)
        assert text in choices
        grammar = 'start: sum\nsum: NUMBER ("+" NUMBER){1,3} "=" /[0-9]{2}/\nNUMBER: /[1-9][0-9]?/'
        text, _ = vocabularies.answer(Guided(grammar=grammar), seed)
        assert re.fullmatch(r"[1-9][0-9]?(\+[1-9][0-9]?){1,3}=[0-9]{2}", text)


@pytest.mark.parametrize("at_start", [True, False])
def test_what_the_tokenizer_writes_is_accepted(vocabularies: Vocabularies, at_start: bool) -> None:
    texts = ['{"name": "A b", "born": "2024-02-29", "mood": 3}', '{"name":"é","born":"1999-12-31","mood":"glad"}']
    texts.append('{"name": "뷁 \\u0001\\"", "born": "2024-01-01", "height": 1.25, "mood": null, "tags": ["a", "b"]}')
    person = Guided(json_schema=PERSON)
    for text in texts:
        assert vocabularies.accepts(person, text, at_start=at_start), text
    for wrong in ("", "{", "[]", '{"name": "A"}', texts[0].replace(" ", "  "), " " + texts[0], texts[0] + " "):
        assert not vocabularies.accepts(person, wrong, at_start=at_start), wrong
    spaces = Guided(choice=[" a", "  b", "c"])
    assert [vocabularies.accepts(spaces, t, at_start=at_start) for t in (" a", "a", "  b", " b", "c", " c")] == [
        True,
        False,
    ] * 3


def test_control_tokens_by_their_ids(vocabularies: Vocabularies) -> None:
    """Such as a marker of tool calls, before the text of a message."""
    tokenizer = vocabularies.tokenizer
    first, second = sorted(tokenizer.control_tokens.values())[-2:]
    schema = (
        '{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": false}'
    )
    guided = Guided(grammar=f'start: <[{first}]> %json {schema} ("," <[{second}]>)?')
    guide = Guide(vocabularies.compile(guided), at_start=True)
    assert guide.allowed(frozenset()).tolist() == [first]
    text, ids = vocabularies.answer(guided, 1)
    assert ids[0] == first
    assert re.fullmatch(r'\{\s*"a"\s*:\s*(true|false)\s*\},?', text)
    for token_id in (first, *tokenizer.encode('{"a": true}')):
        assert token_id in guide.allowed(frozenset()), tokenizer.piece(token_id)
        guide.advance(token_id)
    assert second not in guide.allowed(frozenset())
    assert not guide.is_complete


@settings(max_examples=120)
@given(schema=schemas, seed=st.integers(0, 1000))
def test_any_schema_is_satisfied_or_refused(v3: Vocabularies, schema: Any, seed: int) -> None:
    guided = Guided(json_schema=schema)
    try:
        v3.compile(guided)
    except RequestError as refused:
        if re.search("cannot be satisfied|a oneOf whose|min/maxProperties only|allows no text", str(refused)):
            return
        raise
    text, _ = v3.answer(guided, seed)
    validator(schema).validate(json.loads(text))
    assert one_line(text)


PATTERNS = (
    r'^[^"]$', r"^[^\\]$", r'^[^"\\]$', r'^[^"\n]$', r"^[^\x22a-z]$", r"^.$", r"^[^a]$", r"^\w$", r"^\W$", r"^\d$",
    r"^\D$", r'^[^\W"]$', r"^[\s\S]$", r"^[\x01-!#-~]$", r'^(a|[^"])$', r"^[^[:alpha:]]$", r"^[^\p{L}]$", r"^[^]a]$",
    r"^(--|\\P|é)$", r"^[가-힣]$", r"^[^가-힣\n]$", r"^[/\\]$",
)  # fmt: skip
CHARACTERS = [*map(chr, range(1, 128)), "é", "힣", "\u2028", "\ufeff", "😀", "--", "\\P", ""]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_is_enforced_to_the_letter(pattern: str) -> None:
    """Of all that is enforced, JSON's escapes make this the most intricate."""
    vocabularies = Vocabularies(toy())
    guided = Guided(json_schema={"type": "string", "pattern": pattern, "maxLength": 3})
    python = pattern.replace("[:alpha:]", "a-zA-Z").replace("^[^]a]$", r"^[^\]a]$").replace(r"\p{L}", "a-zA-Zé힣")
    wrong = [
        text
        for text in CHARACTERS
        if vocabularies.accepts(guided, json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f"))
        != (re.search(python, text, re.ASCII) is not None)
    ]
    assert wrong == []


@given(text=st.text(max_size=30))
def test_any_string_can_be_said(v3: Vocabularies, text: str) -> None:
    """Strings are not limited to what is easy to write: all but what JSON itself escapes stands as it is."""
    assert v3.accepts(
        Guided(json_schema={"type": "string"}), json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    )


def test_forced_text_is_what_must_come(vocabularies: Vocabularies) -> None:
    schema = {"type": "object", "properties": {"first name": {"type": "boolean"}}, "required": ["first name"]}
    guide = Guide(vocabularies.compile(Guided(json_schema=schema)), at_start=False)
    forced = guide.forced()
    said = b"".join(vocabularies.tokenizer.token_bytes(i) for i in forced)
    assert len(said) >= 8
    assert b'{"first name":'.startswith(said)
    assert guide.possible([*forced, vocabularies.tokenizer.vocab_size, 10**6]) == forced
    assert guide.possible([10**9]) == []
    for token_id in forced:
        assert token_id in guide.allowed(frozenset())
        guide.advance(token_id)
