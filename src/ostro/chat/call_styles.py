"""Which way of writing calls a prompt format has: what the parser reads and what a grammar makes the model write."""

from __future__ import annotations

from typing import Literal, TypeAlias

from ostro.chat.llama import LlamaFormat
from ostro.chat.mistral import MistralFormat
from ostro.chat.render import ChatFormat
from ostro.tokenizer.base import Tokenizer

CallStyle: TypeAlias = Literal[
    "mistral-list", "mistral-args", "llama-json", "llama-meta", "llama-pythonic", "tags", "unknown"
]
"""mistral-list: [TOOL_CALLS] and a JSON list; mistral-args: [TOOL_CALLS] name [ARGS] {...}; llama-json: an object with
name and parameters; llama-meta: one with a type too, as Meta's documents have it; llama-pythonic: [f(a=1)]; tags:
<tool_call>{...}</tool_call>; unknown: a checkpoint's own template, of which only what is common can be read."""


def call_style(format: ChatFormat, tokenizer: Tokenizer) -> CallStyle | None:
    """The style of a format; None where it has no tools. A checkpoint's own template is told by what it writes."""
    if not format.rules.tools:
        return None
    if isinstance(format, MistralFormat):
        return "mistral-args" if format.number >= 11 else "mistral-list"
    if isinstance(format, LlamaFormat):
        if format.tool_format == "pythonic":
            return "llama-pythonic"
        return "llama-meta" if format.dialect == "meta" else "llama-json"
    source = format.source
    if "[TOOL_CALLS]" in source and "[TOOL_CALLS]" in tokenizer.control_tokens:
        return "mistral-args" if "[ARGS]" in source else "mistral-list"
    if "<tool_call>" in source:
        return "tags"
    return "llama-json" if "<|python_tag|>" in source else "unknown"
