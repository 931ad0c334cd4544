"""Mistral's instruct formats v1, v2, v3, v7, v11 and v13; with SentencePiece or Tekken only the tokenizer differs.

Source of every rule: mistral-common, with which the prompts agree id for id. docs/prompts.md shows them in a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from ostro.chat.jsontext import arguments_of, dump, loose, tool_object
from ostro.chat.messages import JOIN, AssistantMessage, SystemMessage, Tool, ToolCall, ToolMessage, UserMessage
from ostro.chat.normalize import Conversation
from ostro.chat.rules import FormatRules, Turn
from ostro.chat.segments import Prompt, PromptBuilder
from ostro.errors import PromptError
from ostro.tokenizer.base import Tokenizer

MistralVersion: TypeAlias = Literal["v1", "v2", "v3", "v7", "v11", "v13"]
MISTRAL_VERSIONS: tuple[MistralVersion, ...] = get_args(MistralVersion)


@dataclass(frozen=True, slots=True)
class MistralFormat:
    """One version of Mistral's format."""

    version: MistralVersion

    @property
    def name(self) -> str:
        """As in `named_format`."""
        return f"mistral-{self.version}"

    @property
    def stop_tokens(self) -> tuple[str, ...]:
        """What ends the assistant's turn."""
        return ("</s>",)

    @property
    def number(self) -> int:
        """The version as a number that can be compared."""
        return int(self.version[1:])

    @property
    def rules(self) -> FormatRules:
        """What the format can express."""
        return FormatRules(
            name=self.name,
            tools=self.number >= 2,
            merge_turns=True,
            fold_system=self.number < 7,
            user_first=self.number < 7,
            content_with_calls=self.number >= 7,
            parallel_calls=True,
            sort_results=self.number >= 11,
            nine_character_ids=self.number >= 3,
            answer_after_answer=False,
        )

    def render(self, tokenizer: Tokenizer, conversation: Conversation, tools: Sequence[Tool]) -> Prompt:
        """Segments of a normalized conversation. Mistral's formats have no generation prompt."""
        if tools and not self.rules.tools:
            raise PromptError(
                f"The prompt format {self.name} has no tools: leave them out, or use a model of Mistral v3 or newer."
            )
        out = _Writer(self.number, PromptBuilder(tokenizer), conversation, tools).write()
        # Of a message of spaces nothing is written, and then the answer begins its own.
        is_open = conversation.is_open and out.ends_in_answer
        return out.build(self.name, self.stop_tokens, conversation, is_open=is_open)


class _Writer:
    """Writes the turns of one conversation."""

    def __init__(self, number: int, out: PromptBuilder, conversation: Conversation, tools: Sequence[Tool]) -> None:
        self._number = number
        self._out = out
        self._turns = conversation.turns
        self._system = conversation.system
        self._tools = tools
        users = [n for n, turn in enumerate(self._turns) if isinstance(turn.message, UserMessage)]
        self._first_user, self._last_user = (users[0], users[-1]) if users else (-1, -1)

    def write(self) -> PromptBuilder:
        self._out.bos()
        for position, turn in enumerate(self._turns):
            # v2 forgets the calls and results that stand before the last user's turn.
            forgotten = self._number == 2 and position < self._last_user
            match turn.message:
                case SystemMessage():
                    self._write_system(turn, turn.message)
                case UserMessage():
                    self._write_user(position, turn, turn.message)
                case AssistantMessage():
                    self._write_assistant(turn, turn.message, forgotten)
                case ToolMessage() if not forgotten:
                    self._check_one_result(position, turn)
                    self._write_result(turn, turn.message)
        return self._out

    def _write_system(self, turn: Turn, message: SystemMessage) -> None:
        self._out.control("[SYSTEM_PROMPT]")
        self._out.text(message.content, turn.origin)
        self._out.control("[/SYSTEM_PROMPT]")

    def _write_user(self, position: int, turn: Turn, message: UserMessage) -> None:
        content, origin = message.content, turn.origin
        # The system prompt goes with the first user in v1 and with the last in v2 and v3; v7 writes it by itself.
        if self._system and position == (self._first_user if self._number == 1 else self._last_user):
            content = f"{self._system.message.content}{JOIN}{content}"
            origin = f"{self._system.origin}+{origin}"
        if self._number == 1:
            # Without control tokens the brackets are text, and one text with what they hold.
            self._out.text(f"[INST] {content} [/INST]", origin)
            return
        if self._tools and position == (self._first_user if self._number >= 13 else self._last_user):
            self._write_tools()
        self._out.control("[INST]")
        self._out.text(content, origin)
        self._out.control("[/INST]")

    def _write_tools(self) -> None:
        self._out.control("[AVAILABLE_TOOLS]", "tools")
        self._out.text(dump([_definition(tool) for tool in self._tools]), "tools")
        self._out.control("[/AVAILABLE_TOOLS]", "tools")

    def _write_assistant(self, turn: Turn, message: AssistantMessage, forgotten: bool) -> None:
        if message.content:
            # Trailing spaces are dropped since v2: no answer ended with them in training.
            content = message.content if self._number == 1 else message.content.rstrip(" ")
            self._out.text(content, turn.origin, is_completion=True)
        calls = () if forgotten else message.tool_calls
        if calls and self._number >= 11:
            for call in calls:
                self._write_call(turn, call)
        elif calls:
            self._out.control("[TOOL_CALLS]", turn.origin, is_completion=True)
            self._out.text(dump([self._call(call) for call in calls]), turn.origin, is_completion=True)
        if not message.prefix and (message.content or calls):
            self._out.eos(turn.origin, is_completion=True)

    def _call(self, call: ToolCall) -> dict[str, object]:
        described: dict[str, object] = {"name": call.name, "arguments": arguments_of(call.arguments)}
        return described if self._number == 2 else {**described, "id": call.id}

    def _write_call(self, turn: Turn, call: ToolCall) -> None:
        assert call.id
        self._out.control("[TOOL_CALLS]", turn.origin, is_completion=True)
        self._out.text(call.name, turn.origin, is_completion=True)
        if self._number < 13:
            self._out.control("[CALL_ID]", turn.origin, is_completion=True)
            self._out.text(call.id, turn.origin, is_completion=True)
        self._out.control("[ARGS]", turn.origin, is_completion=True)
        self._out.text(dump(arguments_of(call.arguments)), turn.origin, is_completion=True)

    def _write_result(self, turn: Turn, message: ToolMessage) -> None:
        self._out.control("[TOOL_RESULTS]", turn.origin)
        if self._number >= 13:
            self._out.text(message.content, turn.origin)
        elif self._number >= 7:
            self._out.text(message.tool_call_id or "", turn.origin)
            self._out.control("[TOOL_CONTENT]", turn.origin)
            self._out.text(message.content, turn.origin)
        else:
            self._out.text(self._result(message), turn.origin)
        self._out.control("[/TOOL_RESULTS]", turn.origin)

    def _result(self, message: ToolMessage) -> str:
        content = loose(message.content) if message.content else {}
        if self._number == 2:
            return dump([{"name": message.name, "content": content}])
        return dump({"content": content, "call_id": message.tool_call_id})

    def _check_one_result(self, position: int, turn: Turn) -> None:
        if self._number == 2 and position and isinstance(self._turns[position - 1].message, ToolMessage):
            raise PromptError(
                "messages: the prompt format mistral-v2 writes one tool result for an answer, and here are several. "
                "Ask for one call at a time, or use a model of Mistral v3 or newer.",
                index=turn.index,
            )


def _definition(tool: Tool) -> dict[str, object]:
    """Mistral writes every key, empty where the caller gave none."""
    return tool_object(Tool(tool.name, tool.description or "", tool.parameters or {}))
