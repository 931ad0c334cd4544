"""The loop: ask the model, carry out its calls, and ask again until it answers in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ostro.chat.answers import AnswerDelta
from ostro.chat.messages import ToolCall
from ostro.engine.params import SamplingParams
from ostro.errors import RequestError
from ostro.llm import LLM
from ostro.tools.models import ChatModel, LocalModel, Messages
from ostro.tools.toolbox import ToolBox, ToolResult

ChatEvent: TypeAlias = AnswerDelta | ToolResult


@dataclass(frozen=True, slots=True)
class ChatResult:
    """How a conversation went on.

    `content` is what the model said last. `messages` are those that were added: its answers, and the results of its
    calls, as clients send them. `results` are all calls with what became of them. `finish_reason` is that of the last
    answer. `ran_out`: `max_rounds` was reached, and the last answer was asked for without tools.
    """

    content: str
    messages: list[dict[str, Any]]
    results: list[ToolResult]
    finish_reason: str | None
    ran_out: bool


def run_chat(
    model: LLM | ChatModel,
    messages: Messages,
    toolbox: ToolBox,
    params: SamplingParams | None = None,
    *,
    tool_choice: str = "auto",
    parallel: bool = True,
    max_rounds: int = 8,
    on_event: Callable[[ChatEvent], None] | None = None,
    **rendering: Any,
) -> ChatResult:
    """Answer a conversation with the help of tools.

    `model` is an `LLM`, then with `params` and `rendering` (see `LLM.render`), or another `ChatModel` such as
    `Endpoint`. Calls run one after the other, each under its policy and its timeout; what they give, errors included,
    goes back to the model. `tool_choice` ("auto", "none", "required" or a tool's name) is that of the first answer;
    then it is "auto". After `max_rounds` answers with calls a last one is asked for without tools. `on_event` gets
    the pieces of the answers and the results as they come.

    Raises what the model raises (PromptError, RequestError, ServiceError), and nothing for what a tool does.
    """
    if max_rounds < 1:
        raise RequestError(f"max_rounds must be at least 1, not {max_rounds}.", param="max_rounds")
    asked = _as_model(model, params, rendering)
    tell = on_event or (lambda _event: None)
    added: list[dict[str, Any]] = []
    results: list[ToolResult] = []
    for number in range(max_rounds + 1):
        choice = "none" if number == max_rounds else tool_choice if number == 0 else "auto"
        answer = asked.answer([*messages, *added], toolbox, tool_choice=choice, parallel=parallel, tell=tell)
        added.append(assistant_message(answer.content, answer.tool_calls))
        if not answer.tool_calls:
            break
        for call in answer.tool_calls:
            results.append(toolbox.run(call))
            added.append(tool_message(results[-1]))
            tell(results[-1])
    return ChatResult(answer.content, added, results, answer.finish_reason, number == max_rounds)


def assistant_message(content: str, calls: tuple[ToolCall, ...]) -> dict[str, Any]:
    """An answer as clients send it."""
    described = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in calls
    ]
    return {"role": "assistant", "content": content, **({"tool_calls": described} if described else {})}


def tool_message(result: ToolResult) -> dict[str, Any]:
    """A result as clients send it."""
    return {
        "role": "tool",
        "tool_call_id": result.call.id,
        "name": result.call.name,
        "content": result.content,
    }


def _as_model(model: LLM | ChatModel, params: SamplingParams | None, rendering: dict[str, Any]) -> ChatModel:
    if isinstance(model, LLM):
        return LocalModel(model, params, **rendering)
    if params is not None or rendering:
        given = "params" if params is not None else next(iter(rendering))
        raise RequestError(
            f"{given} of run_chat is for an LLM, and the model is another here; what an Endpoint sends is said where "
            "it is made: Endpoint(url, name, params=...).",
            param=given,
        )
    return model
