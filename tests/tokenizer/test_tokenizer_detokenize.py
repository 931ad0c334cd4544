"""The streaming detokenizer against the decoding of the whole, and against Python's decoder."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_conversions import TEXT, tokenizer_json

from ostro.errors import TokenizerError
from ostro.tokenizer.base import Tokenizer
from ostro.tokenizer.bpe import pre_tokenizer, to_letters
from ostro.tokenizer.detokenize import StreamDetokenizer
from ostro.tokenizer.gguf import load_gguf
from ostro.tokenizer.hf import load_hf
from ostro.tokenizer.mistral import bundled
from ostro.tokenizer.tiktoken import load_tiktoken
from ostro.tokenizer.vocabulary import byte_piece

VERSIONS = ("v1", "v3", "v3-tekken")
"""Bundled vocabularies."""
NAMES = (*VERSIONS, "tiktoken", "json-spm", "json-bytes", "gguf-spm", "gguf-bytes")
"""One of each class, and of each kind that a class reads."""

# Merges that go across the borders of characters and of UTF-8 sequences, as real vocabularies have them.
_WORDS = (b"he", b"ll", b"hell", b" h", b"\xed\x95", b"\x95\x9c", b"\xa9\xf0", b"\xf0\x9f\x91", b"\r\n")
_PIECES = ("<unk>", "<s>", "</s>", *map(byte_piece, range(256)), "▁", "h", "e", "he", "▁he", "▁▁", "한", "é")


@cache
def vocabulary(name: str) -> Tokenizer:
    """A tokenizer of the name, small unless it is bundled; ids that stand for nothing are among the small ones'."""
    if name in VERSIONS:
        return bundled(name)
    ranks = [*(bytes([i]) for i in range(256)), *_WORDS]
    letters = [*map(to_letters, ranks), "<s>", "</s>", "[PAD]"]
    metadata: dict[str, object]
    match name:
        case "tiktoken":
            lines = [base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranks)]
            return _loaded(b"".join(lines), load_tiktoken)
        case "json-spm":
            how = {"normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "split": False}}
            return _loaded(_with_a_hole(tokenizer_json(_PIECES, [], _PIECES[:3], byte_fallback=True, **how)), load_hf)
        case "json-bytes":
            cut = pre_tokenizer(r"\s+")
            return _loaded(_with_a_hole(tokenizer_json(letters, [], ["<s>", "</s>"], pre_tokenizer=cut)), load_hf)
        case "gguf-spm":
            kinds = [2, 3, 3, *[6] * 256, *[1] * (len(_PIECES) - 259), 5]
            metadata = {"model": "llama", "tokens": [*_PIECES, "[PAD]"], "scores": [-1.0] * len(kinds)}
            metadata |= {"token_type": kinds}
        case _:
            metadata = {"model": "gpt2", "tokens": letters, "merges": [], "token_type": [*[1] * len(ranks), 3, 3, 5]}
    return load_gguf({f"tokenizer.ggml.{key}": value for key, value in metadata.items()}, name)


def _loaded(content: bytes, load: Callable[[Path], Tokenizer]) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary"
        path.write_bytes(content)
        return load(path)


def _with_a_hole(text: str) -> bytes:
    description = json.loads(text)
    vocab = description["model"]["vocab"]
    vocab["the last"] = len(vocab) + 3
    return json.dumps(description).encode()


@cache
def _ids_of_bytes(name: str) -> list[int]:
    tokenizer = vocabulary(name)
    if tokenizer.kind == "spm":
        ids = {tokenizer.piece(i): i for i in range(tokenizer.vocab_size)}
        return [ids[byte_piece(value)] for value in range(256)]
    by_bytes = {tokenizer.token_bytes(i): i for i in range(tokenizer.vocab_size)}
    return [by_bytes[bytes([value])] for value in range(256)]


def byte_ids(name: str, data: bytes) -> list[int]:
    return [_ids_of_bytes(name)[value] for value in data]


@st.composite
def sequences(draw: st.DrawFn) -> tuple[str, list[int]]:
    """Ids of texts, of single bytes (valid or not), control tokens and any ids, one after the other."""
    name = draw(st.sampled_from(NAMES))
    tokenizer = vocabulary(name)
    part = st.one_of(
        TEXT.map(tokenizer.encode),
        TEXT.map(tokenizer.encode_continuation),
        st.binary(max_size=6).map(lambda data: byte_ids(name, data)),
        TEXT.map(lambda text: byte_ids(name, text.encode()[:-1])),
        st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=6),
        st.lists(st.integers(max(0, tokenizer.vocab_size - 12), tokenizer.vocab_size - 1), max_size=6),
        st.lists(st.sampled_from(sorted(tokenizer.control_tokens.values())[:20]), max_size=2),
    )
    return name, [i for ids in draw(st.lists(part, max_size=5)) for i in ids]


def stream(tokenizer: Tokenizer, ids: list[int], **how: object) -> list[str]:
    detokenizer = StreamDetokenizer(tokenizer, **how)  # type: ignore[arg-type]
    return [*map(detokenizer.push, ids), detokenizer.flush()]


@given(case=sequences())
@settings(max_examples=300)
def test_the_pieces_make_up_the_whole(case: tuple[str, list[int]]) -> None:
    tokenizer, ids = vocabulary(case[0]), case[1]
    parts = stream(tokenizer, ids, at_start=True)
    assert "".join(parts) == tokenizer.decode(ids)
    # Nothing that was given out is ever taken back or changed by what follows.
    for end in range(len(ids)):
        assert tokenizer.decode(ids[:end]).startswith("".join(parts[:end]))


@given(case=sequences())
@settings(max_examples=200)
def test_between_control_tokens_it_is_pythons_decoder_over_the_bytes(case: tuple[str, list[int]]) -> None:
    tokenizer, ids = vocabulary(case[0]), case[1]
    runs: list[bytes] = [b""]
    for token_id in ids:
        runs += [b""] if tokenizer.is_control(token_id) else []
        runs[-1] += tokenizer.token_bytes(token_id)
    assert "".join(stream(tokenizer, ids, at_start=False)) == "".join(run.decode(errors="replace") for run in runs)


@given(case=sequences())
@settings(max_examples=200)
def test_at_most_three_bytes_are_held_back(case: tuple[str, list[int]]) -> None:
    tokenizer, ids = vocabulary(case[0]), case[1]
    detokenizer = StreamDetokenizer(tokenizer, at_start=False)
    given_out, seen = "", b""
    for token_id in ids:
        if tokenizer.is_control(token_id):
            given_out, seen = "", b""
            detokenizer.push(token_id)
            continue
        given_out += detokenizer.push(token_id)
        seen += tokenizer.token_bytes(token_id)
        held = next(n for n in range(4) if seen[: len(seen) - n].decode(errors="replace") == given_out)
        assert held == 0 or "�" in seen[len(seen) - held :].decode(errors="replace")


@pytest.mark.parametrize("name", NAMES)
def test_characters_come_whole(name: str) -> None:
    tokenizer = vocabulary(name)
    ids = byte_ids(name, "한👩‍👧".encode())
    parts = stream(tokenizer, ids, at_start=True)
    assert [part for part in parts if part] == ["한", "👩", "\u200d", "👧"]


@pytest.mark.parametrize("version", NAMES)
def test_hopeless_bytes_are_given_out_at_once(version: str) -> None:
    tokenizer = vocabulary(version)
    assert stream(tokenizer, byte_ids(version, b"\xff\xe1a\xed\x95"), at_start=True) == ["�", "", "�a", "", "", "�"]
    assert stream(tokenizer, byte_ids(version, b"\xe1\xff"), at_start=True) == ["", "��", ""]
    assert stream(tokenizer, byte_ids(version, b"\xc0\x80"), at_start=True) == ["�", "�", ""]


def test_a_control_token_ends_a_character() -> None:
    v3 = bundled("v3")
    first, second = byte_ids("v3", "é".encode())
    assert stream(v3, [first, 2, second], at_start=True) == ["", "�", "�", ""]
    assert v3.decode([first, 2, second], keep_control=True) == "�</s>�"


def test_the_dummy_space_is_dropped_at_the_start_only() -> None:
    v3 = bundled("v3")
    hi = v3.encode("hi")
    assert stream(v3, [1, 3, *hi, 4, *hi], at_start=True) == ["", "", "hi", "", " hi", ""]
    assert stream(v3, hi, at_start=False) == [" hi", ""]
    assert v3.decode(v3.encode("  hi")) == "  hi"
    assert v3.decode(byte_ids("v3", b" ") + hi) == "  hi"
    tekken = bundled("v3-tekken")
    assert tekken.decode(tekken.encode(" hi")) == " hi"


def test_only_the_control_tokens_asked_for_are_seen() -> None:
    v3 = bundled("v3")
    ids = [1, 3, *v3.encode("hi"), 4, 2]
    assert "".join(stream(v3, ids, at_start=True, visible_control=frozenset({4}))) == "hi[/INST]"
    assert v3.decode(ids, keep_control=True) == "<s>[INST] hi[/INST]</s>"


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(TokenizerError, match="Token id 32000 is outside the vocabulary"):
        StreamDetokenizer(bundled("v1"), at_start=True).push(32000)
