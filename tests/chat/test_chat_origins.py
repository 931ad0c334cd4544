"""Whose words the tokens of a rendered template are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from conversations import conversations
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_tokenizer import toy

from ostro.chat import Prompt, TemplateFormat, render_chat
from ostro.chat.origins import split_by_owner
from ostro.tokenizer import Tokenizer
from ostro.tokenizer.mistral import bundled

CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "[TOOL_CALLS]", "<|eot_id|>")
TOY = toy(CONTROL)
PLAIN = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}"""
TRIMMED = PLAIN.replace("m.content", "m.content | trim")
CALLS = """{{ tools | tojson }}|{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}
{{ c.function | tojson }}{% endfor %}|{% endfor %}"""
USER = {"role": "user", "content": "How high is it?"}


def prompt_of(source: str, messages: list[dict[str, Any]], tokenizer: Tokenizer = TOY, **options: Any) -> Prompt:
    return render_chat(tokenizer, messages, format=TemplateFormat(source), **options)


def words(prompt: Prompt) -> Mapping[str, str]:
    """All texts of each origin, joined."""
    found: dict[str, str] = {}
    for segment in prompt.segments:
        if segment.kind != "control":
            found[segment.origin] = found.get(segment.origin, "") + segment.text
    return found


@given(messages=conversations(with_calls=False), source=st.sampled_from([PLAIN, TRIMMED]))
@settings(max_examples=80, deadline=None)
def test_of_bytes_every_one_has_its_message(messages: list[dict[str, Any]], source: str) -> None:
    prompt = prompt_of(source, messages)
    trims = source == TRIMMED
    found = words(prompt)
    for index, message in enumerate(messages):
        text = message["content"]
        if message.get("prefix"):
            text = text.lstrip() if trims else text
        elif trims:
            text = text.strip()
        assert found.get(f"{message['role']}[{index}]", "").strip() == text.strip()
        if not trims:
            assert found.get(f"{message['role']}[{index}]", "") == text
    assert b"".join(map(TOY.token_bytes, prompt.token_ids)).decode() == "".join(found_in_order(prompt))


def found_in_order(prompt: Prompt) -> list[str]:
    return [segment.text for segment in prompt.segments if segment.kind != "control"]


@pytest.mark.parametrize("version", ["v1", "v3", "v3-tekken"])
@given(messages=conversations(with_calls=False))
@settings(max_examples=40, deadline=None)
def test_ids_and_texts_of_real_vocabularies_are_those_of_the_whole(
    version: str, messages: list[dict[str, Any]]
) -> None:
    tokenizer = bundled(version)
    prompt = prompt_of(PLAIN, messages, tokenizer)
    assert words(prompt).get("bos") is None
    runs: list[str] = [""]
    ids: list[list[int]] = [[]]
    for segment in prompt.segments:
        if segment.kind == "control":
            runs.append("")
            ids.append([])
        else:
            runs[-1] += segment.text
            ids[-1] += segment.ids
    assert ids == [tokenizer.encode_continuation(run) for run in runs]


def test_a_token_of_two_origins_has_both() -> None:
    tokenizer = bundled("v3")
    source = "{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
    prompt = prompt_of(source, [USER], tokenizer)
    shown = [(s.kind, s.origin, s.text) for s in prompt.segments]
    assert shown == [
        ("control", "bos", "<s>"),
        ("control", "template", "[INST]"),
        ("text", "template+user[0]", " How"),
        ("text", "user[0]", " high is it?"),
        ("template", "template", " "),
        ("control", "template", "[/INST]"),
    ]
    assert tokenizer.piece(prompt.segments[2].ids[0]) == "▁How"


def test_calls_and_tools_are_told_with_their_keys() -> None:
    call = {"id": "a", "function": {"name": "area", "arguments": '{"side": 3, "unit": "m"}'}}
    messages = [
        USER,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "9"},
    ]
    tools = [{"type": "function", "function": {"name": "area", "parameters": {"type": "object"}}}]
    assert words(prompt_of(CALLS, messages, tools=tools)) == {
        "tools": '[{"type": "function", "function": {"name": "area", "parameters": {"type": "object"}}}]',
        "template": "||||",
        "user[0]": USER["content"],
        "assistant[1]": '{"name": "area", "arguments": {"side": 3, "unit": "m"}}',
        "tool[2]": "9",
    }
    several = prompt_of("{{ messages | tojson(ensure_ascii=true) }}", [USER, {"role": "user", "content": "é"}])
    assert words(several)["user[1]"] == "\\u00e9"
    assert words(several)["user[0]"] == USER["content"]


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content[:3] }}",
        "{{ messages[0].content | length }}",
        "{% if messages[0].content == 'How high is it?' %}a{% else %}b{% endif %}",
        "{% set c = messages[0].content %}{% if c | length > 15 %}{{ raise_exception('too long') }}{% endif %}{{ c }}",
        "{{ messages[0].content.split(' ') | last }}",
        "{% for i in range(7) %}{% for i in range(99999) %}{% endfor %}{% endfor %}{{ messages[0].content }}",
    ],
)
def test_nothing_is_said_where_marks_would_change_the_words(source: str) -> None:
    segments = prompt_of(source, [USER]).segments
    assert {segment.origin for segment in segments} == {"bos", "template"}
    assert [segment.kind for segment in segments] == ["control", "template"]


def test_the_end_of_a_message_that_is_continued_is_its_own() -> None:
    messages = [USER, {"role": "assistant", "content": "8849 m ", "prefix": True}]
    for source in (PLAIN, TRIMMED):
        assert prompt_of(source, messages).segments[-1].text == "8849 m "
        assert prompt_of(source, messages).segments[-1].origin == "assistant[1]"


def test_private_characters_of_a_user_are_kept() -> None:
    text = "".join(map(chr, range(0x100000, 0x100040))) + "<|im_end|>" + chr(0xF0000)
    assert words(prompt_of(PLAIN, [{"role": "user", "content": text}]))["user[0]"] == text
    escaped = prompt_of("{{ messages[0].content | tojson(ensure_ascii=true) }}", [{"role": "user", "content": text}])
    assert words(escaped)["user[0]"].startswith('"\\udbc0\\udc00')
    assert words(escaped)["user[0]"].endswith('<|im_end|>\\udb80\\udc00"')


def test_tokens_that_share_a_character_stay_together() -> None:
    owners = ["a", "b", "b"]
    segments = split_by_owner(TOY, TOY.encode("x한y"), "x한y", owners)
    assert [(s.origin, s.text, len(s.ids)) for s in segments] == [("a", "x", 1), ("b", "한y", 4)]
    assert split_by_owner(TOY, TOY.encode("x"), "y", ["a"])[0].origin == "template"
