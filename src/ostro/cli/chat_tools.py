"""A conversation whose model may call tools."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from ostro.cli.chat_session import Message, Pace, Session
from ostro.cli.console import is_interactive, print_note, write
from ostro.cli.interrupt import StopOnInterrupt
from ostro.errors import PromptError

if TYPE_CHECKING:
    from ostro import SamplingParams
    from ostro.chat import Prompt, Tool, ToolCall
    from ostro.chat.answers import Answer
    from ostro.tools import FunctionTool, ToolBox, ToolResult

MAX_ROUNDS = 8
_SHOWN = 300


class ToolSession(Session):
    """As `Session`; calls are carried out under their policies, and the model goes on with the results.

    `definitions` are tools without a function: their calls are shown, and `/result` tells the model what came of them.
    """

    def __init__(self, *args: Any, toolbox: ToolBox, definitions: Sequence[Tool], choice: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        from ostro.chat.jsontext import tool_object
        from ostro.tools.models import format_of, split_tools

        self.toolbox = toolbox
        self.open_calls: list[ToolCall] = []
        self._choice = choice
        self._format = format_of(self.llm, self._rendering.get("format"))
        self._described, self._builtins = split_tools(self._format, toolbox)
        self._described = [*self._described, *definitions]
        self.definitions = tuple(definitions)
        shown = [*toolbox.definitions, *definitions]
        self._rendering = {**self._rendering, "tools": [tool_object(each) for each in shown]}
        self._params_for("auto")  # a tool that no grammar can hold is told before the first question
        self._params_for(choice)

    def result(self, text: str) -> None:
        """What came of the first open call; when all have a result, the model goes on."""
        if not self.open_calls:
            raise PromptError("There is no call that waits for a result.")
        call = self.open_calls.pop(0)
        self.messages.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": text})
        if self.open_calls:
            self._ask_for_result()
        else:
            self._rounds(first=1)

    def _turn(self, text: str, before: list[Message]) -> None:
        self.open_calls = []
        self._before, self._answered = before, False
        self.messages = [*before, {"role": "user", "content": text}]
        try:
            self._rounds(first=0)
        finally:
            if self.messages[-1]["role"] == "user":  # refused or stopped before the first word
                self.messages = before
            else:
                self._answered = True

    def _rounds(self, *, first: int) -> None:
        """Answers and calls in turn; after MAX_ROUNDS an answer without tools."""
        for number in range(first, MAX_ROUNDS + 1):
            choice = "none" if number == MAX_ROUNDS else self._choice if number == 0 else "auto"
            answer, stopped = self._one_answer(choice)
            calls = () if stopped else answer.tool_calls
            self._keep(answer.content, calls)
            if not calls or not self._carry_out(calls):
                return

    def _one_answer(self, choice: str) -> tuple[Answer, bool]:
        prompt = self._render_for(choice)
        params = self._fitting(len(prompt), is_first=len(self.messages) == 1)
        pace = Pace(len(prompt), self.llm.max_model_len)
        answer, stopped = self._read(prompt, self._params_for(choice, params), pace, choice)
        self._note(pace, stopped=stopped)
        return answer, stopped

    def _read(self, prompt: Prompt, params: SamplingParams, pace: Pace, choice: str) -> tuple[Answer, bool]:
        """Print the text of the answer as it comes."""
        from ostro.chat.answers import AnswerParser, TextDelta
        from ostro.tools.models import used_ids

        parser = AnswerParser(
            self._format,
            self.llm.tokenizer,
            tools=[] if choice == "none" else self._described,
            at_start=not prompt.is_open,
            builtin_tools=[] if choice == "none" else self._builtins,
            skip_special_tokens=params.skip_special_tokens,
            used_ids=used_ids(self.messages),
        )
        with StopOnInterrupt() as stop, self.llm.stream(prompt, params) as stream:
            for chunk in stream:
                pace.count(len(chunk.token_ids))
                pace.finish_reason = chunk.finish_reason
                for delta in parser.feed(chunk.token_ids, chunk.text):
                    write(delta.text if isinstance(delta, TextDelta) else "")
                if stop.wanted:
                    break
        for delta in parser.finish("abort" if stop.wanted else pace.finish_reason):
            write(delta.text if isinstance(delta, TextDelta) else "")
        content = parser.answer.content
        write("\n" if content and not content.endswith("\n") else "")
        return parser.answer, stop.wanted

    def _render_for(self, choice: str) -> Prompt:
        tools: dict[str, Any] = {"tools": None, "builtin_tools": ()}
        if choice != "none":
            tools = {"tools": self._described or None, "builtin_tools": tuple(self._builtins)}
        prompt = self.llm.render(self.with_system(), **{**self._rendering, **tools})
        self._states_date = not prompt.format_name.startswith("mistral")
        return prompt

    def _params_for(self, choice: str, params: SamplingParams | None = None) -> SamplingParams:
        from ostro.tools.models import with_choice

        return with_choice(
            params or self._params,
            self._format,
            self.llm,
            self._described,
            choice,
            builtin_tools=self._builtins,
        )

    def _keep(self, content: str, calls: tuple[ToolCall, ...]) -> None:
        from ostro.tools.loop import assistant_message

        if content or calls:
            self.messages.append(assistant_message(content, calls))

    def _carry_out(self, calls: Sequence[ToolCall]) -> bool:
        """Run what can be run; False where a call waits for `/result`."""
        from ostro.tools.loop import tool_message

        names = {each.name for each in self.definitions}
        for call in calls:
            print_note(f"{call.name}({call.arguments})")
            if call.name in names:
                self.open_calls.append(call)
                continue
            result = self.toolbox.run(call)
            self.messages.append(tool_message(result))
            self._show(result)
        if self.open_calls:
            self._ask_for_result()
        return not self.open_calls

    def _show(self, result: ToolResult) -> None:
        shown = result.content if len(result.content) <= _SHOWN else f"{result.content[:_SHOWN]} ..."
        print_note(f"  {result.status} in {result.seconds:.1f} s: {shown}")

    def _ask_for_result(self) -> None:
        call = self.open_calls[0]
        print_note(f"({call.name} has no function here; /result TEXT tells the model what comes of {call.arguments})")


def ask_in_terminal(given: FunctionTool, call: ToolCall) -> bool | Literal["always"]:
    """Whether the person at the terminal lets a call run; without a terminal it does not."""
    if not is_interactive():
        print_note(
            f"({given.name} was not run: nobody can be asked here; --tool-policy {given.name}=allow lets it run)"
        )
        return False
    while True:
        print_note(f"Run {call.name}? y: yes, n: no, a: always in this chat")
        typed = sys.stdin.readline()
        word = typed.strip().lower()
        if word in ("y", "yes"):
            return True
        if word in ("a", "always"):
            return "always"
        if word in ("n", "no") or not typed:
            return False
