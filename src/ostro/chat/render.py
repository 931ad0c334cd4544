"""The way from a list of messages to a prompt: the format is chosen, the messages mended, the segments written."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from ostro.chat.llama import LlamaFormat
from ostro.chat.messages import AssistantMessage, Message, Tool, parse_messages, parse_tools
from ostro.chat.mistral import MISTRAL_VERSIONS, MistralFormat
from ostro.chat.normalize import normalize
from ostro.chat.segments import Prompt
from ostro.chat.template import TemplateFormat
from ostro.errors import PromptError
from ostro.tokenizer.base import Tokenizer

ChatFormat: TypeAlias = MistralFormat | LlamaFormat | TemplateFormat

_LLAMA = (
    LlamaFormat("template"),
    LlamaFormat("template", tools_in="system"),
    LlamaFormat("meta"),
    LlamaFormat("meta", "pythonic"),
    LlamaFormat("llama3"),
)
_MISTRAL = tuple(MistralFormat(version) for version in MISTRAL_VERSIONS)
_NAMED: Mapping[str, MistralFormat | LlamaFormat] = {
    **{form.name: form for form in _MISTRAL},
    **{form.name: form for form in _LLAMA},
}


def named_format(name: str) -> ChatFormat:
    """A format by its name: mistral-v1, -v2, -v3, -v7, -v11, -v13, llama-3, llama-3.1, llama-3.1-meta, ..."""
    if name not in _NAMED:
        raise PromptError(f"There is no prompt format {name!r}; there are {', '.join(_NAMED)}.")
    return _NAMED[name]


def choose_format(tokenizer: Tokenizer, family: str | None, template: str | None = None) -> ChatFormat:
    """The format of a checkpoint, from its vocabulary, its family (of `ModelConfig`) and its own Jinja template.

    1. A template that has nothing of the family's format in it (no [INST], no <|start_header_id|>) belongs to a
       fine-tune with a format of its own: that template.
    2. Mistral and Mixtral: the version that the tokenizer states. Version v1 has no control tokens to be known by, so
       it needs the family. A vocabulary that states none, but has [INST], is told by [CALL_ID] (v11) or [ARGS] (v13)
       in the template.
    3. <|start_header_id|> in the vocabulary: Llama. With a template that states no dates, or without <|eom_id|>, it is
       the first Llama 3's format or a fine-tune's template; else the dialect `template`.
    4. Any other with a template: the template.

    PromptError for a base model, whose vocabulary has no format and which ships no template.
    """
    if template and not any(mark in template for mark in ("[INST]", "<|start_header_id|>")):
        return TemplateFormat(template)
    if found := _mistral_format(tokenizer, family, template) or _llama_format(tokenizer, template):
        return found
    if template:
        return TemplateFormat(template)
    raise PromptError(
        f"The vocabulary of {tokenizer.source} has no prompt format for chat, and there is no chat template: "
        "it is a base model. Use generate with plain text, or name a format "
        f"({', '.join(_NAMED)})."
    )


def _mistral_format(tokenizer: Tokenizer, family: str | None, template: str | None) -> MistralFormat | None:
    version = (tokenizer.version or "").removesuffix("-tekken")
    if version == "v1" and family not in ("mistral", "mixtral"):
        return None
    for known in MISTRAL_VERSIONS:
        if known == version:
            return MistralFormat(known)
    if version or "[INST]" not in tokenizer.control_tokens or not template:
        return None
    if "[MODEL_SETTINGS]" in template:
        return None
    if "[CALL_ID]" in template:
        return MistralFormat("v11")
    return MistralFormat("v13") if "[ARGS]" in template else None


def _llama_format(tokenizer: Tokenizer, template: str | None) -> ChatFormat | None:
    if "<|start_header_id|>" not in tokenizer.control_tokens or "<|eot_id|>" not in tokenizer.control_tokens:
        return None
    if "<|eom_id|>" not in tokenizer.control_tokens:
        return LlamaFormat("llama3")
    if template and "Cutting Knowledge Date" not in template:
        return TemplateFormat(template)
    return LlamaFormat("template")


def render_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Mapping[str, Any] | Message],
    *,
    tools: Sequence[Mapping[str, Any] | Tool] | None = None,
    format: ChatFormat | str | None = None,
    family: str | None = None,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    safe_prompt: bool = False,
    strict: bool = False,
    today: datetime.date | None = None,
    builtin_tools: Sequence[str] = (),
) -> Prompt:
    """The prompt of a conversation.

    `format` (or its name) overrides what `choose_format` finds from the tokenizer and `family`. With
    `add_generation_prompt` False the conversation is written as it stands, as training needs it.
    `continue_final_message` has the last message, the assistant's, continued, as `prefix: true` in it does.
    `safe_prompt` puts Mistral's guardrail in front of the system text. `strict` refuses what the normalizer would mend.
    `today` is the date where the format states one. `builtin_tools` are those of Llama 3.1.
    Which tool may or must be called (`tool_choice`) is no matter of the prompt but of the decoding.

    PromptError names the message, by its index, and what is wrong with it.
    """
    form = named_format(format) if isinstance(format, str) else format
    form = form or choose_format(tokenizer, family, tokenizer.chat_template)
    parsed = parse_messages(messages)
    if continue_final_message:
        parsed = _opened(parsed)
    conversation = normalize(
        parsed, form.rules, strict=strict, safe_prompt=safe_prompt, add_generation_prompt=add_generation_prompt
    )
    definitions = parse_tools(tools)
    if isinstance(form, LlamaFormat):
        return form.render(
            tokenizer,
            conversation,
            definitions,
            builtin_tools=builtin_tools,
            today=today,
            add_generation_prompt=add_generation_prompt,
        )
    if builtin_tools:
        raise PromptError(f"builtin_tools are those of Llama 3.1, and the prompt format is {form.name}; give tools.")
    if isinstance(form, MistralFormat):
        return form.render(tokenizer, conversation, definitions)
    return form.render(tokenizer, conversation, definitions, today=today, add_generation_prompt=add_generation_prompt)


def _opened(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    last = messages[-1]
    if not isinstance(last, AssistantMessage):
        index = len(messages) - 1
        raise PromptError(
            f"messages[{index}] has the role {last.role}, and only an assistant's message can be continued: "
            "leave continue_final_message out.",
            index=index,
        )
    return (*messages[:-1], replace(last, prefix=True))
