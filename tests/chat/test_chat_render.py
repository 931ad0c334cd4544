"""The choice of a format, and what render_chat asks of its caller."""

from __future__ import annotations

import subprocess
import sys

import pytest
from toy_tokenizer import LLAMA, toy

from ostro.chat import (
    ChatFormat,
    LlamaFormat,
    MistralFormat,
    TemplateFormat,
    choose_format,
    named_format,
    render_chat,
)
from ostro.errors import PromptError
from ostro.tokenizer import StreamDetokenizer, Tokenizer
from ostro.tokenizer.mistral import bundled

HELLO = [{"role": "user", "content": "Hello"}]
DATES = "<|start_header_id|> ... Cutting Knowledge Date"
MISTRAL = ("<s>", "</s>", "[INST]", "[/INST]")


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v3-tekken", "v7", "v7-tekken"])
def test_a_mistral_vocabulary_tells_its_version(version: str) -> None:
    assert choose_format(bundled(version), "mixtral") == MistralFormat(version.removesuffix("-tekken"))  # type: ignore[arg-type]


def test_v1_needs_the_family() -> None:
    """Llama 2 and others use vocabularies without control tokens, too."""
    with pytest.raises(PromptError, match="base model"):
        choose_format(bundled("v1"), "llama")
    assert choose_format(bundled("v1"), "llama", "[INST] <<SYS>>") == TemplateFormat("[INST] <<SYS>>")


def test_newer_mistral_is_told_by_its_template() -> None:
    tokenizer = toy(MISTRAL)
    assert choose_format(tokenizer, "mistral", "[INST] [TOOL_CALLS] [CALL_ID] [ARGS]") == MistralFormat("v11")
    assert choose_format(tokenizer, "mistral", "[INST] [TOOL_CALLS] [ARGS]") == MistralFormat("v13")
    for unknown in ("[INST] plain", "[INST] [ARGS] [MODEL_SETTINGS]"):
        assert choose_format(tokenizer, "mistral", unknown) == TemplateFormat(unknown)


def test_llama() -> None:
    assert choose_format(toy(), "llama") == LlamaFormat("template")
    assert choose_format(toy(), "llama", DATES) == LlamaFormat("template")
    own = "<|start_header_id|> of a fine-tune"
    assert choose_format(toy(), "llama", own) == TemplateFormat(own)
    first = toy([name for name in LLAMA if name != "<|eom_id|>"])
    assert choose_format(first, "llama", own) == LlamaFormat("llama3")


def test_a_fine_tune_with_a_format_of_its_own_keeps_it() -> None:
    chatml = "{{ '<|im_start|>' }}"
    assert choose_format(bundled("v1"), "mistral", chatml) == TemplateFormat(chatml)
    assert choose_format(toy(), "llama", chatml) == TemplateFormat(chatml)
    tokenizer = toy(("<s>", "</s>", "<|im_start|>"), template="{{ '<|im_start|>' + messages[0].content }}")
    assert render_chat(tokenizer, HELLO, family="llama").text == "<s><|im_start|>Hello"


def test_a_base_model_has_no_chat() -> None:
    tokenizer = toy(("<s>", "</s>"))
    with pytest.raises(PromptError, match=r"toy has no prompt format.*Use generate.*mistral-v3"):
        render_chat(tokenizer, HELLO, family="llama")
    assert render_chat(tokenizer, HELLO, format="mistral-v1").text == "<s>[INST] Hello [/INST]"


@pytest.mark.parametrize(
    "name", ["mistral-v1", "mistral-v13", "llama-3", "llama-3.1", "llama-3.1-meta", "llama-3.2-pythonic"]
)
def test_names(name: str) -> None:
    assert named_format(name).name == name


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORMATS: dict[str, tuple[Tokenizer, ChatFormat]] = {
    **{v: (bundled(v), named_format(f"mistral-{v.removesuffix('-tekken')}")) for v in ("v1", "v3", "v7-tekken")},
    **{name: (toy(), named_format(name)) for name in ("llama-3", "llama-3.1", "llama-3.1-meta")},
    "template": (bundled("v1"), TemplateFormat(CHATML)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_prompt_says_whether_the_answer_goes_on_with_a_message(name: str) -> None:
    tokenizer, form = FORMATS[name]
    begun = [*HELLO, {"role": "assistant", "content": "The sky"}]
    assert not render_chat(tokenizer, HELLO, format=form).is_open
    assert not render_chat(tokenizer, begun, format=form, add_generation_prompt=False).is_open
    prompt = render_chat(tokenizer, begun, format=form, continue_final_message=True)
    assert prompt.is_open
    assert prompt.text.endswith("The sky")
    answer = tokenizer.encode("is") if tokenizer.dummy_prefix else tokenizer.encode(" is")
    stream = StreamDetokenizer(tokenizer, at_start=not prompt.is_open)
    assert "".join(map(stream.push, answer)) == " is"


def test_an_answer_begins_its_message_where_nothing_of_the_prefix_is_written() -> None:
    for content in ("", "  "):
        begun = [*HELLO, {"role": "assistant", "content": content, "prefix": True}]
        assert not render_chat(bundled("v3"), begun).is_open


def test_refusals() -> None:
    with pytest.raises(PromptError, match="no prompt format 'chatml'"):
        named_format("chatml")
    with pytest.raises(PromptError, match="builtin_tools"):
        render_chat(bundled("v3"), HELLO, builtin_tools=["brave_search"])
    with pytest.raises(PromptError, match="can be continued") as caught:
        render_chat(bundled("v3"), HELLO, continue_final_message=True)
    assert caught.value.index == 0


def test_importing_the_package_is_cheap() -> None:
    """No template engine and no tokenizer library before they are needed."""
    heavy = "{'jinja2', 'mistral_common', 'tokenizers', 'tiktoken', 'sentencepiece', 'torch', 'numpy'}"
    code = f"import sys, ostro.chat; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
