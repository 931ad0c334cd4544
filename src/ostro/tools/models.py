"""Who is asked for the next message: a model in this process, or an endpoint that speaks OpenAI's protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ostro.chat import ChatFormat, LlamaFormat, choose_format, named_format
from ostro.chat.answers import AnswerDelta, AnswerParser
from ostro.chat.messages import Tool, ToolCall
from ostro.chat.tool_choice import ContentForm, call_grammar
from ostro.engine.guided import Guided
from ostro.engine.params import SamplingParams
from ostro.errors import PromptError, RequestError
from ostro.llm import LLM
from ostro.tools.toolbox import ToolBox

Messages = Sequence[Mapping[str, Any]]
Telling = Callable[[AnswerDelta], None]


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """One message of a model. `finish_reason` is the engine's ("stop", "length") or the endpoint's."""

    content: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str | None


class ChatModel(Protocol):
    """What `run_chat` asks for the next message."""

    def answer(
        self, messages: Messages, toolbox: ToolBox, *, tool_choice: str, parallel: bool, tell: Telling
    ) -> ModelAnswer:
        """The next message; `tell` gets its pieces as they come."""


class LocalModel:
    """A model in this process. `rendering` is that of `LLM.render`, without the tools.

    Built-in tools of Llama are announced as the format does it; for other formats they are functions like all others.
    """

    def __init__(self, llm: LLM, params: SamplingParams | None = None, **rendering: Any) -> None:
        self._llm = llm
        self._params = llm.default_params if params is None else params
        if self._params.n != 1:
            raise RequestError(
                f"A conversation goes on with one answer, so n must be 1, not {self._params.n}.", param="n"
            )
        self._rendering = rendering
        self._format = format_of(llm, rendering.get("format"))

    def answer(
        self, messages: Messages, toolbox: ToolBox, *, tool_choice: str, parallel: bool, tell: Telling
    ) -> ModelAnswer:
        """The next message, under the grammar of the choice."""
        tools, builtins = split_tools(self._format, toolbox)
        params = with_choice(
            self._params, self._format, self._llm, tools, tool_choice, parallel=parallel, builtin_tools=builtins
        )
        if tool_choice == "none":
            tools, builtins = [], []
        prompt = self._llm.render(messages, **{**self._rendering, "tools": tools or None, "builtin_tools": builtins})
        parser = AnswerParser(
            self._format,
            self._llm.tokenizer,
            tools=tools,
            at_start=not prompt.is_open,
            builtin_tools=builtins,
            skip_special_tokens=params.skip_special_tokens,
            used_ids=used_ids(messages),
        )
        reason: str | None = None
        with self._llm.stream(prompt, params) as stream:
            for chunk in stream:
                reason = chunk.finish_reason
                for delta in parser.feed(chunk.token_ids, chunk.text):
                    tell(delta)
        for delta in parser.finish(reason):
            tell(delta)
        return ModelAnswer(parser.answer.content, parser.answer.tool_calls, reason)


def split_tools(format: ChatFormat, toolbox: ToolBox) -> tuple[list[Tool], list[str]]:
    """The tools that are described in the prompt, and those that the format announces by their names."""
    knows_builtins = isinstance(format, LlamaFormat) and format.rules.tools
    builtins = [name for name, each in toolbox.tools.items() if each.is_builtin and knows_builtins]
    return [definition for definition in toolbox.definitions if definition.name not in builtins], builtins


def with_choice(
    params: SamplingParams,
    format: ChatFormat,
    llm: LLM,
    tools: Sequence[Tool],
    choice: str,
    *,
    parallel: bool = True,
    builtin_tools: Sequence[str] = (),
) -> SamplingParams:
    """The parameters under the grammar of a choice; a form that they ask of the answer stays that of its text."""
    grammar = call_grammar(
        format, llm.tokenizer, tools, choice, parallel=parallel, builtin_tools=builtin_tools, content=_content(params)
    )
    return params if grammar is None else replace(params, guided=Guided(grammar=grammar))


def used_ids(messages: Messages) -> list[str]:
    """The ids of calls in a conversation."""
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    return [str(call["id"]) for call in calls if isinstance(call, Mapping) and call.get("id")]


def _content(params: SamplingParams) -> ContentForm | None:
    guided = params.guided
    if guided is None:
        return None
    if guided.json_object:
        return ContentForm(json_schema={"type": "object"})
    if guided.json_schema is not None:
        return ContentForm(json_schema=guided.json_schema)
    if guided.regex is not None:
        return ContentForm(regex=guided.regex)
    raise RequestError(
        "A grammar or a choice cannot be combined with tools: ask for a JSON schema or a regex.", param="guided"
    )


def format_of(llm: LLM, given: ChatFormat | str | None) -> ChatFormat:
    """The prompt format that is named, or the model's own; PromptError for one without tools."""
    if isinstance(given, str):
        given = named_format(given)
    form = given or choose_format(llm.tokenizer, llm.config.family, llm.tokenizer.chat_template)
    if not form.rules.tools:
        raise PromptError(
            f"The prompt format {form.name} has no tools: use a model of Mistral v3, Llama 3.1 or newer, or name "
            "another format."
        )
    return form
