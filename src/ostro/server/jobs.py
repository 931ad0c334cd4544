"""What is asked for, in nobody's dialect: the dialects make jobs, `chat_engine` and `text_engine` run them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ostro.chat.messages import AssistantMessage, Message, Tool
from ostro.chat.segments import Prompt
from ostro.engine.params import SamplingParams

ToolChoiceKind: TypeAlias = Literal["auto", "none", "required", "named"]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tool may or must be called; `name` is of the kind "named"."""

    kind: ToolChoiceKind = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatJob:
    """A conversation to be answered. `parallel_tool_calls` False: at most one call in an answer."""

    messages: tuple[Message, ...]
    params: SamplingParams
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    parallel_tool_calls: bool = True
    builtin_tools: tuple[str, ...] = ()
    safe_prompt: bool = False
    cache_salt: str = ""

    @property
    def offered(self) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
        """The tools, and Llama's built-in ones, that the prompt tells of: none where none may be called."""
        return ((), ()) if self.tool_choice.kind == "none" else (self.tools, self.builtin_tools)

    @property
    def prefix(self) -> str:
        """The text with which the caller began the answer: answers give it back in front of their own."""
        last = self.messages[-1] if self.messages else None
        return last.content if isinstance(last, AssistantMessage) and last.prefix else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextJob:
    """Text, ids or a prompt to be gone on with. `echo` is text that answers give back in front of their own."""

    prompt: str | Sequence[int] | Prompt
    params: SamplingParams
    echo: str = ""
    cache_salt: str = ""
