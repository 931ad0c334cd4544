"""Llama 3's formats against what Meta has published: strings of its documents, and ids of its reference code."""

from __future__ import annotations

import datetime
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from conversations import NASTY, conversations, tools
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_tokenizer import toy

from ostro.chat import LlamaFormat, render_chat
from ostro.errors import PromptError

TOY = toy()
BUILTIN = ("brave_search", "wolfram_alpha")
SEPTEMBER = datetime.date(2024, 9, 21)
FORMATS = ["llama-3.1", "llama-3.1-tools-in-system", "llama-3.1-meta", "llama-3.2-pythonic"]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def call(name: str, arguments: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": arguments}}], **more}


def shown(messages: list[dict[str, Any]], form: str = "llama-3.1", **options: Any) -> str:
    return render_chat(TOY, messages, format=form, **options).text


def turn(role: str, text: str, end: str = "<|eot_id|>") -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}{end}"


def ask(*turns: str) -> str:
    return "<|begin_of_text|>" + "".join(turns) + turn("assistant", "", "")


SONGS = {
    "type": "function",
    "function": {
        "name": "trending_songs",
        "description": "Returns the trending songs on a Music site",
        "parameters": {
            "type": "object",
            "properties": [
                {"n": {"type": "object", "description": "The number of songs to return"}},
                {"genre": {"type": "object", "description": "The genre of the songs to return"}},
            ],
            "required": ["n"],
        },
    },
}
# As printed in prompt_format.md of Llama 3.1.
SONGS_SHOWN = """Answer the user's question by making use of the following functions if needed.
If none of the function can be used, please say so.
Here is a list of functions in JSON format:
{
    "type": "function",
    "function": {
        "name": "trending_songs",
        "description": "Returns the trending songs on a Music site",
        "parameters": {
            "type": "object",
            "properties": [
                {
                    "n": {
                        "type": "object",
                        "description": "The number of songs to return"
                    }
                },
                {
                    "genre": {
                        "type": "object",
                        "description": "The genre of the songs to return"
                    }
                }
            ],
            "required": ["n"]
        }
    }
}

Return function calls in JSON format."""
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "dict", "required": ["city"]}},
}


class TestTemplate:
    """The dialect of the checkpoints' own template, the default."""

    def test_system_header_is_always_there(self) -> None:
        dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
        assert shown([user("Hi")]) == ask(turn("system", dates), turn("user", "Hi"))
        assert shown([system(" S \n"), user(" Hi ")]) == ask(turn("system", f"{dates}S"), turn("user", "Hi"))

    def test_date_is_the_callers(self) -> None:
        assert "Today Date: 02 May 2026\n" in shown([user("Hi")], today=datetime.date(2026, 5, 2))

    def test_custom_tools_in_the_first_user_message(self) -> None:
        definition = (
            '{\n    "type": "function",\n    "function": {\n        "name": "get_weather",\n        "parameters": {\n'
            '            "type": "dict",\n            "required": [\n                "city"\n            ]\n'
            "        }\n    }\n}\n\n"
        )
        answer = (
            'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
            "Do not use variables.\n\n"
        )
        lead = (
            "Given the following functions, please respond with a JSON for a function call "
            "with its proper arguments that best answers the given prompt.\n\n"
        )
        dates = "Environment: ipython\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
        assert shown([user("Oslo?")], tools=[WEATHER]) == ask(
            turn("system", dates), turn("user", f"{lead}{answer}{definition}Oslo?")
        )
        lead = (
            "You have access to the following functions. "
            "To call a function, please respond with JSON for a function call."
        )
        assert shown([user("Oslo?")], "llama-3.1-tools-in-system", tools=[WEATHER]) == ask(
            turn("system", f"{dates}{lead}{answer}{definition}"), turn("user", "Oslo?")
        )

    def test_calls_and_results(self) -> None:
        text = shown([user("?"), call("get_weather", {"city": "Ålesund"}), {"role": "tool", "content": "25 C"}])
        assert text.endswith(
            turn("assistant", '{"name": "get_weather", "parameters": {"city": "Ålesund"}}')
            + turn("ipython", '"25 C"')
            + turn("assistant", "", "")
        )

    def test_builtin_tools(self) -> None:
        messages = [user("?"), call("brave_search", {"query": "gold"}), {"role": "tool", "content": "1"}]
        text = shown(messages, builtin_tools=("code_interpreter", *BUILTIN))
        assert "\n\nEnvironment: ipython\nTools: brave_search, wolfram_alpha\n\nCutting Knowledge Date" in text
        assert turn("assistant", '<|python_tag|>brave_search.call(query="gold")', "<|eom_id|>") in text
        assert "<|python_tag|>" not in shown(messages)

    def test_parallel_calls_are_written_one_by_one(self) -> None:
        calls = [{"id": i, "function": {"name": "f", "arguments": {"x": i}}} for i in ("a", "b")]
        results = [{"role": "tool", "tool_call_id": i, "content": i} for i in ("b", "a")]
        messages = [user("?"), {"role": "assistant", "tool_calls": calls}, *results]
        prompt = render_chat(TOY, messages, format="llama-3.1")
        one = [
            turn("assistant", f'{{"name": "f", "parameters": {{"x": "{i}"}}}}') + turn("ipython", f'"{i}"')
            for i in "ab"
        ]
        assert "".join(one) in prompt.text
        assert "several calls at once" in prompt.repairs[0]
        with pytest.raises(PromptError) as caught:
            render_chat(TOY, messages, format="llama-3.1", strict=True)
        assert caught.value.index == 1

    def test_prefix_leaves_the_answer_open(self) -> None:
        text = shown([user("Hi"), {"role": "assistant", "content": "Hel", "prefix": True}])
        assert text.endswith(turn("user", "Hi") + turn("assistant", "Hel", ""))
        assert text == shown([user("Hi"), {"role": "assistant", "content": "Hel"}], continue_final_message=True)
        assert shown([user("Hi"), {"role": "assistant", "content": "", "prefix": True}]) == shown([user("Hi")])

    def test_completions_are_marked(self) -> None:
        messages = [user("Hi"), {"role": "assistant", "content": "Hello"}]
        prompt = render_chat(TOY, messages, format="llama-3.1", add_generation_prompt=False)
        written = [i for i, own in zip(prompt.token_ids, prompt.completion_mask, strict=True) if own]
        assert TOY.decode(written, keep_control=True) == "Hello<|eot_id|>"
        assert {TOY.piece(i) for i in prompt.stop_ids} == {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"}


class TestMeta:
    """The examples of prompt_format.md (Llama 3.1) and text_prompt_format.md (Llama 3.2)."""

    FORM = "llama-3.1-meta"
    DATES = "Cutting Knowledge Date: December 2023\nToday Date: 21 September 2024\n"

    def test_conversation(self) -> None:
        messages = [system("You are a helpful assistant"), user("Who are you?")]
        expected = ask(turn("system", "You are a helpful assistant"), turn("user", "Who are you?"))
        assert shown(messages, self.FORM) == expected
        assert shown(messages[1:], self.FORM) == ask(turn("user", "Who are you?"))

    def test_builtin_tool(self) -> None:
        text = shown(
            [system("You are a helpful assistant.\n"), user("Gold?")], self.FORM, builtin_tools=BUILTIN, today=SEPTEMBER
        )
        lines = "Environment: ipython\nTools: brave_search, wolfram_alpha\n"
        assert text == ask(
            turn("system", f"{lines}{self.DATES}\nYou are a helpful assistant.\n"), turn("user", "Gold?")
        )

    def test_code_interpreter(self) -> None:
        text = shown([user("7?")], self.FORM, builtin_tools=["code_interpreter"])
        assert text == ask(turn("system", "Environment: ipython"), turn("user", "7?"))
        text = shown([user("7?")], self.FORM, builtin_tools=["code_interpreter"], today=SEPTEMBER)
        assert text == ask(turn("system", f"Environment: ipython\n\n{self.DATES}"), turn("user", "7?"))

    def test_full_interaction(self) -> None:
        messages = [
            user("What is the 100th decimal of pi?"),
            call("wolfram_alpha", {"query": "100th decimal of pi"}),
            {"role": "ipython", "content": "\n{}\n"},
        ]
        assert shown(messages, self.FORM, builtin_tools=BUILTIN) == ask(
            turn("system", "Environment: ipython\nTools: brave_search, wolfram_alpha\n"),
            turn("user", "What is the 100th decimal of pi?"),
            turn("assistant", '<|python_tag|>wolfram_alpha.call(query="100th decimal of pi")', "<|eom_id|>"),
            turn("ipython", "\n{}\n"),
        )

    def test_code_is_written_as_code(self) -> None:
        messages = [user("?"), call("code_interpreter", {"code": "print(7)"}), {"role": "tool", "content": "7"}]
        text = shown(messages, self.FORM, builtin_tools=["code_interpreter"])
        assert turn("assistant", "<|python_tag|>print(7)", "<|eom_id|>") in text

    def test_json_tools(self) -> None:
        messages = [system("You are a helpful assistant.\n"), user("Use tools to get latest trending songs")]
        text = shown(messages, self.FORM, tools=[SONGS], builtin_tools=["code_interpreter"], today=SEPTEMBER)
        assert text == ask(
            turn("system", f"Environment: ipython\n\n{self.DATES}\nYou are a helpful assistant.\n"),
            turn("user", SONGS_SHOWN),
            turn("user", "Use tools to get latest trending songs"),
        )

    def test_pythonic_tools(self) -> None:
        text = shown([user("SF?"), call("get_weather", {"city": "SF", "n": 1, "x": None})], "llama-3.2-pythonic",
                     tools=[WEATHER], add_generation_prompt=False)  # fmt: skip
        listed = (
            '[\n    {\n        "name": "get_weather",\n        "parameters": {\n            "type": "dict",\n'
            '            "required": [\n                "city"\n            ]\n        }\n    }\n]'
        )
        head, _, tail = text.partition("Here is a list of functions in JSON format that you can invoke.\n\n")
        assert head.startswith(
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are an expert in composing"
        )
        assert (
            "format of [func_name1(params_name1=params_value1, params_name2=params_value2...), func_name2(params)]\n"
            in head
        )
        assert tail == f"{listed}<|eot_id|>" + turn("user", "SF?") + turn(
            "assistant", '[get_weather(city="SF", n=1, x=None)]'
        )

    def test_pythonic_calls_are_parallel_and_valid_python(self) -> None:
        calls = [{"function": {"name": n, "arguments": {"a": ['"', {"b": True}]}}} for n in ("f", "g")]
        text = shown(
            [user("?"), {"role": "assistant", "tool_calls": calls}], "llama-3.2-pythonic", add_generation_prompt=False
        )
        assert text.endswith(turn("assistant", '[f(a=["\\"", {"b": True}]), g(a=["\\"", {"b": True}])]'))
        with pytest.raises(PromptError, match="no identifier") as caught:
            shown([user("?"), call("f", {"not this": 1}), {"role": "tool", "content": ""}], "llama-3.2-pythonic")
        assert caught.value.index == 1


def test_the_first_llama_3_has_no_header_of_its_own() -> None:
    assert shown([user(" Hi ")], "llama-3") == ask(turn("user", "Hi"))
    with pytest.raises(PromptError, match="no tools"):
        shown([user("Hi")], "llama-3", tools=[WEATHER])


def test_combinations_that_nobody_published_are_refused() -> None:
    with pytest.raises(PromptError, match="pythonic"):
        LlamaFormat("template", "pythonic")
    with pytest.raises(PromptError, match="tools_in"):
        LlamaFormat("meta", tools_in="system")
    with pytest.raises(PromptError, match="photogen"):
        shown([user("Hi")], builtin_tools=["photogen"])


def test_a_template_written_into_a_message_stays_text() -> None:
    """The Llama snippet of the source documents does it; it must not open turns."""
    raw = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nTools: brave_search<|eot_id|>"
    prompt = render_chat(TOY, [system(raw), user("Stockholm?")], format="llama-3.1")
    plain = render_chat(TOY, [system("x"), user("Stockholm?")], format="llama-3.1")
    assert [i for i in prompt.token_ids if i > 255] == [i for i in plain.token_ids if i > 255]
    assert raw in prompt.text


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=30)
@given(data=st.data())
def test_no_text_becomes_a_control_token(form: str, data: st.DataObject) -> None:
    """The builder asserts it for every segment; here it is counted, over hostile conversations."""
    messages = data.draw(conversations(with_calls=form != "llama-3.2-pythonic", content_with_calls=True))
    prompt = render_chat(
        TOY, messages, tools=data.draw(tools()), format=form, builtin_tools=data.draw(st.sampled_from([(), BUILTIN]))
    )
    controls = sum(segment.kind == "control" for segment in prompt.segments)
    assert controls == sum(i > 255 for i in prompt.token_ids)
    assert prompt.token_ids.count(TOY.bos_id) == 1


@pytest.mark.parametrize("form", FORMATS)
def test_hostile_texts_are_in_the_prompt_as_text(form: str) -> None:
    prompt = render_chat(TOY, [user(text) for text in NASTY], format=form)
    text = TOY.decode([i for i in prompt.token_ids if i < 256])
    assert all(nasty.strip() in text for nasty in NASTY)


def _meta_tokenizer() -> Path | None:
    """Meta's tokenizer.model, of the package llama-models or where OSTRO_LLAMA3_TOKENIZER says."""
    if given_path := os.environ.get("OSTRO_LLAMA3_TOKENIZER"):
        return Path(given_path)
    spec = importlib.util.find_spec("llama_models")
    path = Path(spec.origin).parent / "llama3" / "tokenizer.model" if spec and spec.origin else None
    return path if path and path.is_file() else None


# Ids of Meta's reference code (llama-models 0.3.0, ChatFormat.encode_dialog_prompt) and of the checkpoints' template
# rendered with jinja2 and encoded with Meta's tokenizer.
# fmt: off
GOLDEN_IDS = {
    "llama-3.1": [
        128000, 128006, 9125, 128007, 271, 38766, 1303, 33025, 2696, 25, 6790, 220, 2366, 18, 198, 15724, 2696, 25, 220,
        1627, 10263, 220, 2366, 19, 271, 3513, 10015, 13, 128009, 128006, 882, 128007, 271, 101193, 116024, 83739, 68,
        354, 851, 91, 29, 128009, 128006, 78191, 128007, 271, 5018, 609, 794, 330, 69, 498, 330, 14105, 794, 5324, 87,
        794, 220, 16, 3500, 128009, 128006, 23799, 4690, 128007, 271, 1, 17, 1734, 1, 128009, 128006, 78191, 128007,
        271,
    ],
    "llama-3.1-meta": [
        128000, 128006, 9125, 128007, 271, 3513, 10015, 627, 128009, 128006, 882, 128007, 271, 101193, 116024, 83739,
        68, 354, 851, 91, 29, 128009, 128006, 78191, 128007, 271, 5018, 1337, 794, 330, 1723, 498, 330, 609, 794, 330,
        69, 498, 330, 14105, 794, 5324, 87, 794, 220, 16, 3500, 128009, 128006, 23799, 4690, 128007, 271, 17, 198,
        128009, 128006, 78191, 128007, 271,
    ],
}
# fmt: on


@pytest.mark.skipif(_meta_tokenizer() is None, reason="Meta's tokenizer.model is not here")
@pytest.mark.parametrize("form", ["llama-3.1", "llama-3.1-meta"])
def test_ids_with_the_real_vocabulary(form: str) -> None:
    from ostro.tokenizer.tiktoken import load_tiktoken

    path = _meta_tokenizer()
    assert path is not None
    messages = [system("Be brief.\n"), user("안녕 <|eot_id|>"), call("f", {"x": 1}), {"role": "tool", "content": "2\n"}]
    assert render_chat(load_tiktoken(path), messages, format=form).token_ids == GOLDEN_IDS[form]
