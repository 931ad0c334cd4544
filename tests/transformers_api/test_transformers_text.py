"""Streamed text and stop strings beside transformers' own, on the vocabularies that mistral-common carries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_conversions import TEXT, letter_pieces, tokenizer_json
from transformers.generation import StopStringCriteria as TheirCriteria

from ostro.errors import RequestError
from ostro.tokenizer.mistral import bundled
from ostro.transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizer,
    TextIteratorStreamer,
    TextStreamer,
    pipeline,
)
from ostro.transformers.stopping import StopStringCriteria

SENTENCEPIECE_DECODER: dict[str, Any] = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}
BYTE_LEVEL: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


class Oracle(transformers.PreTrainedTokenizerFast):
    """Transformers' tokenizer. Its stop strings look at every token of `get_vocab`: here at those of the rows alone."""

    shown: frozenset[int] = frozenset()

    def get_vocab(self) -> dict[str, int]:
        """The tokens `shown`."""
        return {self.convert_ids_to_tokens(i): i for i in sorted(self.shown)}


@pytest.fixture(scope="module", params=["v1", "v3", "v3-tekken"])
def pair_of_tokenizers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PreTrainedTokenizer, Oracle]:
    """Ours and transformers'. The oracle only decodes, so it needs no merges."""
    vocabulary = bundled(request.param)
    if vocabulary.kind == "spm":
        pieces = [vocabulary.piece(i) for i in range(vocabulary.vocab_size)]
        how: dict[str, Any] = {"pre_tokenizer": None, "byte_fallback": True, "unk_token": "<unk>"}
    else:
        pieces = letter_pieces(vocabulary)
        how = {"pre_tokenizer": BYTE_LEVEL}
    description = json.loads(tokenizer_json(pieces, [], vocabulary.control_tokens, **how))
    description["decoder"] = SENTENCEPIECE_DECODER if vocabulary.kind == "spm" else BYTE_LEVEL
    path = tmp_path_factory.mktemp("oracle") / "tokenizer.json"
    path.write_text(json.dumps(description))
    return PreTrainedTokenizer(vocabulary), Oracle(tokenizer_file=str(path))


@st.composite
def pieces_of_text(draw: st.DrawFn) -> Callable[[PreTrainedTokenizer], list[int]]:
    """Ids of texts with other ids between them: control tokens, bytes, and whatever else the vocabulary has."""
    parts = draw(st.lists(st.one_of(TEXT, st.lists(st.integers(0, 31999), max_size=4)), min_size=1, max_size=4))

    def ids(tokenizer: PreTrainedTokenizer) -> list[int]:
        return [i for part in parts for i in (tokenizer.tokenizer.encode(part) if isinstance(part, str) else part)]

    return ids


def running_text(tokenizer: PreTrainedTokenizer, ids: list[int]) -> str:
    inner = tokenizer.tokenizer
    data = b"".join(inner.piece(i).encode() if inner.is_control(i) else inner.token_bytes(i) for i in ids)
    return data.decode("utf-8", "ignore")


@given(make=pieces_of_text(), data=st.data())
@settings(max_examples=60)
def test_a_row_stops_where_it_stops_in_transformers(
    pair_of_tokenizers: tuple[PreTrainedTokenizer, Oracle], make: Callable[..., list[int]], data: st.DataObject
) -> None:
    ours, theirs = pair_of_tokenizers
    ids = [ours.bos_token_id or 0, *make(ours), ours.vocab_size + 3]  # the last is a padded row of a model's table
    text = running_text(ours, ids[:-1])
    places = st.integers(0, len(text))
    spans = st.tuples(places, st.integers(1, 9)).map(lambda span: text[span[0] : span[0] + span[1]])
    strings = data.draw(st.lists(st.one_of(spans, st.text("ae \n", min_size=1)).filter(bool), min_size=1, max_size=3))
    theirs.shown = frozenset(ids[:-1])
    try:
        oracle = TheirCriteria(theirs, strings)
    except ValueError:  # none of the tokens ends one of the strings
        oracle = None
    criterion = StopStringCriteria(strings, ours)
    for length in range(1, len(ids) + 1):
        row = torch.tensor([ids[:length]])
        wanted = oracle is not None and bool(oracle(row, None)[0])
        assert bool(criterion(row, torch.empty(0))[0]) == wanted, (strings, ids[:length])


@pytest.mark.parametrize("version", ["v1", "v3", "v3-tekken"])
def test_the_space_of_the_first_new_token_counts(version: str) -> None:
    tokenizer = PreTrainedTokenizer(bundled(version))
    prompt, new = tokenizer.tokenizer.encode("there was"), tokenizer.tokenizer.encode("there was a")[-1:]
    row = torch.tensor([prompt + new, new + prompt])
    for strings, wanted in ((" a", [True, False]), ("was a", [True, False]), ("there", [False, False])):
        assert StopStringCriteria(strings, tokenizer)(row, torch.empty(0)).tolist() == wanted


def streamed(streamer: Any, prompt: list[int], new: list[int]) -> str:
    written: list[str] = []
    streamer.on_finalized_text = lambda text, **_: written.append(text)
    streamer.put(torch.tensor([prompt]))
    for token_id in new:
        streamer.put(torch.tensor([token_id]))
    streamer.end()
    return "".join(written)


@given(make=pieces_of_text(), prompt=pieces_of_text(), skip=st.booleans())
@settings(max_examples=60)
def test_what_is_streamed_is_what_is_decoded(
    pair_of_tokenizers: tuple[PreTrainedTokenizer, Oracle],
    make: Callable[..., list[int]],
    prompt: Callable[..., list[int]],
    skip: bool,
) -> None:
    ours, _ = pair_of_tokenizers
    before, new = [1, *prompt(ours)], make(ours)
    for special in (False, True):
        streamer = TextStreamer(ours, skip_prompt=skip, skip_special_tokens=special)
        whole = ours.decode(new if skip else before + new, skip_special_tokens=special)
        for _ in range(2):  # the second text of one streamer begins anew
            assert streamed(streamer, before, new) == whole


@given(text=TEXT, prompt=TEXT)
@settings(max_examples=60)
def test_what_is_streamed_is_what_transformers_streams(
    pair_of_tokenizers: tuple[PreTrainedTokenizer, Oracle], text: str, prompt: str
) -> None:
    """But for line ends, after which transformers' streamer decodes anew and loses SentencePiece's space."""
    ours, theirs = pair_of_tokenizers
    before, new = ([1, *ours.tokenizer.encode(part.replace("\n", " "))] for part in (prompt, text))
    for how in ({}, {"skip_prompt": True}, {"skip_special_tokens": True}):
        oracle = transformers.TextStreamer(theirs, **how)
        assert streamed(TextStreamer(ours, **how), before, new) == streamed(oracle, before, new)


def test_streaming_asks_for_each_token_once(chat_folder: Callable[..., Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_folder())
    asked: list[int] = []
    token_bytes = tokenizer.tokenizer.token_bytes
    tokenizer.tokenizer.token_bytes = lambda i: asked.append(i) or token_bytes(i)
    ids = tokenizer.tokenizer.encode("Once upon a time there was a little girl. " * 20)
    streamed(TextStreamer(tokenizer), ids[:9], ids[9:])
    assert asked == ids


def test_characters_come_whole(chat_folder: Callable[..., Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_folder())
    pieces = TextIteratorStreamer(tokenizer, timeout=1)
    pieces.put(torch.tensor([[1]]))
    for token_id in tokenizer.tokenizer.encode("a 🙋 뷁"):
        pieces.put(torch.tensor([token_id]))
    pieces.end()
    assert list(pieces) == ["<s>", " a", " ", "🙋", " ", "뷁", ""]


def test_generate_with_streamers_and_stop_strings(
    chat_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(chat_folder())
    tokenizer = AutoTokenizer.from_pretrained(chat_folder())
    inputs = tokenizer("Once upon", return_tensors="pt")
    length = inputs.input_ids.shape[1]
    greedy = {"do_sample": False, "max_new_tokens": 12}
    out = model.generate(**inputs, **greedy, streamer=TextStreamer(tokenizer))
    assert capsys.readouterr().out == tokenizer.decode(out[0]) + "\n"
    pieces = TextIteratorStreamer(tokenizer, skip_prompt=True, timeout=1)
    model.generate(**inputs, **greedy, streamer=pieces)
    new = out[0, length:].tolist()
    assert "".join(pieces) == tokenizer.decode(new)
    for i in range(12):
        stop = running_text(tokenizer, new[i : i + 1])
        first = next(n for n in range(1, 13) if stop in running_text(tokenizer, new[:n]))
        stopped = model.generate(**inputs, **greedy, stop_strings=stop, tokenizer=tokenizer)
        assert stopped.tolist() == out[:, : length + first].tolist()


def test_a_streamer_of_text_follows_one_row_and_another_kind_may_follow_more(chat_folder: Callable[..., Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(chat_folder())
    tokenizer = AutoTokenizer.from_pretrained(chat_folder())
    ids = tokenizer("Once upon", return_tensors="pt").input_ids.repeat(2, 1)
    with pytest.raises(RequestError, match="one row, not 2"):
        model.generate(ids, max_new_tokens=2, streamer=TextStreamer(tokenizer))

    class Shapes(list[tuple[int, ...]]):
        def put(self, value: torch.Tensor) -> None:
            self.append(tuple(value.shape))

        def end(self) -> None:
            self.append(())

    shapes = Shapes()
    model.generate(ids, do_sample=False, max_new_tokens=3, min_new_tokens=3, streamer=shapes)
    assert shapes == [tuple(ids.shape), (2,), (2,), (2,), ()]


def test_another_librarys_tokenizer_is_refused(chat_folder: Callable[..., Path]) -> None:
    theirs: Any = object()
    with pytest.raises(RequestError, match=r"builtins\.object; it must be one of ostro\.transformers"):
        TextStreamer(theirs)
    with pytest.raises(RequestError, match="tokenizer is a"):
        StopStringCriteria("a", theirs)
    model = AutoModelForCausalLM.from_pretrained(chat_folder())
    with pytest.raises(RequestError, match="tokenizer is a"):
        pipeline("text-generation", model=model, tokenizer=theirs)
