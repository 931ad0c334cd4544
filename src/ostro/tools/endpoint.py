"""Another server as the model of the loop: OpenAI's chat completions, as this one's own server and many others have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ostro.chat.answers import CallDelta, TextDelta
from ostro.chat.messages import ToolCall
from ostro.endpoint import Connection, Server
from ostro.engine.params import SamplingParams
from ostro.errors import RequestError, ServiceError
from ostro.tools.models import Messages, ModelAnswer, Telling
from ostro.tools.toolbox import ToolBox

_SENT = ("temperature", "top_p", "max_tokens", "seed", "presence_penalty", "frequency_penalty", "stop")


class Endpoint:
    """A server at `base_url` (with its /v1, if it has one) and the `model` that it is asked for.

    Of `params` those that OpenAI's protocol has are sent; RequestError for another that is set, and for an address or
    a key that is none. `timeout` is the longest silence in seconds.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        params: SamplingParams | None = None,
        timeout: float = 600.0,
    ) -> None:
        self._server = Server(base_url, api_key)
        self._model = model
        self._timeout = timeout
        self._fields = _fields(params)

    def answer(
        self, messages: Messages, toolbox: ToolBox, *, tool_choice: str, parallel: bool, tell: Telling
    ) -> ModelAnswer:
        """The next message, streamed."""
        body = {**self._fields, "model": self._model, "messages": list(messages), "stream": True}
        if toolbox.tools:
            body |= {"tools": toolbox.described(), "tool_choice": _choice(tool_choice)}
            if not parallel:
                body["parallel_tool_calls"] = False
        collected = _Collected(self._server.name)
        with Connection(self._server, timeout=self._timeout) as connection:
            for chunk in connection.events("/chat/completions", body, may_be_whole=True):
                collected.add(chunk, tell)
        return collected.answer(tell)


@dataclass
class _Collected:
    """The pieces of a streamed answer; calls may come whole or in fragments, told apart by their index."""

    server: str
    content: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    finish_reason: str | None = None

    def add(self, chunk: Mapping[str, Any], tell: Telling) -> None:
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            if text := delta.get("content"):
                self.content.append(text)
                tell(TextDelta(text))
            for number, fragment in enumerate(delta.get("tool_calls") or ()):
                self._add_call(fragment, fragment.get("index", number))
            self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def _add_call(self, fragment: Mapping[str, Any], index: int) -> None:
        call = self.calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        function = fragment.get("function") or {}
        call["id"] = fragment.get("id") or call["id"]
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""

    def answer(self, tell: Telling) -> ModelAnswer:
        calls = [
            ToolCall(call["name"], call["arguments"], call["id"] or None) for _, call in sorted(self.calls.items())
        ]
        for index, call in enumerate(calls):
            tell(CallDelta(index, call))
        if self.finish_reason is None:
            raise ServiceError(f"{self.server} ended its answer before it was whole.")
        return ModelAnswer("".join(self.content), tuple(calls), self.finish_reason)


def _choice(tool_choice: str) -> Any:
    named = tool_choice not in ("auto", "none", "required")
    return {"type": "function", "function": {"name": tool_choice}} if named else tool_choice


def _fields(params: SamplingParams | None) -> dict[str, Any]:
    """The parameters that differ from their defaults, by their names in the protocol."""
    if params is None:
        return {}
    plain = SamplingParams()
    changed = {
        name: getattr(params, name)
        for name in params.__dataclass_fields__
        if getattr(params, name) != getattr(plain, name)
    }
    if other := [name for name in changed if name not in _SENT]:
        raise RequestError(f"{other[0]} cannot be sent to an endpoint; these can: {', '.join(_SENT)}.", param=other[0])
    return {name: list(value) if name == "stop" else value for name, value in changed.items()}
