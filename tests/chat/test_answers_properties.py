"""Calls read out of answers that nobody wrote: any cut is the same answer, and what is rendered is parsed."""

from __future__ import annotations

import json
import keyword
import random
from pathlib import Path
from typing import Any

import pytest
from answer_data import CASES, LOOK, MISTRAL, TOOLS, completion, encode, merged, parse, pieces, tokenizer_of
from conversations import NASTY
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from toy_tokenizer import toy

from ostro.chat import Tool, named_format, render_chat

TOY = toy()

MANY = [25, pytest.param(2000, marks=pytest.mark.slow)]

FRAGMENTS = [
    *NASTY, LOOK, LOOK[:-1], LOOK[1:], "; ", ",", "\n", "{", "}", "[", "]", '"', "\\", "<", "(", "look", "abcdefghi",
    '{"at": "it"}', '[{"name": "look", "arguments": {"at": "it"}}]', '{"name": "look", "arguments": {}}, ', '{"name": ',
    '{"name": "look", ', "[look(a=1)]", "[look(a='", "<function=look>", "</function>", "<tool_call>", "</tool_call>",
    'brave_search.call(query="a")', "Hello there. ", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>",
]  # fmt: skip
parts = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=5)), max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vocabularies")


@pytest.mark.parametrize("max_examples", MANY)
@pytest.mark.parametrize(("form", "name"), CASES)
def test_any_cut_gives_the_same_answer(form: str, name: str, folder: Path, max_examples: int) -> None:
    tokenizer = tokenizer_of(name, folder)

    @settings(max_examples=max_examples)
    @given(
        parts=parts,
        sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
        stop=st.sampled_from([[], ["look"], ["}"], ["]}", "\n"], ["a", "[TOOL"]]),
        skip=st.booleans(),
        tools=st.sampled_from([TOOLS, []]),
    )
    def check(parts: list[str], sizes: list[int], stop: list[str], skip: bool, tools: list[Tool]) -> None:
        told, reason = pieces(tokenizer, encode(tokenizer, *parts), stop=stop, skip_special_tokens=skip)
        options = {"skip_special_tokens": skip, "builtin_tools": ("code_interpreter",) if tools else ()}
        answers = [
            parse(form, tokenizer, chunks, tools, reason, draws=random.Random(1), **options)[0]
            for chunks in (told, merged(told, sizes), merged(told, [len(told) or 1]))
        ]
        assert answers[0] == answers[1] == answers[2]
        check_nothing_is_lost(tokenizer, told, answers[0].content, bool(answers[0].tool_calls), skip)

    check()


def check_nothing_is_lost(tokenizer: Any, told: Any, content: str, has_calls: bool, skip: bool) -> None:
    """Without a call the content is the engine's text with the markers in it."""
    text = "".join(text for _, text in told)
    if has_calls or not skip:
        assert has_calls or content == text
        return
    for marker in ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>"):
        content = content.replace(marker, "")
        text = text.replace(marker, "")
    assert content == text


names = st.from_regex(r"[a-z_][a-z0-9_]{0,11}", fullmatch=True).filter(lambda name: name not in ("true", "null", "is"))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(NASTY) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
calls_made = st.lists(st.tuples(names, st.dictionaries(names, values, max_size=3)), min_size=1, max_size=3)
contents = st.lists(
    st.sampled_from([*NASTY, "Let me see. ", "{", "[", '{"name": "Ada"} ']) | st.text(max_size=6), max_size=3
)


@pytest.mark.parametrize("max_examples", MANY)
@pytest.mark.parametrize(("form", "name"), CASES)
def test_what_is_rendered_is_parsed(form: str, name: str, folder: Path, max_examples: int) -> None:
    tokenizer = tokenizer_of(name, folder)
    rules = named_format(form).rules

    @settings(max_examples=max_examples)
    @given(made=calls_made, content=contents.map("".join), nine=st.integers(0, 10**9))
    @example(made=[("look", {})], content="", nine=0)
    def check(made: list[tuple[str, dict[str, Any]]], content: str, nine: int) -> None:
        made = made if rules.parallel_calls else made[:1]
        assume(not any(keyword.iskeyword(word) for word, keys in made for word in (word, *keys)))
        assume(plain(tokenizer, content).strip() or not content)
        ids = [f"{nine + n:09d}"[-9:] for n in range(len(made))]
        tool_calls = [
            {"id": i, "function": {"name": name, "arguments": arguments}}
            for i, (name, arguments) in zip(ids, made, strict=True)
        ]
        messages = [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": content, "tool_calls": tool_calls},
        ]
        prompt = render_chat(tokenizer, messages, format=form, add_generation_prompt=False)
        told, reason = pieces(tokenizer, completion(prompt))
        answer, _ = parse(form, tokenizer, told, [Tool(name) for name, _ in made], reason)
        assert [(call.name, json.loads(call.arguments)) for call in answer.tool_calls] == [
            (name, plain(tokenizer, arguments)) for name, arguments in made
        ]
        if form in ("mistral-v3", "mistral-v7", "mistral-v11"):
            assert [call.id for call in answer.tool_calls] == ids
        written = content if form.startswith("llama-3.1-meta") or "pythonic" in form else content.strip()
        expected = content.rstrip(" ") if form in MISTRAL else written
        assert answer.content == plain(tokenizer, expected)

    check()


def plain(tokenizer: Any, value: Any) -> Any:
    """The value as the vocabulary can write it: for SentencePiece U+2581 is a space."""
    return json.loads(json.dumps(value).replace("\\u2581", " ")) if tokenizer.dummy_prefix else value


@given(query=st.text(max_size=20).filter(lambda text: '", ' not in text))
def test_built_in_calls_are_parsed_as_rendered(query: str) -> None:
    tool_calls = [{"function": {"name": "brave_search", "arguments": {"query": query}}}]
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "", "tool_calls": tool_calls}]
    for form in ("llama-3.1", "llama-3.1-meta", "llama-3.2-pythonic"):
        prompt = render_chat(TOY, messages, format=form, add_generation_prompt=False, builtin_tools=("brave_search",))
        told, reason = pieces(TOY, completion(prompt))
        answer, _ = parse(form, TOY, told, [], reason, builtin_tools=("brave_search",))
        assert [(call.name, json.loads(call.arguments)) for call in answer.tool_calls] == [
            ("brave_search", {"query": query})
        ]
