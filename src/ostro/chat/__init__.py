"""Prompts as segments of token ids: messages in, ids out, and never a control token out of anybody's text.

`render_chat` is the way in. The formats are in `mistral`, `llama` and `template`; what is mended, in `normalize`.
"""

from __future__ import annotations

from ostro.chat.llama import LlamaFormat
from ostro.chat.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
    parse_messages,
    parse_tools,
)
from ostro.chat.mistral import MistralFormat
from ostro.chat.render import ChatFormat, choose_format, named_format, render_chat
from ostro.chat.segments import Prompt, Segment
from ostro.chat.template import TemplateFormat
from ostro.chat.tool_ids import ToolCallIds

__all__ = [
    "AssistantMessage",
    "ChatFormat",
    "LlamaFormat",
    "Message",
    "MistralFormat",
    "Prompt",
    "Segment",
    "SystemMessage",
    "TemplateFormat",
    "Tool",
    "ToolCall",
    "ToolCallIds",
    "ToolMessage",
    "UserMessage",
    "choose_format",
    "named_format",
    "parse_messages",
    "parse_tools",
    "render_chat",
]
