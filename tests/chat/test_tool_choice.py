"""tool_choice as a grammar: llguidance runs over it with real vocabularies, and the parser reads what it lets pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from answer_data import CASES, completion, parse, pieces, tokenizer_of
from grammar_check import allows, meta_tokenizer_file, refusal, walk
from toy_tokenizer import toy

from ostro.chat import Tool, named_format, render_chat
from ostro.chat.template import TemplateFormat
from ostro.chat.tool_choice import ContentForm, call_grammar
from ostro.errors import PromptError, RequestError
from ostro.tokenizer.mistral import bundled
from ostro.tokenizer.tiktoken import load_tiktoken

WEATHER = Tool(
    "get_weather",
    "The weather. See https://example.org/#weather // now",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 8},
            "unit": {"type": "string", "enum": ["C", "F"]},
            "days": {"type": "integer", "minimum": 0, "maximum": 9},
        },
        "required": ["city"],
        "additionalProperties": False,
    },
)
LOOK = Tool(
    "look",
    None,
    {"properties": {"at": {"enum": ["it", 1, None, True]}}, "required": ["at"], "additionalProperties": False},
)
EMPTY = Tool("now")
TOOLS = [WEATHER, LOOK, EMPTY]
SCHEMAS = {WEATHER.name: WEATHER.parameters, LOOK.name: LOOK.parameters, EMPTY.name: {"maxProperties": 0}}
PARIS = ("get_weather", {"city": "Paris", "days": 3})
BUILTIN = ("brave_search", "wolfram_alpha")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vocabularies")


def written(form: str, tokenizer: Any, *calls: tuple[str, Any], content: str = "", **rendering: Any) -> list[int]:
    """The ids of an answer as the format writes it, without the token that ends it."""
    made = [{"function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": content, "tool_calls": made}]
    prompt = render_chat(tokenizer, messages, format=form, add_generation_prompt=False, **rendering)
    return completion(prompt)[:-1]


def grammar(form: str, tokenizer: Any, choice: str = "auto", tools: Any = TOOLS, **options: Any) -> str:
    text = call_grammar(named_format(form), tokenizer, tools, choice, **options)
    assert text is not None
    return text


def plain(tokenizer: Any, *parts: str) -> list[int]:
    names = tokenizer.control_tokens
    encode = tokenizer.encode_continuation  # the engine takes the dummy space of the first text off
    return [i for part in parts for i in ([names[part]] if part in names else encode(part))]


def marker(tokenizer: Any) -> str:
    return "[TOOL_CALLS]" if "[TOOL_CALLS]" in tokenizer.control_tokens else "<|python_tag|>"


@pytest.mark.parametrize(("form", "name"), CASES)
def test_what_the_format_writes_is_allowed(form: str, name: str, folder: Path) -> None:
    tokenizer = tokenizer_of(name, folder)
    one, empty, other = (written(form, tokenizer, call) for call in (PARIS, ("now", {}), ("look", {"at": "it"})))
    for choice in ("auto", "required", "get_weather"):
        assert allows(tokenizer, grammar(form, tokenizer, choice), one)
        assert allows(tokenizer, grammar(form, tokenizer, choice), empty) == (choice != "get_weather")
        assert allows(tokenizer, grammar(form, tokenizer, choice), other) == (choice != "get_weather")
        is_text = choice == "auto" and form.startswith("llama")
        assert allows(tokenizer, grammar(form, tokenizer, choice), written(form, tokenizer, ("other", {}))) == is_text
    assert not allows(tokenizer, grammar(form, tokenizer, "none"), one) or form.startswith("llama")


@pytest.mark.parametrize(("form", "name"), CASES)
def test_arguments_follow_the_schema(form: str, name: str, folder: Path) -> None:
    tokenizer = tokenizer_of(name, folder)
    for choice in ("auto", "required"):
        for call in (
            ("get_weather", {}),
            ("get_weather", {"city": 5}),
            ("get_weather", {"city": "Paris", "unit": "K"}),
            ("get_weather", {"city": "Paris", "more": 1}),
            ("now", {"a": 1}),
        ):
            assert not allows(tokenizer, grammar(form, tokenizer, choice), written(form, tokenizer, call)), call


@pytest.mark.parametrize(("form", "name"), CASES)
def test_text_is_allowed_where_it_may_be(form: str, name: str, folder: Path) -> None:
    tokenizer = tokenizer_of(name, folder)
    for text in ("Hello, 세계 🙂", "Look at { this }.", '{"name": "Ada", "born": 1815}', "[1, 2]"):
        ids = plain(tokenizer, text)
        assert allows(tokenizer, grammar(form, tokenizer, "auto"), ids)
        assert allows(tokenizer, grammar(form, tokenizer, "none"), ids)
        assert not allows(tokenizer, grammar(form, tokenizer, "required"), ids)
    assert allows(tokenizer, grammar(form, tokenizer, "auto"), [])
    assert not allows(tokenizer, grammar(form, tokenizer, "required"), [])
    for choice in ("auto", "none", "required"):
        assert not allows(
            tokenizer, grammar(form, tokenizer, choice), plain(tokenizer, "So", marker(tokenizer), " it is")
        )


@pytest.mark.parametrize(("form", "name"), CASES)
def test_text_and_then_a_call(form: str, name: str, folder: Path) -> None:
    tokenizer = tokenizer_of(name, folder)
    ids = written(form, tokenizer, PARIS, content="Let me see.")
    assert allows(tokenizer, grammar(form, tokenizer), ids)
    assert not allows(tokenizer, grammar(form, tokenizer, "required"), ids)


@pytest.mark.parametrize(("form", "name"), CASES)
def test_several_calls(form: str, name: str, folder: Path) -> None:
    tokenizer = tokenizer_of(name, folder)
    can = named_format(form).rules.parallel_calls
    if not can:
        one = written(form, tokenizer, PARIS)
        assert not allows(tokenizer, grammar(form, tokenizer, "required"), [*one, *plain(tokenizer, "; "), *one])
        return
    ids = written(form, tokenizer, PARIS, ("now", {}), PARIS)
    for choice in ("auto", "required"):
        assert allows(tokenizer, grammar(form, tokenizer, choice), ids)
        assert not allows(tokenizer, grammar(form, tokenizer, choice, parallel=False), ids)


# Tokens are drawn out of those that the grammar leaves; these keep random strings short and readable.
def wanted(data: bytes) -> bool:
    return data.isascii() and (b'"' in data or b"}" in data or b"]" in data or data.isalnum())


def real_tokenizers(form: str, name: str, folder: Path) -> Any:
    file = meta_tokenizer_file()
    return load_tiktoken(file) if name == "toy" and file else tokenizer_of(name, folder)


@pytest.mark.parametrize(("form", "name"), CASES)
@pytest.mark.parametrize("choice", ["required", "get_weather"])
def test_whatever_the_grammar_lets_through_is_a_call(form: str, name: str, choice: str, folder: Path) -> None:
    tokenizer = real_tokenizers(form, name, folder)
    text = grammar(form, tokenizer, choice)
    for seed in range(2):
        ids = walk(tokenizer, text, seed, wanted)
        told, reason = pieces(tokenizer, ids)
        answer, _ = parse(form, tokenizer, told, TOOLS, reason)
        assert answer.content == "", tokenizer.decode(ids, keep_control=True)
        assert answer.tool_calls
        for call in answer.tool_calls:
            assert choice in ("required", call.name)
            jsonschema.validate(json.loads(call.arguments), of_types(SCHEMAS[call.name], form))


def of_types(schema: Any, form: str) -> Any:
    """The schema as far as pythonic calls keep it: without bounds."""
    if "pythonic" not in form:
        return schema
    kept = {
        name: {k: v for k, v in each.items() if k in ("type", "enum")}
        for name, each in schema.get("properties", {}).items()
    }
    return {**schema, "properties": kept}


@pytest.mark.parametrize("form", ["llama-3.1", "llama-3.1-meta", "llama-3.2-pythonic"])
def test_built_in_tools(form: str) -> None:
    tokenizer = toy()
    search = written(form, tokenizer, ("brave_search", {"query": "a b"}), builtin_tools=BUILTIN)
    for choice in ("auto", "required", "brave_search"):
        assert allows(tokenizer, grammar(form, tokenizer, choice, builtin_tools=BUILTIN), search)
        assert allows(tokenizer, grammar(form, tokenizer, choice, tools=[], builtin_tools=BUILTIN), search)
    assert not allows(tokenizer, grammar(form, tokenizer, "wolfram_alpha", builtin_tools=BUILTIN), search)
    assert not allows(tokenizer, grammar(form, tokenizer, "none", builtin_tools=BUILTIN), search)
    custom = written(form, tokenizer, PARIS, builtin_tools=BUILTIN)
    for choice in ("auto", "required", "get_weather"):
        assert allows(tokenizer, grammar(form, tokenizer, choice, builtin_tools=BUILTIN), custom)
    code = plain(tokenizer, "<|python_tag|>", "print(1)")
    assert allows(tokenizer, grammar(form, tokenizer, "required", tools=[], builtin_tools=("code_interpreter",)), code)


def test_the_tags_of_a_template() -> None:
    tokenizer, form = toy(), TemplateFormat("{{ '<tool_call>' }}")
    call = '<tool_call>\n{"name": "look", "arguments": {"at": "it"}}\n</tool_call>'
    for choice in ("auto", "required", "look"):
        text = call_grammar(form, tokenizer, TOOLS, choice)
        assert text is not None
        assert allows(tokenizer, text, plain(tokenizer, call))
        assert allows(tokenizer, text, plain(tokenizer, f"{call}\n{call}"))
        assert allows(tokenizer, text, plain(tokenizer, f"So: {call}")) == (choice == "auto")
        assert not allows(tokenizer, text, plain(tokenizer, call.replace("it", "at")))


def test_a_strict_tool_is_guarded_everywhere() -> None:
    tokenizer = toy()
    strict = Tool("look", None, LOOK.parameters, strict=True)
    bad = plain(tokenizer, 'So: {"name": "look", "parameters": {"at": 7}}')
    assert allows(tokenizer, grammar("llama-3.1", tokenizer, tools=[LOOK]), bad)
    assert not allows(tokenizer, grammar("llama-3.1", tokenizer, tools=[strict]), bad)
    good = plain(tokenizer, 'So: {"name": "look", "parameters": {"at": "it"}}')
    assert allows(tokenizer, grammar("llama-3.1", tokenizer, tools=[strict]), good)
    # Ways of writing a call that no grammar guards are no calls of a strict tool.
    for text in (
        '{"name":    "look", "parameters": {}}',
        '{"parameters": {}, "name": "look"}',
        "<function=look>{}</function>",
    ):
        told, reason = pieces(tokenizer, plain(tokenizer, text))
        assert len(parse("llama-3.1", tokenizer, told, [LOOK], reason)[0].tool_calls) == 1
        assert parse("llama-3.1", tokenizer, told, [strict], reason)[0].tool_calls == ()


def test_keywords_that_llguidance_does_not_know() -> None:
    tokenizer = bundled("v3")
    odd = {"type": "object", "properties": {"a": {"type": "string", "format": "phone"}}}
    assert refusal(tokenizer, grammar("mistral-v3", tokenizer, tools=[Tool("f", None, odd)])) == ""
    with pytest.raises(RequestError, match=r"The parameters of the tool 'f', at #/properties/a/format") as raised:
        grammar("mistral-v3", tokenizer, tools=[Tool("f", None, odd, strict=True)])
    assert raised.value.param == "tools"


@pytest.mark.parametrize(("form", "name"), CASES)
def test_calls_beside_a_response_format(form: str, name: str, folder: Path) -> None:
    tokenizer = tokenizer_of(name, folder)
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "a": {"type": "integer"}},
        "required": ["name"],
    }
    text = grammar(form, tokenizer, content=ContentForm(json_schema=schema))
    for answer in ('{"name": "Ada", "a": 1}', '{"name": "Ada"}'):
        assert allows(tokenizer, text, plain(tokenizer, answer))
    assert allows(tokenizer, text, written(form, tokenizer, PARIS))
    assert not allows(tokenizer, text, plain(tokenizer, "Hello"))
    assert not allows(tokenizer, text, plain(tokenizer, '{"a": 1}'))
    text = grammar(form, tokenizer, content=ContentForm(regex=r"yes|no/\d+"))
    assert allows(tokenizer, text, plain(tokenizer, "no/12"))
    assert allows(tokenizer, text, written(form, tokenizer, PARIS))
    assert not allows(tokenizer, text, plain(tokenizer, "maybe"))
    for choice, wanted in (("none", False), ("required", True)):
        text = grammar(form, tokenizer, choice, content=ContentForm(regex="yes"))
        assert allows(tokenizer, text, plain(tokenizer, "yes")) is not wanted


def test_references_hold_beside_a_response_format() -> None:
    tokenizer = toy()
    kinds = {"$defs": {"k": {"enum": ["a", "$ref"]}}, "properties": {"k": {"$ref": "#/$defs/k"}}, "required": ["k"]}
    content = ContentForm(json_schema={"type": "object", **kinds, "additionalProperties": False})
    text = grammar("llama-3.1", tokenizer, tools=[Tool("f", None, kinds)], content=content)
    for kind, allowed in (("a", True), ("$ref", True), ("b", False)):
        assert allows(tokenizer, text, plain(tokenizer, f'{{"k": "{kind}"}}')) == allowed
        call = f'{{"name": "f", "parameters": {{"k": "{kind}"}}}}'
        assert allows(tokenizer, text, plain(tokenizer, call)) == allowed


def test_very_large_schemas_are_left_aside_but_for_strict_tools() -> None:
    tokenizer = bundled("v3")
    large = {"type": "object", "properties": {f"p{n}": {"enum": [f"{n:064d}"]} for n in range(400)}}
    tools = [Tool("small", None, LOOK.parameters), *(Tool(f"f{n}", None, large, strict=n == 1) for n in range(3))]
    text = grammar("mistral-v3", tokenizer, tools=tools)
    assert len(text) < 200_000
    for name, allowed in (("small", True), ("f0", True), ("f1", False), ("f2", True)):
        ids = written("mistral-v3", tokenizer, (name, {"p1": 5}))
        assert allows(tokenizer, text, ids) == allowed
    nested: Any = {}
    for _ in range(5000):
        nested = {"items": nested}
    with pytest.raises(PromptError, match="cannot be written as JSON"):
        call_grammar(named_format("mistral-v3"), tokenizer, [Tool("f", None, nested)])


def test_annotations_are_left_out_but_no_property() -> None:
    described = {
        "title": "T",
        "properties": {"title": {"type": "integer", "description": "D" * 99}},
        "required": ["title"],
    }
    text = grammar("mistral-v3", bundled("v3"), tools=[Tool("f", None, described, strict=True)])
    assert "DDD" not in text
    assert allows(bundled("v3"), text, written("mistral-v3", bundled("v3"), ("f", {"title": 1})))
    assert not allows(bundled("v3"), text, written("mistral-v3", bundled("v3"), ("f", {"title": "1"})))


def test_what_needs_no_grammar() -> None:
    tokenizer = bundled("v3")
    form = named_format("mistral-v3")
    assert call_grammar(form, tokenizer, []) is None
    assert call_grammar(form, tokenizer, [], "none") is None
    assert call_grammar(TemplateFormat("x"), tokenizer, TOOLS) is None


@pytest.mark.parametrize(
    ("tools", "choice", "options", "words"),
    [
        (TOOLS, "other", {}, "the tools of the request are get_weather, look, now"),
        ([], "required", {}, "has no tools"),
        ([], "look", {}, "are none"),
        ([LOOK, LOOK], "auto", {}, "Two tools are called 'look'"),
        ([Tool("a b")], "auto", {}, "without spaces"),
        ([Tool("none")], "auto", {}, "is not auto, none or required"),
        ([Tool("a", None, {"type": "array"})], "auto", {}, "must have the type 'object'"),
        (TOOLS, "auto", {"builtin_tools": ("search",)}, "Llama 3.1 knows brave_search"),
        ([Tool("a", strict=True)], "auto", {"builtin_tools": ("code_interpreter",)}, "leave one of the two out"),
    ],
)
def test_choices_that_cannot_be_kept(tools: Any, choice: str, options: Any, words: str) -> None:
    with pytest.raises(PromptError, match=words):
        call_grammar(named_format("llama-3.1"), toy(), tools, choice, **options)


def test_what_a_format_cannot_keep() -> None:
    for choice, tools, content in (
        ("required", TOOLS, None),
        ("auto", [Tool("a", strict=True)], None),
        ("auto", TOOLS, ContentForm(regex="a")),
    ):
        with pytest.raises(PromptError, match="does not tell how calls are written"):
            call_grammar(TemplateFormat("x"), toy(), tools, choice, content=content)
    with pytest.raises(PromptError, match="is strict"):
        call_grammar(named_format("llama-3.2-pythonic"), toy(), [Tool("a", strict=True)])
    with pytest.raises(PromptError, match="which Python cannot name"):
        call_grammar(named_format("llama-3.2-pythonic"), toy(), [Tool("a", None, {"properties": {"a-b": {}}})])
    with pytest.raises(PromptError, match="has no tools"):
        call_grammar(named_format("llama-3"), toy(), TOOLS)
