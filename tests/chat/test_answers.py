"""Calls read out of answers: every form, every cut, and nothing lost."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from answer_data import LOOK, MISTRAL, TOKENIZERS, TOOLS, encode, merged, parse, pieces, tokenizer_of
from toy_tokenizer import toy

from ostro.chat import ToolCall, named_format
from ostro.chat.answers import AnswerParser, CallDelta, TextDelta, parse_answer
from ostro.chat.template import TemplateFormat
from ostro.chat.tool_ids import is_mistral_id
from ostro.tokenizer.mistral import bundled

TOY = toy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vocabularies")


def read(form: Any, tokenizer: Any, *parts: str, reason: str | None = None, tools: Any = TOOLS, **options: Any) -> Any:
    """The answer that these parts make, as (content, [(name, arguments)]). Read token by token, and all at once."""
    told, ended = pieces(tokenizer, encode(tokenizer, *parts))
    one_by_one, _ = parse(form, tokenizer, told, tools, reason or ended, draws=random.Random(1), **options)
    at_once, _ = parse(
        form, tokenizer, merged(told, [len(told)]), tools, reason or ended, draws=random.Random(1), **options
    )
    assert one_by_one == at_once
    assert all(is_mistral_id(str(call.id)) for call in at_once.tool_calls)
    return at_once.content, [(call.name, json.loads(call.arguments)) for call in at_once.tool_calls]


def llama(*parts: str, form: str = "llama-3.1", **options: Any) -> Any:
    return read(form, TOY, *parts, **options)


def call(name: str, **arguments: Any) -> tuple[str, Any]:
    return name, arguments


def mistral(*parts: str, version: str = "v3", **options: Any) -> Any:
    return read(f"mistral-{version}", bundled("v3"), *parts, **options)


# Mistral


def test_a_list_of_calls() -> None:
    text = (
        '[{"name": "look", "arguments": {"at": "it"}}, {"name": "get_weather", "arguments": {"a": [1, {"b": "]}"}]}}]'
    )
    calls = [call("look", at="it"), call("get_weather", a=[1, {"b": "]}"}])]
    assert mistral("[TOOL_CALLS]", text, "</s>") == ("", calls)
    assert mistral("Let me see.", "[TOOL_CALLS]", text, "</s>") == ("Let me see.", calls)
    assert mistral("[TOOL_CALLS]", text[:-1], reason="length") == ("", calls)
    assert mistral("[TOOL_CALLS]", '{"name": "look", "arguments": {"at": "it"}}') == ("", calls[:1])


def test_ids_of_the_model_are_kept_where_they_can_be() -> None:
    tokenizer = bundled("v3")
    text = json.dumps(
        [{"name": "look", "arguments": {}, "id": i} for i in ("abcdefghi", "abcdefghi", "x", "ABCDEFGHI")]
    )
    told, _ = pieces(tokenizer, encode(tokenizer, "[TOOL_CALLS]", text))
    ids = [call.id for call in parse("mistral-v3", tokenizer, told, TOOLS, used_ids=["ABCDEFGHI"])[0].tool_calls]
    assert ids[0] == "abcdefghi"
    assert len(set(ids)) == 4
    assert "ABCDEFGHI" not in ids
    assert all(is_mistral_id(str(i)) for i in ids)


def test_drawn_ids_repeat_with_their_source() -> None:
    told, _ = pieces(TOY, encode(TOY, LOOK))
    ids = [parse("llama-3.1", TOY, told, TOOLS, draws=random.Random(n))[0].tool_calls[0].id for n in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def newer(folder: Path, *parts: str, **options: Any) -> Any:
    return read("mistral-v11", tokenizer_of("v11", folder), *parts, **options)


def test_calls_with_ids_and_args(folder: Path) -> None:
    first, second = ("[TOOL_CALLS]", "look", "[CALL_ID]", "abcdefghi", "[ARGS]", '{"at": "it"}'), (
        "[TOOL_CALLS]", "get_weather", "[ARGS]", '{"city": "Paris"}',
    )  # fmt: skip
    calls = [call("look", at="it"), call("get_weather", city="Paris")]
    assert newer(folder, *first, *second, "</s>") == ("", calls)
    assert newer(folder, "Wait. ", *second, "\n", *first) == ("Wait. ", calls[::-1])
    assert newer(folder, "[TOOL_CALLS]", 'look{"at": "it"}', *second) == ("", calls)
    assert newer(folder, "[TOOL_CALLS]", '[{"name": "look", "arguments": {"at": "it"}}]', *second) == ("", calls)
    tokenizer = tokenizer_of("v11", folder)
    told, _ = pieces(tokenizer, encode(tokenizer, *first))
    assert parse("mistral-v11", tokenizer, told, TOOLS)[0].tool_calls[0].id == "abcdefghi"


def test_calls_come_as_soon_as_they_are_whole(folder: Path) -> None:
    tokenizer = tokenizer_of("v13", folder)
    parser = AnswerParser(named_format("mistral-v13"), tokenizer, tools=TOOLS, at_start=True)
    begin = encode(tokenizer, "So: ", "[TOOL_CALLS]", "look", "[ARGS]")
    assert parser.feed(begin, "So: look") == [TextDelta("So: ")]
    assert parser.feed(tokenizer.encode('{"a": 1'), '{"a": 1') == []
    (delta,) = parser.feed(tokenizer.encode("}"), "}")
    assert isinstance(delta, CallDelta)
    assert (delta.index, delta.call.name, delta.call.arguments) == (0, "look", '{"a": 1}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        " look at it",
        "[]",
        "[1]",
        '[{"name": "look"',
        '[{"name": "look", "arguments": [1]}]',
        '[{"name": "look", "arguments": "it"}]',
        '[{"name": "", "arguments": {}}]',
        '[{"name": "look", "arguments": {}, "why": "it is lost"}]',
        '[{"name": "look", "arguments": {"a": NaN}}]',
        '[{"name": "look", "arguments": {"a": 1e999}}]',
        '[{"name": "look", "arguments": {"a": "\\ud800"}}]',
        '[{"name": "look", "arguments": {}]}',
        '[{"name": "look", arguments: {}}]',
        "[" * 200,
        '{"name": "look", "arguments": ' + '{"a":' * 100,
    ],
)
def test_what_is_no_call_stays_content(text: str) -> None:
    shown = f" {text}" if text else ""  # SentencePiece's space behind a control token
    assert mistral("Hm.", "[TOOL_CALLS]", text, "</s>") == (f"Hm.[TOOL_CALLS]{shown}", [])


def test_what_goes_wrong_behind_a_call_stays_content() -> None:
    good = '[{"name": "look", "arguments": {"at": "it"}}'
    assert mistral("[TOOL_CALLS]", good + ', {"name": 1}]', "</s>") == (', {"name": 1}]', [call("look", at="it")])
    assert mistral("[TOOL_CALLS]", good + "] There.", "</s>") == (" There.", [call("look", at="it")])
    assert mistral("[TOOL_CALLS]", good + "]]", "</s>") == ("]", [call("look", at="it")])
    assert mistral("[TOOL_CALLS]", "[TOOL_CALLS]", good + "]") == ("[TOOL_CALLS]", [call("look", at="it")])


def test_stray_markers_stay_content(folder: Path) -> None:
    assert newer(folder, "a", "[ARGS]", "b", "[CALL_ID]") == ("a[ARGS]b[CALL_ID]", [])
    assert newer(folder, "[TOOL_CALLS]", "[ARGS]", "{}") == ("[TOOL_CALLS][ARGS]{}", [])
    assert newer(folder, "[TOOL_CALLS]", "look", "[ARGS]", "[ARGS]", "{}") == ("[TOOL_CALLS]look[ARGS][ARGS]{}", [])
    assert newer(folder, "[TOOL_CALLS]", "look", "[ARGS]", "it") == ("[TOOL_CALLS]look[ARGS]it", [])


def test_arguments_as_a_string_or_missing() -> None:
    text = (
        '[{"name": "look", "arguments": "{\\"at\\": \\"it\\"}"}, {"name": "look"}, {"name": "look", "arguments": null}]'
    )
    assert mistral("[TOOL_CALLS]", text) == ("", [call("look", at="it"), call("look"), call("look")])
    text = '[{"type": "function", "function": {"name": "look", "arguments": {"at": "a\nb"}}}]'
    assert mistral("[TOOL_CALLS]", text) == ("", [call("look", at="a\nb")])


# Llama


def test_a_call_in_json() -> None:
    assert llama(LOOK) == ("", [call("look", at="it")])
    assert llama("\n" + LOOK + "\n") == ("", [call("look", at="it")])
    assert llama("Let me see.\n\n" + LOOK) == ("Let me see.\n\n", [call("look", at="it")])
    assert llama(f"{LOOK}; {LOOK}\n{LOOK},") == ("", [call("look", at="it")] * 3)
    assert llama('{"type": "function", "name": "look", "parameters": {}}', form="llama-3.1-meta") == (
        "",
        [call("look")],
    )
    assert llama('{ "parameters" : {"at": "it"}, "name" : "look" }') == ("", [call("look", at="it")])
    assert llama('{"function": "look", "parameters": {}}') == ("", [call("look")])
    assert llama("<|python_tag|>", LOOK, "<|eom_id|>") == ("", [call("look", at="it")])
    assert llama("<|python_tag|>", f"{LOOK}; {LOOK}") == ("", [call("look", at="it")] * 2)


def test_a_call_that_is_only_spoken_of_stays_content() -> None:
    for text in (
        f"Write {LOOK} and it is done.",
        f"Write\n```json\n{LOOK}\n```",
        f"{{{LOOK}}}",
        f"Say {LOOK}; {LOOK} twice",
    ):
        assert llama(text) == (text, [])
    assert llama(f"{LOOK} That will look at it.") == (" That will look at it.", [call("look", at="it")])
    assert llama(f"{LOOK}; so: {LOOK}") == ("; so: ", [call("look", at="it")] * 2)


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ada", "parameters": {}}',
        '{"name": "look", "parameters": {}',
        '{"name": "look", "born": 1815}',
        '{"names": ["look"]}',
        "{",
        "<",
        "<function=other>{}</function>",
        "<function=look>{}",
        "<function=look>it</function>",
        "<function=look>{}</functions>",
        '{"name": "look"]',
        "<b>{bold}</b>",
        "[look(at=1)]",
        "{}",
    ],
)
def test_other_text_stays_content(text: str) -> None:
    for shown in (text, f"{text} ", f"Here: {text}", f"{text}{text}", f"{text}\nand"):
        assert llama(shown) == (shown, [])
    assert llama(f"{text} {LOOK}") == (f"{text} ", [call("look", at="it")]) or text in (
        '{"name": "look", "parameters": {}',  # a brace is missing: the rest is inside it
    )


def test_functions_in_angle_brackets() -> None:
    assert llama('<function=look>{"at": "it"}</function>', "<|eom_id|>") == ("", [call("look", at="it")])
    assert llama('I will. <function=look> {"at": "</function>"} </function>') == (
        "I will. ",
        [call("look", at="</function>")],
    )


def test_built_in_tools() -> None:
    search = 'brave_search.call(query="Stockholm weather")'
    query = call("brave_search", query="Stockholm weather")
    assert llama("<|python_tag|>", search, "<|eom_id|>") == ("", [query])
    assert llama("I search.", "<|python_tag|>", search, "<|eom_id|>") == ("I search.", [query])
    assert llama("<|python_tag|>", 'wolfram_alpha.call(query="say "a", "b"")') == (
        "",
        [call("wolfram_alpha", query='say "a", "b"')],
    )
    assert llama("<|python_tag|>", 'get_weather.call(city="Paris", unit="C")') == (
        "",
        [call("get_weather", city="Paris", unit="C")],
    )
    assert llama("<|python_tag|>", search, "<|python_tag|>", search) == ("", [query, query])
    assert llama(LOOK, "<|python_tag|>", search) == ("", [call("look", at="it"), query])
    for text in ("brave_search.call(query)", 'other.call(query="a")', "import math", 'brave_search.call(query="a'):
        assert llama("<|python_tag|>", text) == (f"<|python_tag|>{text}", [])


def test_code_is_a_call_of_the_interpreter_where_there_is_one() -> None:
    code = "import math\nprint(math.pi)"
    options = {"builtin_tools": ("code_interpreter",), "tools": []}
    assert llama("<|python_tag|>", code, "<|eom_id|>", **options) == ("", [call("code_interpreter", code=code)])
    assert llama("<|python_tag|>", code, reason="length", **options) == (f"<|python_tag|>{code}", [])


@pytest.mark.parametrize("form", ["llama-3.1", "mistral-v3"])
def test_without_tools_all_is_content(form: str) -> None:
    if form == "mistral-v3":
        text = '[{"name": "look"}]'
        assert mistral("[TOOL_CALLS]", text, "</s>", tools=[]) == (f"[TOOL_CALLS]{text}", [])
    else:
        text = 'brave_search.call(query="Stockholm weather")'
        assert llama("<|python_tag|>", text, "<|eom_id|>", tools=[]) == (f"<|python_tag|>{text}", [])
        assert llama(f" {LOOK} ", tools=[]) == (f" {LOOK} ", [])
        assert llama(f" {LOOK} ", form="llama-3") == (f" {LOOK} ", [])


def test_pythonic_lists() -> None:
    def pythonic(*parts: str) -> Any:
        return llama(*parts, form="llama-3.2-pythonic")

    text = '[look(at=\'it\', n=-1.5, deep=[True, {"a": None}, (1,)]), get_weather( city = "S\\u00e3o \\"P\\"\\n" )]'
    calls = [call("look", at="it", n=-1.5, deep=[True, {"a": None}, [1]]), call("get_weather", city='São "P"\n')]
    assert pythonic(text) == ("", calls)
    assert pythonic("So: " + text) == ("So: ", calls)
    assert pythonic(text + " is it.") == (" is it.", calls)
    assert pythonic("[look()]") == ("", [call("look")])
    for other in (
        *("[1, 2]", "[look]", "[look(1)]", "[other(a=1)]", "[look(a=b)]", "[look(a=1), other()]", "[look(a=1"),
        *("[look(a=1, a=2)]", "[look()] [", "[look(a={1: 2})]", "[look(a=1)", "[look(a=" + "[" * 80),
    ):
        assert pythonic("So " + other) == ("So " + other, [])


def test_the_template_of_a_checkpoint() -> None:
    tags = TemplateFormat("{{ '<tool_call>' }}")
    assert llama(f"<tool_call>\n{LOOK}\n</tool_call>\n<tool_call>{LOOK}</tool_call>", form=tags) == (
        "", [call("look", at="it")] * 2,
    )  # fmt: skip
    assert llama(LOOK, form=TemplateFormat("{{ messages }}")) == ("", [call("look", at="it")])
    text = '[{"name": "look", "arguments": {}}]'
    assert read(TemplateFormat("[TOOL_CALLS]"), bundled("v3"), "[TOOL_CALLS]", text) == ("", [call("look")])


# What the engine cuts


def test_what_a_stop_string_cut_never_comes_out() -> None:
    ids = encode(TOY, "Hello", "<|python_tag|>", LOOK)
    for stop, content, calls in (
        ("lo", "Hel", 0),
        ("llo{", "He", 0),
        ('"it', "Hello<|python_tag|>" + LOOK.split('"it')[0], 0),
    ):
        told, reason = pieces(TOY, ids, stop=stop)
        for sizes in ([1], [3], [1000]):
            answer, _ = parse("llama-3.1", TOY, merged(told, sizes), TOOLS, reason)
            assert (answer.content, len(answer.tool_calls)) == (content, calls)


def test_text_with_control_tokens_by_their_names() -> None:
    ids = encode(TOY, "A", "<|image|>", "<|python_tag|>", LOOK, "<|eom_id|>")
    told, reason = pieces(TOY, ids, skip_special_tokens=False)
    for sizes in ([1], [2], [1000]):
        answer, _ = parse("llama-3.1", TOY, merged(told, sizes), TOOLS, reason, skip_special_tokens=False)
        assert answer.content == "A<|image|>"
        assert [call.name for call in answer.tool_calls] == ["look"]


def test_a_marker_that_a_stop_string_cuts() -> None:
    told, reason = pieces(TOY, encode(TOY, "A", "<|python_tag|>", LOOK), skip_special_tokens=False, stop="_tag")
    assert parse("llama-3.1", TOY, told, TOOLS, reason, skip_special_tokens=False)[0].content == "A<|python"


def test_an_answer_at_once_is_that_of_its_pieces() -> None:
    parser = AnswerParser(named_format("llama-3.1"), TOY, tools=TOOLS, at_start=True)
    answer = parse_answer(parser, encode(TOY, LOOK), LOOK, "stop")
    assert [call.name for call in answer.tool_calls] == ["look"]
    assert isinstance(answer.tool_calls[0], ToolCall)
    assert set(TOKENIZERS) >= set(MISTRAL)
