"""Chat over a socket: what the strictest clients of each dialect need of answers and requests."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from scripted import Script, ScriptedService, scripted_server
from sse_client import opened, post_raw

from ostro.errors import ContextLengthError, EngineError, OverloadedError, ShuttingDownError

PATH = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in ("look", "weather")
]
TEXT = "Größe 😀 한국어 \u2028 \x85 end"
CALLS = (
    '[TOOL_CALLS] [{"name": "look", "arguments": {"at": "\u00e9"}}, {"name": "weather", "arguments": {"in": "Seoul"}}]'
)


def script(prompt: str, index: int) -> Script:
    """What the model says is written in the user's last words."""
    if "CALL" in prompt and "[TOOL_RESULTS]" not in prompt:
        return Script(CALLS)
    if "FAIL" in prompt:
        return Script(TEXT, failure=EngineError("The engine broke."), after=0 if "AT ONCE" in prompt else 4)
    if "BUG" in prompt:
        return Script(TEXT, failure=ZeroDivisionError("secret"), after=4)
    if "SLOW" in prompt:
        return Script(TEXT * 20, pause=0.05)
    if "LONG" in prompt:
        return Script(TEXT, finish_reason="length")
    return Script(TEXT if index == 0 else f"{index}: another")


class Server(NamedTuple):
    address: str
    client: httpx.Client
    service: ScriptedService

    def chat(self, path: str = PATH, **body: Any) -> httpx.Response:
        return self.client.post(path, json={"messages": HELLO, **body})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    service = ScriptedService(script)
    with scripted_server(service) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield Server(address, client, service)


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_a_whole_answer(server: Server) -> None:
    answer = server.chat().json()
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage"}
    assert answer["object"] == "chat.completion"
    assert isinstance(answer["created"], int)
    message = {"role": "assistant", "content": TEXT}
    assert answer["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]
    assert all(isinstance(answer["usage"][name], int) for name in ("prompt_tokens", "completion_tokens"))


def test_usage_counts_tokens(server: Server) -> None:
    usage = server.chat(n=3).json()["usage"]
    tokenizer, submitted = server.service.llm.tokenizer, server.service.submitted[-1]
    answers = [TEXT, "1: another", "2: another"]
    assert usage["prompt_tokens"] == len(submitted.prompt.token_ids)
    assert usage["completion_tokens"] == sum(len(tokenizer.encode(text)) + 1 for text in answers)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 3}


def test_the_frames_of_a_stream(server: Server) -> None:
    wire = post_raw(server.address, PATH, {"messages": HELLO, "stream": True})
    assert wire.status == 200
    assert "content-type: text/event-stream" in wire.head.lower()
    assert wire.is_whole
    for chunk in wire.chunks:  # one event a transfer chunk, so that no character is cut
        assert re.fullmatch(rb"data: [^\r\n]*\n\n", chunk)
        assert chunk.isascii()
    assert wire.chunks[-1] == b"data: [DONE]\n\n"
    text = "".join(event["choices"][0]["delta"]["content"] for event in wire.events)
    assert text == TEXT


def test_every_chunk_has_what_clients_index(server: Server) -> None:
    *first, last = post_raw(server.address, PATH, {"messages": HELLO, "stream": True}).events
    for event in (*first, last):
        assert event["object"] == "chat.completion.chunk"
        assert event["id"] == last["id"]
        assert event["model"] == "tiny"
        (choice,) = event["choices"]
        assert choice["index"] == 0
        assert isinstance(choice["delta"]["content"], str)
        assert "finish_reason" in choice
    assert first[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all(event["choices"][0]["finish_reason"] is None for event in first)
    assert all("usage" not in event for event in first)
    assert last["choices"][0]["finish_reason"] == "stop"
    assert last["usage"] == server.chat().json()["usage"]


def test_usage_in_a_chunk_of_its_own(server: Server) -> None:
    body = {"messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    *first, last = post_raw(server.address, PATH, body).events
    assert last["choices"] == []
    assert last["usage"] == server.chat().json()["usage"]
    assert all(event["usage"] is None for event in first)
    assert first[-1]["choices"][0]["finish_reason"] == "stop"


def test_several_answers_are_streamed_side_by_side(server: Server) -> None:
    events = post_raw(server.address, PATH, {"messages": HELLO, "stream": True, "n": 2}).events
    texts = ["", ""]
    ends = []
    for event in events:
        (choice,) = event["choices"]
        texts[choice["index"]] += choice["delta"]["content"]
        ends += [choice["index"]] if choice["finish_reason"] else []
    assert texts == [choice["message"]["content"] for choice in server.chat(n=2).json()["choices"]]
    assert sorted(ends) == [0, 1]
    assert [event for event in events if "usage" in event] == events[-1:]


def test_calls_are_whole_and_alike_streamed_or_not(server: Server) -> None:
    body = {"messages": said("CALL"), "tools": TOOLS, "seed": 3}
    (choice,) = server.chat(**body).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == ""
    calls = choice["message"]["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["look", "weather"]
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", call["id"]) and call["type"] == "function" for call in calls)
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [{"at": "é"}, {"in": "Seoul"}]
    events = post_raw(server.address, PATH, {**body, "stream": True}).events
    deltas = [event["choices"][0]["delta"] for event in events]
    streamed = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [{"index": index, **call} for index, call in enumerate(calls)] == streamed
    assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("name", [None, "look"])
@pytest.mark.parametrize("call_id", ["call_0123456789abcdefghij", "toolu_01", "abcdefghi", None])
def test_the_second_turn_of_a_call(server: Server, call_id: str | None, name: str | None) -> None:
    """Ids of any client go in, also without type, with index and prefix, and with a result that only has a name."""
    call = {"index": 0, "function": {"name": "look", "arguments": "{}"}} | ({"id": call_id} if call_id else {})
    result = {"role": "tool", "content": "it"} | ({"tool_call_id": call_id} if call_id else {})
    messages = [
        *said("CALL"),
        {"role": "assistant", "content": None, "prefix": False, "tool_calls": [call]},
        result | ({"name": name} if name else {}),
    ]
    answer = server.chat(messages=messages, tools=TOOLS)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == TEXT
    prompt = server.service.submitted[-1].prompt.text
    ids = re.findall(r'"(?:call_)?id": "(.*?)"', prompt)
    assert len(ids) == 2
    assert ids[0] == ids[1]
    assert re.fullmatch("[a-zA-Z0-9]{9}", ids[0])


TOLERATED: list[dict[str, Any]] = [
    {"temperature": None, "top_p": None, "tools": None, "stop": None, "response_format": None, "seed": None},
    {"tools": [], "stop": "x", "top_logprobs": 0, "stream_options": None, "tool_choice": "none"},
    {"temperature": 2, "model": None, "max_tokens": 5, "max_completion_tokens": 5},
    {"messages": [{"role": "developer", "content": [{"type": "text", "text": "Obey"}]}, *HELLO, *HELLO]},
    {"messages": [{"role": "system", "content": "a"}, {"role": "system", "content": "b"}, *HELLO]},
    {"messages": [{"role": "user", "content": "a", "name": None, "tool_calls": None, "refusal": None}]},
    {"messages": [*HELLO, {"role": "assistant", "content": "x", "annotations": [], "audio": None}, *HELLO]},
    {"tools": [{**TOOLS[0], "function": {"name": "look", "description": None, "parameters": {}, "strict": None}}]},
]


@pytest.mark.parametrize("body", TOLERATED)
def test_what_real_clients_send_is_taken(server: Server, body: dict[str, Any]) -> None:
    answer = server.chat(**body)
    assert answer.status_code == 200, answer.text


def test_unknown_fields_are_named(server: Server) -> None:
    answer = server.chat(sparkle=1, zip=None, response_format={"type": "text", "colour": "red"})
    assert answer.status_code == 200
    assert answer.headers["x-ostro-ignored-fields"] == "sparkle, response_format.colour"
    streamed = server.chat(**{"sparkle\nset-cookie: x": 1}, stream=True)
    assert streamed.headers["x-ostro-ignored-fields"] == "sparkle?set-cookie: x"
    spaces = server.chat(**{" ": 1, "": 2, "a ": 3, "\u00e9 ": 4})
    assert spaces.headers["x-ostro-ignored-fields"] == "?, ?, a, ?"
    assert "x-ostro-ignored-fields" not in server.chat().headers


@pytest.mark.parametrize("choice", ["any", "required", {"type": "function", "function": {"name": "look"}}])
def test_a_call_that_must_be_is_enforced(server: Server, choice: Any) -> None:
    assert server.chat(messages=said("CALL"), tools=TOOLS, tool_choice=choice).status_code == 200
    grammar = server.service.submitted[-1].params.guided.grammar
    assert "look" in grammar
    assert ("weather" in grammar) == isinstance(choice, str)


def test_response_format_stands_beside_calls(server: Server) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "array"}}}
    assert server.chat(tools=TOOLS, response_format=form).status_code == 200
    grammar = server.service.submitted[-1].params.guided.grammar
    assert "look" in grammar
    assert '"array"' in grammar
    refused = server.chat(tools=TOOLS, guided_grammar='start: "a"')
    assert refused.json()["param"] == "guided_grammar"
    assert server.chat(tools=TOOLS, guided_choice=["a b", "c"]).status_code == 200


def test_without_tools_marks_of_calls_are_text() -> None:
    from toy_tokenizer import LLAMA, toy

    service = ScriptedService(Script('<|python_tag|>brave_search.call(query="Stockholm weather")', "length"))
    service.llm.tokenizer = toy(LLAMA)
    service.llm.config.family = "llama"
    with scripted_server(service) as address:
        answer = httpx.post(f"{address}{PATH}", json={"messages": HELLO}).json()
        text = '<|python_tag|>brave_search.call(query="Stockholm weather")'
        assert answer["choices"][0]["message"]["content"] == text
        body = {"messages": HELLO, "builtin_tools": ["brave_search"]}
        assert httpx.post(f"{address}{PATH}", json=body).status_code == 200
        assert "Tools: brave_search" in service.submitted[-1].prompt.text
        assert service.submitted[-1].params.guided is not None


def test_a_prefix_is_given_back(server: Server) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "Well,", "prefix": True}]
    whole = server.chat(messages=messages).json()["choices"][0]["message"]["content"]
    assert whole.startswith("Well,")
    streamed = post_raw(server.address, PATH, {"messages": messages, "stream": True}).events
    assert "".join(event["choices"][0]["delta"]["content"] for event in streamed) == whole
    assert server.service.submitted[-1].prompt.is_open


def test_logprobs_join_to_the_text(server: Server) -> None:
    (choice,) = server.chat(logprobs=True, top_logprobs=1).json()["choices"]
    tokens = choice["logprobs"]["content"]
    spelled = b"".join(bytes(token["bytes"]) for token in tokens).decode()
    assert spelled.removeprefix(" ") == choice["message"]["content"]
    events = post_raw(server.address, PATH, {"messages": HELLO, "stream": True, "logprobs": True}).events
    streamed = [t for event in events for t in event["choices"][0].get("logprobs", {"content": []})["content"]]
    assert [token["token_id"] for token in streamed] == [token["token_id"] for token in tokens]
    assert streamed[0]["top_logprobs"] == []


@pytest.mark.parametrize("words", ["FAIL", "BUG"])
def test_a_failure_amid_a_stream_cannot_be_overlooked(server: Server, words: str) -> None:
    wire = post_raw(server.address, PATH, {"messages": said(words), "stream": True})
    assert not wire.is_whole
    last = wire.events[-1]
    assert last["choices"][0]["finish_reason"] == "error"
    assert ("engine broke" in last["error"]["message"]) == (words == "FAIL")
    assert "secret" not in wire.body.decode()
    assert b"[DONE]" not in wire.body


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_before_the_first_byte_has_a_status(server: Server, stream: bool) -> None:
    answer = server.chat(messages=said("FAIL AT ONCE"), stream=stream)
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "The engine broke."


REFUSALS = [
    (OverloadedError("Full.", retry_after=2), 429, "overloaded", "2"),
    (ShuttingDownError("Stopping.", retry_after=3), 503, "shutting_down", "3"),
    (ContextLengthError(2500, 2000), 400, "context_length_exceeded", None),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("error", "status", "code", "retry_after"), REFUSALS)
def test_what_admission_refuses(
    server: Server, error: Exception, status: int, code: str, retry_after: str | None, stream: bool
) -> None:
    server.service.refusal = error
    try:
        answer = server.chat(stream=stream)
    finally:
        server.service.refusal = None
    assert answer.status_code == status
    body = answer.json()
    assert body["object"] == "error"
    assert body["code"] == body["error"]["code"] == code
    assert body["message"] == body["error"]["message"]
    assert answer.headers.get("retry-after") == retry_after
    if status == 400:
        assert "maximum context length is 2000 tokens" in body["message"]
        assert "context_length_exceeded" in body["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_ends_the_computation(server: Server, stream: bool) -> None:
    server.service.submitted.clear()
    connection = opened(server.address, PATH, {"messages": said("SLOW"), "stream": stream})
    until(lambda: len(server.service.submitted) == 1)
    if stream:
        assert connection.recv(20)
    connection.close()
    until(lambda: server.service.submitted[0].generation.is_cancelled)


def until(holds: Any) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_length_is_said(server: Server) -> None:
    assert server.chat(messages=said("LONG")).json()["choices"][0]["finish_reason"] == "length"
    assert server.chat(max_tokens=2).json()["choices"][0]["finish_reason"] == "length"
