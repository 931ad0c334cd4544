"""Answers as the engine would give them, token by token, for the parser of calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from chat_oracles import write_newer_tekken
from toy_tokenizer import toy

from ostro.chat import ChatFormat, Prompt, Tool, named_format
from ostro.chat.answers import Answer, AnswerDelta, AnswerParser, CallDelta, TextDelta
from ostro.engine import SamplingParams
from ostro.engine.request import Endings, TextStream
from ostro.engine.request import Sequence as EngineSequence
from ostro.engine.sampler import generator
from ostro.tokenizer.mistral import bundled, load_tekken

TOKENIZERS = {
    "mistral-v2": ["v2"],
    "mistral-v3": ["v3", "v3-tekken"],
    "mistral-v7": ["v7", "v7-tekken"],
    "mistral-v11": ["v11"],
    "mistral-v13": ["v13"],
    "llama-3.1": ["toy"],
    "llama-3.1-tools-in-system": ["toy"],
    "llama-3.1-meta": ["toy"],
    "llama-3.2-pythonic": ["toy"],
}
"""The formats with tools, and vocabularies that go with each."""

TOOLS = [Tool("look"), Tool("get_weather"), Tool("brave_search")]
LOOK = '{"name": "look", "parameters": {"at": "it"}}'
MISTRAL = ["mistral-v2", "mistral-v3", "mistral-v7", "mistral-v11", "mistral-v13"]
CASES = [(form, name) for form, names in TOKENIZERS.items() for name in names]
Piece = tuple[list[int], str]


@cache
def tokenizer_of(name: str, folder: Path) -> Any:
    """A vocabulary by its name in TOKENIZERS; those that are not bundled are written into `folder`."""
    if name == "toy":
        return toy()
    if name in ("v11", "v13"):
        return load_tekken(write_newer_tekken(folder, name))
    return bundled(name)


def encode(tokenizer: Any, *parts: str) -> list[int]:
    """Ids of texts and of control tokens by their names."""
    return [
        i
        for part in parts
        for i in ([tokenizer.control_tokens[part]] if part in tokenizer.control_tokens else tokenizer.encode(part))
    ]


def pieces(tokenizer: Any, ids: Sequence[int], *, at_start: bool = True, **params: Any) -> tuple[list[Piece], str]:
    """What the engine gives out for each token, and the finish reason."""
    given = SamplingParams(**{"max_tokens": len(ids) + 1, **params})
    names = tokenizer.control_tokens
    stops = frozenset(names[name] for name in ("</s>", "<|eot_id|>", "<|eom_id|>") if name in names)
    sequence = EngineSequence(
        order=0, token_ids=[1], num_prompt_tokens=1, request_id="", index=0, params=given,
        endings=Endings(eos=stops, stop=frozenset()), max_tokens=len(ids) if "max_tokens" in params else len(ids) + 1,
        draws=generator(0, 0), history=None, stream=TextStream(tokenizer, given, at_start=at_start),
    )  # fmt: skip
    told, length = [], 0
    for token_id in ids:
        sequence.append(token_id)
        told.append(([token_id], sequence.text[length:]))
        length = len(sequence.text)
        if sequence.finish_reason:
            break
    else:
        sequence.abort()
        told.append(([], sequence.text[length:]))
    return told, str(sequence.finish_reason)


def merged(told: Sequence[Piece], sizes: Sequence[int]) -> list[Piece]:
    """The same pieces, so many at a time (and again from the first size on)."""
    chunks, position, turn = [], 0, 0
    while position < len(told):
        group = told[position : position + sizes[turn % len(sizes)]]
        chunks.append(([i for ids, _ in group for i in ids], "".join(text for _, text in group)))
        position, turn = position + len(group), turn + 1
    return chunks


def parse(
    form: ChatFormat | str,
    tokenizer: Any,
    chunks: Sequence[Piece],
    tools: Sequence[Tool],
    reason: str | None = "stop",
    **options: Any,
) -> tuple[Answer, list[AnswerDelta]]:
    """The answer and all deltas."""
    chosen = named_format(form) if isinstance(form, str) else form
    parser = AnswerParser(chosen, tokenizer, tools=tools, **{"at_start": True, **options})
    deltas = [delta for ids, text in chunks for delta in parser.feed(ids, text)]
    deltas += parser.finish(reason)
    assert joined(deltas) == parser.answer
    return parser.answer, deltas


def joined(deltas: Sequence[AnswerDelta]) -> Answer:
    """What a client makes of the deltas."""
    calls = [delta for delta in deltas if isinstance(delta, CallDelta)]
    assert [delta.index for delta in calls] == list(range(len(calls)))
    content = "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))
    return Answer(content, tuple(delta.call for delta in calls))


def completion(prompt: Prompt) -> list[int]:
    """The ids that the model itself wrote."""
    return [i for i, is_completion in zip(prompt.token_ids, prompt.completion_mask, strict=True) if is_completion]
