"""The streaming detokenizer against the decoding of the whole, and against Python's decoder."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_conversions import TEXT

from ostro.errors import TokenizerError
from ostro.tokenizer.base import Tokenizer
from ostro.tokenizer.detokenize import StreamDetokenizer
from ostro.tokenizer.mistral import bundled

VERSIONS = ("v1", "v3", "v3-tekken")
_SPM_BYTES = {"v1": 3, "v3": 771, "v3-tekken": 1000}


def byte_ids(version: str, data: bytes) -> list[int]:
    return [_SPM_BYTES[version] + value for value in data]


@st.composite
def sequences(draw: st.DrawFn) -> tuple[str, list[int]]:
    """Ids of texts, of single bytes (valid or not), control tokens and any ids, one after the other."""
    version = draw(st.sampled_from(VERSIONS))
    tokenizer = bundled(version)
    part = st.one_of(
        TEXT.map(tokenizer.encode),
        TEXT.map(tokenizer.encode_continuation),
        st.binary(max_size=6).map(lambda data: byte_ids(version, data)),
        TEXT.map(lambda text: byte_ids(version, text.encode()[:-1])),
        st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=6),
        st.lists(st.sampled_from(sorted(tokenizer.control_tokens.values())[:20]), max_size=2),
    )
    return version, [i for ids in draw(st.lists(part, max_size=5)) for i in ids]


def stream(tokenizer: Tokenizer, ids: list[int], **how: object) -> list[str]:
    detokenizer = StreamDetokenizer(tokenizer, **how)  # type: ignore[arg-type]
    return [*map(detokenizer.push, ids), detokenizer.flush()]


@given(case=sequences())
@settings(max_examples=150)
def test_the_pieces_make_up_the_whole(case: tuple[str, list[int]]) -> None:
    tokenizer, ids = bundled(case[0]), case[1]
    parts = stream(tokenizer, ids, at_start=True)
    assert "".join(parts) == tokenizer.decode(ids)
    # Nothing that was given out is ever taken back or changed by what follows.
    for end in range(len(ids)):
        assert tokenizer.decode(ids[:end]).startswith("".join(parts[:end]))


@given(case=sequences())
@settings(max_examples=100)
def test_between_control_tokens_it_is_pythons_decoder_over_the_bytes(case: tuple[str, list[int]]) -> None:
    tokenizer, ids = bundled(case[0]), case[1]
    runs: list[bytes] = [b""]
    for token_id in ids:
        runs += [b""] if tokenizer.is_control(token_id) else []
        runs[-1] += tokenizer.token_bytes(token_id)
    assert "".join(stream(tokenizer, ids, at_start=False)) == "".join(run.decode(errors="replace") for run in runs)


@given(case=sequences())
@settings(max_examples=100)
def test_at_most_three_bytes_are_held_back(case: tuple[str, list[int]]) -> None:
    tokenizer, ids = bundled(case[0]), case[1]
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


@pytest.mark.parametrize("version", VERSIONS)
def test_characters_come_whole(version: str) -> None:
    tokenizer = bundled(version)
    ids = byte_ids(version, "한👩‍👧".encode())
    parts = stream(tokenizer, ids, at_start=True)
    assert [part for part in parts if part] == ["한", "👩", "\u200d", "👧"]


@pytest.mark.parametrize("version", VERSIONS)
def test_hopeless_bytes_are_given_out_at_once(version: str) -> None:
    tokenizer = bundled(version)
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
