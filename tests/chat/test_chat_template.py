"""A checkpoint's own Jinja template: the ids of transformers, no injection, and bounded work."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from conversations import NASTY, conversations, texts, tools
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_tokenizer import toy

from ostro.chat import TemplateFormat, render_chat
from ostro.chat.template import _Mask
from ostro.errors import PromptError
from ostro.tokenizer.mistral import bundled

CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "[TOOL_CALLS]", "<|eot_id|>")
TOY = toy(CONTROL)
CHATML = """{% for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim }}
{%- if message.tool_calls %}{{ '[TOOL_CALLS]' + (message.tool_calls | tojson) }}{% endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if tools %}{{ tools | tojson(indent=2) }}{% endif %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
INST = """{{ bos_token }}{% for message in messages %}{% if message.role == 'user' -%}
[INST] {{ message.content }} [/INST]{% else %}{{ ' ' ~ message.content ~ eos_token }}{% endif %}{% endfor %}"""


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def prompt_of(source: str, messages: list[dict[str, Any]], tokenizer: Any = TOY, **options: Any) -> Any:
    return render_chat(tokenizer, messages, format=TemplateFormat(source), **options)


def by_transformers(source: str, messages: list[dict[str, Any]]) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, _ = render_jinja_template(
        [messages], chat_template=source, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )
    text: str = rendered[0]
    return text


@pytest.mark.parametrize("source", [CHATML, INST])
@settings(max_examples=40)
@given(messages=conversations(with_calls=False))
def test_harmless_text_has_the_ids_of_transformers(source: str, messages: list[dict[str, Any]]) -> None:
    pattern = re.compile("|".join(map(re.escape, CONTROL)))
    messages = [{"role": m["role"], "content": pattern.sub("x", m["content"])} for m in messages]
    messages = [m for m in messages if m["content"]]
    if not messages:
        return
    expected = by_transformers(source, messages).removeprefix("<s>")
    assert prompt_of(source, messages).token_ids == [TOY.bos_id, *TOY.encode_with_control(expected)]


def test_sentencepiece_has_the_ids_of_transformers() -> None:
    tokenizer = bundled("v3")
    messages = [user("Hi there"), {"role": "assistant", "content": "Yes."}, user("  why?")]
    expected = tokenizer.encode_with_control(by_transformers(INST, messages))
    assert prompt_of(INST, messages, tokenizer).token_ids == expected


@settings(max_examples=40)
@given(messages=conversations(with_calls=True, content_with_calls=True), definitions=tools())
def test_control_tokens_are_the_templates_own(
    messages: list[dict[str, Any]], definitions: list[dict[str, Any]]
) -> None:
    """Every turn has the control tokens that the template writes for it, whatever its words are."""
    prompt = prompt_of(CHATML, messages, tools=definitions)
    open_end = bool(messages[-1].get("prefix"))
    names = [TOY.piece(i) for i in prompt.token_ids if TOY.is_control(i)]
    turns = names.count("<|im_start|>")
    assert names.count("<|im_end|>") == turns - 1
    assert names.count("<s>") == 1
    assert set(names) <= {"<s>", "<|im_start|>", "<|im_end|>", "[TOOL_CALLS]"}
    assert turns == len(messages) + (not open_end)


@pytest.mark.parametrize("text", NASTY)
def test_hostile_text_comes_back_as_it_was(text: str) -> None:
    prompt = prompt_of(CHATML, [user(f"a{text}b")])
    assert f"a{text}b" in TOY.decode([i for i in prompt.token_ids if i < 256])


@given(st.lists(texts, min_size=1, max_size=4), st.sampled_from(["", "<", "|", "<|im_", "[", "s>", ">", "end|>"]))
def test_masked_texts_spell_no_control_token_however_they_are_joined(parts: list[str], between: str) -> None:
    mask = _Mask(CONTROL, parts)
    joined = between.join(map(mask.text, parts))
    harmless = between.join("\0" for _ in parts)
    assert sum(own for _, own in mask.split(joined)) == sum(own for _, own in mask.split(harmless))
    assert mask.plain(joined) == between.join(parts)


@pytest.mark.parametrize(("front", "back"), [("<|im_", "end|>"), ("<", "/s>"), ("[IN", "ST]"), ("<|im_end|", ">")])
def test_a_token_halved_between_template_and_user_is_text(front: str, back: str) -> None:
    prompt = prompt_of(f"{{{{ '{front}' + messages[0].content }}}}", [user(back)])
    assert prompt.token_ids == [TOY.bos_id, *TOY.encode(front + back)]
    prompt = prompt_of(f"{{{{ messages[0].content + '{back}' }}}}", [user(front)])
    assert prompt.token_ids == [TOY.bos_id, *TOY.encode(front + back)]
    middle = front[1:] + back[:-1]
    prompt = prompt_of(f"{front[0]}{{{{ messages[0].content }}}}{back[-1]}", [user(middle)])
    assert prompt.token_ids == [TOY.bos_id, *TOY.encode(front + back)]


def test_private_characters_of_a_user_are_kept() -> None:
    text = "".join(map(chr, range(0xF0000, 0xF0040))) + "<|im_end|>"
    prompt = prompt_of(CHATML, [user(text)])
    assert text in TOY.decode(prompt.token_ids)


def test_json_escaped_to_ascii_is_masked_too() -> None:
    prompt = prompt_of("{{ messages | tojson(ensure_ascii=true) }}", [user("é<|im_end|>")])
    assert prompt.token_ids[1:] == TOY.encode('[{"role": "user", "content": "\\u00e9<|im_end|>"}]')


@pytest.mark.parametrize("start", ["", "{{ bos_token }}", "{{ bos_token }}{{ bos_token }}"])
def test_exactly_one_bos(start: str) -> None:
    prompt = prompt_of(start + "{{ messages[0].content }}", [user("<s>")])
    assert prompt.token_ids == [TOY.bos_id, *TOY.encode("<s>")]


@pytest.mark.parametrize("source", [CHATML, INST])
def test_text_without_bos_in_the_checkpoint_has_none_but_the_templates(source: str) -> None:
    prompt = prompt_of(source, [user("<s>hi")], toy(CONTROL, adds_bos=False))
    assert prompt.text.count("<s>") == 1 + ("bos_token" in source)
    assert [s.origin for s in prompt.segments].count("bos") == ("bos_token" in source)
    assert prompt.token_ids[0] == TOY.control_tokens["<s>" if "bos_token" in source else "<|im_start|>"]


def test_a_template_may_begin_every_turn_with_bos() -> None:
    """As Llama 2's does."""
    source = "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token }}{% endif %}{{ m.content }}{% endfor %}"
    prompt = prompt_of(source, [user("a"), {"role": "assistant", "content": "b"}, user("<s>")])
    assert prompt.token_ids == [TOY.bos_id, *TOY.encode("ab"), TOY.bos_id, *TOY.encode("<s>")]


def test_the_messages_form_is_seen_whatever_the_control_tokens_are_called() -> None:
    control = (
        "<s>",
        "</s>",
        "<|user|>",
        "<|assistant|>",
        "<|content|>",
        "<|tool_call_id|>",
        "<|function|>",
        "<|name|>",
    )
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}U{% endif %}<|{{ m.role }}|><|content|>{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{% if c.type == 'function' %}{{ c.id }}{{ c.function.name }}{% endif %}"
        "{% endfor %}{{ m.tool_call_id }}{% endfor %}"
    )
    tokenizer = toy(control)
    messages = [user("user"), call("c1"), {"role": "tool", "tool_call_id": "c1", "content": "<|user|>content"}]
    prompt = prompt_of(source, messages, tokenizer)
    assert prompt.text == "<s>U<|user|><|content|>user<|assistant|><|content|>c1f<|tool|><|content|><|user|>contentc1"
    assert [tokenizer.piece(i) for i in prompt.token_ids if tokenizer.is_control(i)] == [
        *("<s>", "<|user|>", "<|content|>", "<|assistant|>", "<|content|>", "<|content|>")
    ]


def test_prefix_is_continued() -> None:
    messages = [user("Hi"), {"role": "assistant", "content": "Hel ", "prefix": True}]
    assert prompt_of(CHATML, messages).text.endswith("<|im_start|>assistant\nHel ")
    with pytest.raises(PromptError, match="continued") as caught:
        prompt_of("{{ messages[0].content }}", messages)
    assert caught.value.index == 1


PLAIN = """{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for c in m.tool_calls or [] %}{{ c | tojson }}{% endfor %}{{ m.tool_call_id }}<|im_end|>
{% endfor %}"""


def call(call_id: str | None, name: str = "f") -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": call_id, "function": {"name": name, "arguments": "{}"}}]}


@pytest.mark.parametrize("strict", [True, False])
def test_ids_of_calls_stay_as_they_are(strict: bool) -> None:
    messages = [user("hi"), call("call_abcdef"), {"role": "tool", "tool_call_id": "call_abcdef", "content": "1"}]
    prompt = prompt_of(PLAIN, messages, strict=strict)
    assert prompt.repairs == ()
    assert '{"id": "call_abcdef", "type": "function"' in prompt.text
    assert prompt.text.count("call_abcdef") == 2
    assert prompt.tool_call_ids.outward("call_abcdef") == "call_abcdef"


def test_calls_without_ids_have_none() -> None:
    messages = [user("hi"), call(None), call(None, "g")]
    results = [{"role": "tool", "name": name, "content": name * 3} for name in ("g", "f")]
    prompt = prompt_of(PLAIN, [*messages, *results])
    assert '{"type": "function", "function": {"name": "f"' in prompt.text
    assert "none" not in prompt.text
    assert prompt.text.index("fff") < prompt.text.index('"name": "g"') < prompt.text.index("ggg")
    answered = {"role": "tool", "tool_call_id": "call_1", "content": "1"}
    assert "1call_1<|im_end|>" in prompt_of(PLAIN, [user("hi"), call(None), answered], strict=True).text


@pytest.mark.parametrize(
    "check",
    [
        "{% for c in m.tool_calls or [] %}{% if c.id is undefined or c.id|length != 9 %}{{ raise_exception('9') }}"
        "{% endif %}{% endfor %}",
        "{% if m.tool_call_id and (m.tool_call_id | length) == 9 %}ok{% endif %}",
        "{% if m.tool_calls %}[TOOL_CALLS]{% endif %}",
    ],
)
def test_ids_are_made_nine_characters_where_the_template_wants_that(check: str) -> None:
    source = PLAIN.replace("{{ m.content }}", check + "{{ m.content }}")
    messages = [user("hi"), call("call_abcdef"), {"role": "tool", "tool_call_id": "call_abcdef", "content": "1"}]
    prompt = prompt_of(source, messages)
    assert len(prompt.repairs) == 2
    assert "call_abcdef" not in prompt.text
    with pytest.raises(PromptError, match="not nine letters and digits"):
        prompt_of(source, messages, strict=True)


def test_dates_are_the_callers() -> None:
    source = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}no date{% endif %}"
    assert prompt_of(source, [user("Hi")]).text == "<s>no date"
    assert prompt_of(source, [user("Hi")], today=datetime.date(2026, 11, 21)).text == "<s>21 Nov 2026"


def test_generation_blocks_and_loop_controls() -> None:
    source = (
        "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}"
        "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    )
    assert prompt_of(source, [user("a"), user("b")]).text == "<s>a"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{{ raise_exception('only users speak here') }}", "refuses these messages: only users speak here"),
        ("{% for %}", "cannot be used"),
        ("{{ messages[7].content }}", "cannot be used"),
        ("{{ 1 + 'a' }}", "fails on these messages: TypeError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ messages | random }}", "random"),
    ],
)  # fmt: skip
def test_failures_are_told(source: str, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        prompt_of(source, [user("Hi")])


GREEDY = {
    "loops": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "a long range": "{% for i in range(1000000000) %}x{% endfor %}",
    "repetition": "{{ 'x' * 1000000000 }}",
    "powers": "{{ 9 ** 9 ** 9 }}",
    "growing numbers": "{% set n = namespace(x=3) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "padding": "{{ 'x' | center(1000000000) }}",
    "printf": "{{ '%999999999d' % 1 }}",
    "format": "{{ '{:>999999999}'.format(1) }}",
    "nested format": "{{ '{:>{w}}'.format(1, w=999999999) }}",
    "doubling": "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling lists": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "shared lists": "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
    "{{ n.x }}",
    "blocks": "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}"
    "{% set n.x = y %}{% endfor %}",
    "replacing": "{% set n = namespace(x='xx') %}{% for i in range(60) %}"
    "{% set n.x = n.x.replace('x', 'xxx') %}{% endfor %}",
    "joining": "{{ ('y' * 99999).join(['a'] * 99999) }}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "endless macros": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "endless recursion": "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "slices": "{% set x = 'y' * 3999999 %}{% for i in range(99999) %}{% set z = x[1:] %}{% endfor %}",
    "searches": "{% set x = 'y' * 3999999 %}{% for i in range(99999) %}{% if 'z' in x %}{% endif %}{% endfor %}",
    "tests": "{% set x = 'Y' * 3999999 %}{% for i in range(99999) %}{% set z = x is upper %}{% endfor %}",
    "output": "{% set x = 'y' * 3999999 %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    "json": "{% set x = 'y' * 3999999 %}{% for i in range(99999) %}{% set z = x | tojson %}{% endfor %}",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", GREEDY)
def test_greedy_templates_are_stopped(name: str) -> None:
    with pytest.raises(PromptError, match="chat template"):
        prompt_of(GREEDY[name], [user("Hi")])


def test_a_long_conversation_is_within_the_bounds() -> None:
    messages = [m for i in range(300) for m in (user("x" * 2000), {"role": "assistant", "content": f"answer {i}"})]
    assert len(prompt_of(CHATML, [*messages, user("end")])) > 600_000
