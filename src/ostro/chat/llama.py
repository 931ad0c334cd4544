"""Llama 3's formats: headers, turns, built-in tools, custom tools.

Meta has published two ways of writing them that differ, so both are here as dialects:

- `template` (the default): what the chat template inside the checkpoints of Llama 3.1, 3.2 and 3.3 writes. It always
  begins with a system header that states two dates, trims every text, and quotes results as JSON.
- `meta`: what the `llama-models` package and its prompt_format.md documents write. Texts stand as given, and the system
  header is there only if it has something to say.

`llama3` is the format of the first Llama 3, which has neither dates nor tools. docs/prompts.md shows them in tables.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ostro.chat.jsontext import arguments_of, dump, loose
from ostro.chat.llama_tools import (
    PythonicError,
    builtin_call,
    meta_json_call,
    meta_json_instructions,
    pythonic_calls,
    pythonic_instructions,
    template_instructions,
)
from ostro.chat.messages import AssistantMessage, SystemMessage, Tool, ToolCall, ToolMessage, UserMessage
from ostro.chat.normalize import Conversation
from ostro.chat.rules import FormatRules, Turn
from ostro.chat.segments import Prompt, PromptBuilder
from ostro.errors import PromptError
from ostro.tokenizer.base import Tokenizer

Dialect: TypeAlias = Literal["template", "meta", "llama3"]
ToolFormat: TypeAlias = Literal["json", "pythonic"]
BUILTIN_TOOLS = ("brave_search", "wolfram_alpha", "code_interpreter")
"""What Meta trained the models to call without a definition."""

TEMPLATE_DATE = datetime.date(2024, 7, 26)
"""The date that the checkpoints' templates state where the caller gives none."""

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@dataclass(frozen=True, slots=True)
class LlamaFormat:
    """A dialect and how custom tools are described and called.

    `tool_format` "pythonic" (`[f(a=1), g(b=2)]`) is that of Llama 3.2's text models in Meta's documents, so it goes
    with the dialect `meta`. `tools_in` is where the definitions stand in the dialect `template`: in the first user
    message, as the checkpoints do by default, or in the system message. The dialect `meta` has one place for each: a
    user message of its own for JSON, the system message for pythonic.
    """

    dialect: Dialect = "template"
    tool_format: ToolFormat = "json"
    tools_in: Literal["user", "system"] = field(default="user")

    def __post_init__(self) -> None:
        if self.tool_format == "pythonic" and self.dialect != "meta":
            raise PromptError(f"tool_format 'pythonic' goes with the dialect 'meta', not with {self.dialect!r}.")
        if self.tools_in == "system" and self.dialect != "template":
            raise PromptError(f"tools_in 'system' goes with the dialect 'template', not with {self.dialect!r}.")

    @property
    def name(self) -> str:
        """As in `named_format`."""
        names = {"template": "llama-3.1", "meta": "llama-3.1-meta", "llama3": "llama-3"}
        if self.tool_format == "pythonic":
            return "llama-3.2-pythonic"
        return names[self.dialect] + ("-tools-in-system" if self.tools_in == "system" else "")

    @property
    def stop_tokens(self) -> tuple[str, ...]:
        """What ends the assistant's turn: <|eom_id|> where it awaits the result of a call."""
        return ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>")

    @property
    def rules(self) -> FormatRules:
        """What the format can express. Roles need not alternate, so turns are not merged."""
        return FormatRules(
            name=self.name,
            tools=self.dialect != "llama3",
            merge_turns=False,
            fold_system=False,
            user_first=False,
            content_with_calls=True,
            parallel_calls=self.tool_format == "pythonic",
            sort_results=True,
            nine_character_ids=False,
            answer_after_answer=True,
        )

    def render(
        self,
        tokenizer: Tokenizer,
        conversation: Conversation,
        tools: Sequence[Tool],
        *,
        builtin_tools: Sequence[str] = (),
        today: datetime.date | None = None,
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """Segments of a normalized conversation, with the header of the answer unless the last turn is a prefix.

        `builtin_tools` (of BUILTIN_TOOLS) switch the model's ipython environment on; "code_interpreter" alone is the
        environment without a search. `today` is the date of the system header; without one the dialect `template`
        states its own (26 Jul 2024) and `meta` states none.
        """
        for name in builtin_tools:
            if name not in BUILTIN_TOOLS:
                raise PromptError(f"builtin_tools has {name!r}; Llama 3.1 knows {', '.join(BUILTIN_TOOLS)}.")
        if self.dialect == "llama3" and (tools or builtin_tools):
            raise PromptError("The prompt format llama-3 has no tools; use a model of Llama 3.1 or newer.")
        writer = _Writer(self, PromptBuilder(tokenizer), tools, tuple(builtin_tools), today)
        out = writer.write(conversation, add_generation_prompt)
        is_open = conversation.is_open and out.ends_in_answer
        return out.build(self.name, self.stop_tokens, conversation, is_open=is_open)


class _Writer:
    """Writes one conversation."""

    def __init__(
        self,
        form: LlamaFormat,
        out: PromptBuilder,
        tools: Sequence[Tool],
        builtin_tools: tuple[str, ...],
        today: datetime.date | None,
    ) -> None:
        self._form = form
        self._out = out
        self._tools = tools
        self._builtin_tools = builtin_tools
        self._today = today

    def write(self, conversation: Conversation, add_generation_prompt: bool) -> PromptBuilder:
        turns = list(conversation.turns)
        first = turns[0].message if turns else None
        self._out.bos()
        self._write_system(turns.pop(0) if isinstance(first, SystemMessage) else None)
        if self._tools and not self._tools_in_system:
            self._write_tools(turns)
        for turn in turns:
            match turn.message:
                case AssistantMessage():
                    self._write_assistant(turn, turn.message)
                case ToolMessage():
                    self._header("ipython", turn.origin)
                    self._out.text(self._result(turn.message.content), turn.origin)
                    self._end(turn.origin)
                case SystemMessage() | UserMessage():
                    self._header(turn.message.role, turn.origin)
                    self._out.text(self._trimmed(turn.message.content), turn.origin)
                    self._end(turn.origin)
        if add_generation_prompt and not conversation.is_open:
            self._header("assistant", "generation prompt")
        return self._out

    @property
    def _tools_in_system(self) -> bool:
        return self._form.tools_in == "system" or self._form.tool_format == "pythonic"

    def _header(self, role: str, origin: str) -> None:
        self._out.control("<|start_header_id|>", origin)
        self._out.template(role, origin)
        self._out.control("<|end_header_id|>", origin)
        self._out.template("\n\n", origin)

    def _end(self, origin: str, *, name: str = "<|eot_id|>", is_completion: bool = False) -> None:
        self._out.control(name, origin, is_completion=is_completion)

    def _trimmed(self, text: str) -> str:
        return text if self._form.dialect == "meta" else text.strip()

    def _result(self, content: str) -> str:
        """A result as the template quotes it (a string becomes a JSON string), or as it is."""
        return dump(content) if self._form.dialect == "template" else self._trimmed(content)

    def _write_system(self, turn: Turn | None) -> None:
        lines = self._lines(turn)
        instructions = self._system_instructions(turn)
        if turn is None and not lines and not instructions:
            return
        origin = turn.origin if turn else "template"
        self._header("system", origin)
        self._out.template(lines)
        if self._form.dialect == "template":
            self._out.text(instructions, "tools")
        if turn:
            self._out.text(self._trimmed(turn.message.content), turn.origin)
        if self._form.dialect == "meta":
            self._out.text(instructions, "tools")
        self._end(origin)

    def _lines(self, turn: Turn | None) -> str:
        """What the format itself says in the system header."""
        match self._form.dialect:
            case "template":
                return self._template_lines()
            case "meta":
                return self._meta_lines(turn)
            case "llama3":
                return ""

    def _template_lines(self) -> str:
        lines = "Environment: ipython\n" if self._builtin_tools or self._tools else ""
        if self._builtin_tools:
            lines += f"Tools: {self._named_builtins()}\n\n"
        today = self._today or TEMPLATE_DATE
        date = f"{today.day:02d} {_MONTHS[today.month - 1][:3]} {today.year}"
        return f"{lines}Cutting Knowledge Date: December 2023\nToday Date: {date}\n\n"

    def _meta_lines(self, turn: Turn | None) -> str:
        """The lines of Meta's documents, a blank line between them and the caller's text."""
        environment = "Environment: ipython\n" if self._builtin_tools else ""
        if self._named_builtins():
            environment += f"Tools: {self._named_builtins()}\n"
        dates = ""
        if self._today:
            date = f"{self._today.day:02d} {_MONTHS[self._today.month - 1]} {self._today.year}"
            gap = "\n" if environment and not self._named_builtins() else ""
            dates = f"{gap}Cutting Knowledge Date: December 2023\nToday Date: {date}\n"
        lines = environment + dates
        if (turn and turn.message.content) or self._system_instructions(turn):
            return f"{lines}\n" if lines else ""
        return lines.rstrip("\n") if lines == "Environment: ipython\n" else lines

    def _named_builtins(self) -> str:
        return ", ".join(name for name in self._builtin_tools if name != "code_interpreter")

    def _system_instructions(self, turn: Turn | None) -> str:
        if not self._tools or not self._tools_in_system:
            return ""
        if self._form.tool_format == "json":
            return template_instructions(self._tools, in_user_message=False)
        gap = "\n\n" if turn and turn.message.content else ""
        return gap + pythonic_instructions(self._tools)

    def _write_tools(self, turns: list[Turn]) -> None:
        """The definitions: at the head of the first user's message, or before it in a message of their own."""
        first = turns[0] if turns and isinstance(turns[0].message, UserMessage) else None
        self._header("user", "tools")
        if self._form.dialect == "meta":
            self._out.text(meta_json_instructions(self._tools), "tools")
        else:
            self._out.text(template_instructions(self._tools, in_user_message=True), "tools")
            if first:
                self._out.text(self._trimmed(first.message.content), first.origin)
                turns.pop(0)
        self._end("tools")

    def _write_assistant(self, turn: Turn, message: AssistantMessage) -> None:
        self._header("assistant", turn.origin)
        self._out.text(self._trimmed(message.content), turn.origin, is_completion=True)
        if self._form.tool_format == "pythonic":
            custom = [call for call in message.tool_calls if call.name not in self._builtin_tools]
            self._write_pythonic(turn, custom)
        else:
            custom = []
        for call in message.tool_calls:
            if call not in custom:
                self._write_call(turn, call)
        if not message.prefix:
            awaits = bool(message.tool_calls and self._builtin_tools and not custom)
            self._end(turn.origin, name="<|eom_id|>" if awaits else "<|eot_id|>", is_completion=True)

    def _write_call(self, turn: Turn, call: ToolCall) -> None:
        is_builtin = call.name in self._builtin_tools
        # In its ipython environment the model opens every call with the tag; the template does so for built-ins only.
        if is_builtin or (self._builtin_tools and self._form.dialect == "meta"):
            self._out.control("<|python_tag|>", turn.origin, is_completion=True)
        self._out.text(self._call_text(call, is_builtin), turn.origin, is_completion=True)

    def _call_text(self, call: ToolCall, is_builtin: bool) -> str:
        arguments = arguments_of(call.arguments)
        if is_builtin:
            code = arguments.get("code") if isinstance(arguments, dict) and self._form.dialect == "meta" else None
            return (
                code
                if isinstance(code, str) and call.name == "code_interpreter"
                else builtin_call(call.name, arguments)
            )
        if self._form.dialect == "meta":
            return meta_json_call(call.name, arguments)
        return f'{{"name": "{call.name}", "parameters": {dump(arguments)}}}'

    def _write_pythonic(self, turn: Turn, calls: Sequence[ToolCall]) -> None:
        if not calls:
            return
        try:
            text = pythonic_calls([(call.name, loose(call.arguments or "{}")) for call in calls])
        except PythonicError as error:
            raise PromptError(
                f"{turn.origin} has a call that cannot be written as Python: {error}. Use the tool_format 'json'.",
                index=turn.index,
            ) from None
        self._out.text(text, turn.origin, is_completion=True)
