"""`/v1/responses`: chat in the words of OpenAI's newer API, with conversations that the server keeps for a while."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ostro.chat.messages import AssistantMessage, Message, SystemMessage, ToolCall
from ostro.engine.params import SamplingParams
from ostro.server.apart import SMALL, apart, large_answer
from ostro.server.chat_engine import start_chat
from ostro.server.chat_jobs import tool_choice_of, tools_of, without_nulls
from ostro.server.context import ServerContext, json_answer, owner_of
from ostro.server.delivery import begun, whole_events
from ostro.server.errors import FieldError, NotStoredError
from ostro.server.events import Event
from ostro.server.fields import shown
from ostro.server.jobs import ChatJob
from ostro.server.notes import note
from ostro.server.openai.response_body import ResponseBody
from ostro.server.openai.response_events import ResponseWriter, response_frames
from ostro.server.openai.response_forms import OpenAIResponse
from ostro.server.openai.response_input import input_items, messages_of
from ostro.server.openai.store import StoredResponse
from ostro.server.requests import ask
from ostro.server.sampling import in_words_of, sampling_params
from ostro.server.settings import ServerSettings
from ostro.server.sse import EventStream, unless_gone

_LOGPROBS = "message.output_text.logprobs"
_INCLUDABLE = (_LOGPROBS, "reasoning.encrypted_content")


async def create_response(server: ServerContext, request: Request) -> Response:
    """`POST /v1/responses`."""
    asked = await ask(request, OpenAIResponse, server.settings)
    given = asked.given()
    service = await server.service(request, given.get("model"))
    owner = owner_of(request, server.settings)
    conversation = (*_previous(server, given, owner), *await apart(asked.size, messages_of, given["input"]))
    job = await apart(asked.size, response_job, given, conversation, service.llm.default_params, server.settings)
    stream, limit = given.get("stream", False), server.settings.max_tokens_limit
    note(request.scope, stream=stream)
    with in_words_of(given):
        run = await unless_gone(request, start_chat(service, job, max_tokens_limit=limit, final_only=not stream))
    body = ResponseBody(service.name, given, run.params.temperature, run.params.top_p)
    writer = ResponseWriter(body, service.llm.tokenizer, partial(_keep, server, given, conversation, owner))
    is_large = asked.size > SMALL or run.params.logprobs is not None
    if not stream:
        events = await whole_events(request, run.events(), run.cancel)
        if is_large:
            return await large_answer(partial(_whole, writer, events), asked.headers, is_shared=True)
        return json_answer(_whole(writer, events), asked.headers)
    begun_events = await begun(request, run.events(), run.cancel)
    frames = response_frames(writer, begun_events, is_large=is_large)
    return EventStream(frames, on_close=run.cancel, headers=asked.headers)


def _whole(writer: ResponseWriter, events: Iterable[Event]) -> dict[str, Any]:
    for event in events:
        for _ in writer.events(event):
            pass
    return writer.response.as_json()


async def get_response(server: ServerContext, request: Request) -> Response:
    """`GET /v1/responses/{id}`."""
    if request.query_params.get("stream", "false").lower() not in ("false", "0", ""):
        raise FieldError("stream cannot be honoured: a kept response is given whole.", param="stream")
    return json_answer(_stored(server, request).body)


async def delete_response(server: ServerContext, request: Request) -> Response:
    """`DELETE /v1/responses/{id}`."""
    response_id = request.path_params["response"]
    server.responses.delete(response_id, owner_of(request, server.settings))
    return json_answer({"id": response_id, "object": "response", "deleted": True})


async def response_input_items(server: ServerContext, request: Request) -> Response:
    """`GET /v1/responses/{id}/input_items`."""
    items = _stored(server, request).input_items
    ids = [item.get("id") for item in items]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return json_answer({"object": "list", "data": items, "first_id": first, "last_id": last, "has_more": False})


def response_job(
    given: Mapping[str, Any], conversation: tuple[Message, ...], defaults: SamplingParams, settings: ServerSettings
) -> ChatJob:
    """The job of a response."""
    form = given["text"].format if "text" in given else None
    params = sampling_params({**given, **({"text.format": form} if form else {})}, defaults, settings)
    instructions = (SystemMessage(given["instructions"]),) if "instructions" in given else ()
    if not conversation:
        raise FieldError("input is empty: give a text or at least one item.", param="input")
    return ChatJob(
        messages=(*instructions, *conversation),
        params=replace(params, logprobs=_logprobs(given)),
        tools=tools_of([_nested(tool, index) for index, tool in enumerate(given.get("tools", ()))]),
        tool_choice=tool_choice_of(given.get("tool_choice")),
        parallel_tool_calls=given.get("parallel_tool_calls", True),
        cache_salt=given.get("cache_salt", ""),
    )


def _logprobs(given: Mapping[str, Any]) -> int | None:
    for name in given.get("include", ()):
        if name not in _INCLUDABLE:
            raise FieldError(
                f"include cannot have {shown(name)} here; it may have {', '.join(_INCLUDABLE)}.",
                param="include",
                code="unsupported_parameter",
            )
    top = given.get("top_logprobs", 0)
    return int(top) if top or _LOGPROBS in given.get("include", ()) else None


def _nested(tool: Mapping[str, Any], index: int) -> dict[str, Any]:
    """A tool of this API, which is flat, as chat has it."""
    tool = without_nulls(tool)
    if tool.get("type", "function") != "function" or "function" in tool:
        raise FieldError(
            f"tools[{index}] must be {{type: function, name, description, parameters}}: there are no built-in tools "
            f"here. It is {shown(tool)}.",
            param=f"tools[{index}]",
            code="unsupported_parameter",
        )
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _previous(server: ServerContext, given: Mapping[str, Any], owner: str) -> tuple[Message, ...]:
    """The conversation that the request goes on with."""
    if "previous_response_id" not in given:
        return ()
    try:
        return server.responses.get(given["previous_response_id"], owner).messages
    except NotStoredError as error:
        raise FieldError(str(error), param="previous_response_id", code="previous_response_not_found") from None


def _stored(server: ServerContext, request: Request) -> StoredResponse:
    return server.responses.get(request.path_params["response"], owner_of(request, server.settings))


def _keep(
    server: ServerContext, given: Mapping[str, Any], conversation: tuple[Message, ...], owner: str, body: dict[str, Any]
) -> None:
    """Keep a whole response, unless the request says not to."""
    if given.get("store", True):
        messages = (*conversation, _answer_of(body["output"]))
        server.responses.put(StoredResponse(body, input_items(given["input"]), messages, owner))


def _answer_of(output: list[dict[str, Any]]) -> AssistantMessage:
    """The output as the message that the next conversation has of it."""
    text = "".join(part["text"] for item in output if item["type"] == "message" for part in item["content"])
    calls = (item for item in output if item["type"] == "function_call")
    return AssistantMessage(text, tuple(ToolCall(item["name"], item["arguments"], item["call_id"]) for item in calls))
