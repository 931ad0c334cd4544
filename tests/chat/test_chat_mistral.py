"""Mistral's formats, id for id against mistral-common."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from chat_oracles import mistral_ids, mistral_oracle, write_newer_tekken
from conversations import NASTY, conversations, tools
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ostro.chat import render_chat
from ostro.errors import PromptError
from ostro.tokenizer.mistral import bundled, load_tekken

VERSIONS = ["v1", "v2", "v3", "v3-tekken", "v7", "v7-tekken"]
SHARED = Path(__file__).resolve().parents[3] / "shared"

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "weather-tool.json"
WEATHER: dict[str, Any] = json.loads(EXAMPLE.read_text(encoding="utf-8"))["tools"][0]
PARIS = [{"role": "user", "content": "What's the weather like today in Paris"}]
CALL = {"id": "VvvODy9mT", "function": {"name": "get_current_weather", "arguments": '{"location":"Paris, France"}'}}
ANSWERED = [
    *PARIS,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "VvvODy9mT", "name": "get_current_weather", "content": "22.0"},
]


def ids_of(version: str, messages: list[dict[str, Any]], definitions: list[dict[str, Any]] | None = None) -> list[int]:
    return render_chat(bundled(version), messages, tools=definitions, family="mistral").token_ids


def strategy(version: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    number = int(version.removesuffix("-tekken")[1:])
    return conversations(with_calls=number > 1, parallel=number > 2, content_with_calls=number > 6)


@pytest.mark.parametrize("max_examples", [40, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("version", VERSIONS)
def test_any_conversation_has_the_ids_of_mistral_common(version: str, max_examples: int) -> None:
    @settings(max_examples=max_examples, suppress_health_check=list(HealthCheck))
    @given(messages=strategy(version), definitions=tools())
    def check(messages: list[dict[str, Any]], definitions: list[dict[str, Any]]) -> None:
        definitions = [] if version == "v1" else definitions
        assert ids_of(version, messages, definitions) == mistral_ids(mistral_oracle(version), messages, definitions)

    check()


@pytest.mark.parametrize("version", ["v11", "v13"])
def test_newer_versions_have_the_ids_of_mistral_common(version: str, tmp_path: Path) -> None:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    path = write_newer_tekken(tmp_path, version)
    tokenizer, oracle = load_tekken(path), MistralTokenizer.from_file(path)

    @settings(max_examples=30, suppress_health_check=list(HealthCheck))
    @given(messages=strategy(version), definitions=tools())
    def check(messages: list[dict[str, Any]], definitions: list[dict[str, Any]]) -> None:
        prompt = render_chat(tokenizer, messages, tools=definitions)
        assert prompt.format_name == f"mistral-{version}"
        assert prompt.token_ids == mistral_ids(oracle, messages, definitions)

    check()


@pytest.mark.parametrize(("version", "count"), [("v3-tekken", 128), ("v3", 135)])
def test_tool_prompt_of_the_first_document(version: str, count: int) -> None:
    """NeMo's Tekken needs fewer tokens than Large's vocabulary: the two counts that the document prints."""
    assert len(ids_of(version, PARIS, [WEATHER])) == count


@pytest.mark.skipif(not SHARED.is_dir(), reason="the source documents are not here")
def test_the_tool_is_that_of_the_document() -> None:
    document = next((SHARED / "source-documents").glob("000*.txt")).read_text(encoding="utf-8")
    for text in re.findall(r'"([^"]+)"', str(WEATHER).replace("'", '"')):
        assert text in document
    assert PARIS[0]["content"] in document


GOLDEN = {
    "v1": "<s> [INST] Be brief.\n\nHi [/INST] Hello.</s> [INST] Bye [/INST]",
    "v2": "<s>[INST] Hi[/INST] Hello.</s>[INST] Be brief.\n\nBye[/INST]",
    "v3": "<s>[INST] Hi[/INST] Hello.</s>[INST] Be brief.\n\nBye[/INST]",
    "v3-tekken": "<s>[INST]Hi[/INST]Hello.</s>[INST]Be brief.\n\nBye[/INST]",
    "v7": "<s>[SYSTEM_PROMPT] Be brief.[/SYSTEM_PROMPT][INST] Hi[/INST] Hello.</s>[INST] Bye[/INST]",
    "v7-tekken": "<s>[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT][INST]Hi[/INST]Hello.</s>[INST]Bye[/INST]",
}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_prompt_shown(version: str) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Bye"},
    ]
    assert render_chat(bundled(version), messages, family="mistral", strict=True).text == GOLDEN[version]


TOOL_GOLDEN = {
    "v2": '[TOOL_CALLS][{"name": "get_current_weather", "arguments": {"location": "Paris, France"}}]</s>'
    '[TOOL_RESULTS][{"name": "get_current_weather", "content": 22.0}][/TOOL_RESULTS]',
    "v3-tekken": '[TOOL_CALLS][{"name": "get_current_weather", "arguments": {"location": "Paris, France"}, "id": '
    '"VvvODy9mT"}]</s>[TOOL_RESULTS]{"content": 22.0, "call_id": "VvvODy9mT"}[/TOOL_RESULTS]',
    "v7-tekken": '[TOOL_CALLS][{"name": "get_current_weather", "arguments": {"location": "Paris, France"}, "id": '
    '"VvvODy9mT"}]</s>[TOOL_RESULTS]VvvODy9mT[TOOL_CONTENT]22.0[/TOOL_RESULTS]',
}


@pytest.mark.parametrize("version", TOOL_GOLDEN)
def test_calls_and_results_shown(version: str) -> None:
    prompt = render_chat(bundled(version), ANSWERED, tools=[WEATHER], strict=True)
    shown = (
        prompt.text
        if version != "v2"
        else prompt.text.replace("[TOOL_CALLS] ", "[TOOL_CALLS]").replace("[TOOL_RESULTS] ", "[TOOL_RESULTS]")
    )
    assert shown.endswith(TOOL_GOLDEN[version])
    assert shown.startswith("<s>[AVAILABLE_TOOLS]")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("text", NASTY)
def test_text_of_a_user_is_never_a_control_token(version: str, text: str) -> None:
    tokenizer = bundled(version)
    plain = render_chat(tokenizer, [{"role": "user", "content": "x"}], family="mistral")
    nasty = render_chat(tokenizer, [{"role": "user", "content": text}], family="mistral")

    def controls(ids: list[int]) -> list[int]:
        return [i for i in ids if tokenizer.is_control(i)]

    assert controls(nasty.token_ids) == controls(plain.token_ids)


def test_completion_mask_covers_what_the_model_writes() -> None:
    tokenizer = bundled("v3")
    prompt = render_chat(
        tokenizer, [*ANSWERED, {"role": "assistant", "content": "22 degrees."}], add_generation_prompt=False
    )
    written = [i for i, own in zip(prompt.token_ids, prompt.completion_mask, strict=True) if own]
    assert written.count(tokenizer.control_id("</s>")) == 2
    assert written.count(tokenizer.control_id("[TOOL_CALLS]")) == 1
    assert written[-1] == tokenizer.control_id("</s>")
    assert tokenizer.decode(written).endswith("22 degrees.")
    assert "Paris, France" in tokenizer.decode(written)
    assert "[INST]" not in tokenizer.decode(written, keep_control=True)


def test_origins_and_stop_ids() -> None:
    tokenizer = bundled("v3")
    prompt = render_chat(tokenizer, [{"role": "system", "content": "S"}, *ANSWERED], tools=[WEATHER])
    origins = list(dict.fromkeys(segment.origin for segment in prompt.provenance))
    assert origins == ["bos", "tools", "template", "system[0]+user[1]", "assistant[2]", "tool[3]"]
    assert len(prompt.provenance) == len(prompt) == len(prompt.token_ids)
    assert prompt.stop_ids == (2,)


def test_v1_has_no_tools() -> None:
    with pytest.raises(PromptError, match="mistral-v1 has no tools"):
        ids_of("v1", PARIS, [WEATHER])
    with pytest.raises(PromptError, match=r"messages\[1\] has tool calls") as caught:
        ids_of("v1", ANSWERED)
    assert caught.value.index == 1


def test_v2_writes_one_result_for_an_answer() -> None:
    other = {**CALL, "id": "abcdefghi"}
    messages = [
        PARIS[0],
        {"role": "assistant", "tool_calls": [CALL, other]},
        {"role": "tool", "tool_call_id": "VvvODy9mT", "content": "1"},
        {"role": "tool", "tool_call_id": "abcdefghi", "content": "2"},
    ]
    with pytest.raises(PromptError, match="one tool result") as caught:
        ids_of("v2", messages)
    assert caught.value.index == 3


def test_content_beside_calls_in_v3_is_written_in_front_of_them() -> None:
    """mistral-common refuses it; it is what the model wrote, so it is written as v7 writes it."""
    messages = [PARIS[0], {**ANSWERED[1], "content": "Let me see. "}, ANSWERED[2]]
    prompt = render_chat(bundled("v3-tekken"), messages)
    assert "[/INST]Let me see.[TOOL_CALLS][{" in prompt.text
    assert prompt.repairs == ("messages[1] has content and tool calls: the calls were written right behind the text",)
    with pytest.raises(PromptError) as caught:
        render_chat(bundled("v3-tekken"), messages, strict=True)
    assert caught.value.index == 1
