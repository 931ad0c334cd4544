"""The loop over models: local ones under a grammar, and an endpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from fake_services import always, serving, stream

from ostro import LLM, Guided, SamplingParams
from ostro.chat import ToolCall
from ostro.chat.answers import CallDelta, TextDelta
from ostro.errors import PromptError, RequestError, ServiceError
from ostro.tools import Endpoint, LocalModel, ModelAnswer, ToolBox, ToolResult, brave_search, run_chat, tool

HELLO = [{"role": "user", "content": "Hello"}]
PARAMS = SamplingParams(seed=1, max_tokens=150)


@tool
def look(at: Literal["it", "that"], times: Literal[1, 2] = 1) -> str:
    """Look."""
    return f"saw {at} {times}"


@dataclass
class Scripted:
    """A model that says what the test wrote."""

    answers: list[ModelAnswer]
    asked: list[tuple[list[Any], str]] = field(default_factory=list)

    def answer(
        self, messages: Sequence[Any], toolbox: ToolBox, *, tool_choice: str, parallel: bool, tell: Any
    ) -> ModelAnswer:
        self.asked.append((list(messages), tool_choice))
        answer = self.answers.pop(0)
        tell(TextDelta(answer.content))
        return answer


def calling(*names: str) -> ModelAnswer:
    calls = [ToolCall(name, '{"at": "it"}', f"abcdefgh{n}") for n, name in enumerate(names)]
    return ModelAnswer("So:", tuple(calls), "stop")


DONE = ModelAnswer("Done.", (), "stop")


def test_calls_are_carried_out_until_the_model_answers() -> None:
    model, events = Scripted([calling("look", "other"), calling("look"), DONE]), []
    result = run_chat(model, HELLO, ToolBox([look], policy="allow"), tool_choice="required", on_event=events.append)
    assert (result.content, result.finish_reason, result.ran_out) == ("Done.", "stop", False)
    assert [choice for _, choice in model.asked] == ["required", "auto", "auto"]
    assert [message["role"] for message in result.messages] == [
        "assistant",
        "tool",
        "tool",
        "assistant",
        "tool",
        "assistant",
    ]
    assert [each.status for each in result.results] == ["done", "failed", "done"]
    call, answer = result.messages[0]["tool_calls"][0], result.messages[1]
    assert call == {"id": "abcdefgh0", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
    assert answer == {"role": "tool", "tool_call_id": "abcdefgh0", "name": "look", "content": "saw it 1"}
    assert model.asked[-1][0] == [*HELLO, *result.messages[:-1]]
    assert [type(event) for event in events[:3]] == [TextDelta, ToolResult, ToolResult]


def test_the_last_round_has_no_tools() -> None:
    model = Scripted([calling("look"), calling("look"), DONE])
    result = run_chat(model, HELLO, ToolBox([look], policy="allow"), max_rounds=2)
    assert result.ran_out
    assert [choice for _, choice in model.asked] == ["auto", "auto", "none"]


def test_what_the_loop_does_not_take() -> None:
    box = ToolBox([look], policy="allow")
    with pytest.raises(RequestError, match="max_rounds"):
        run_chat(Scripted([]), HELLO, box, max_rounds=0)
    with pytest.raises(RequestError, match="params of run_chat is for an LLM"):
        run_chat(Scripted([]), HELLO, box, PARAMS)


@pytest.mark.parametrize("name", ["mistral", "llama"])
def test_a_local_model_calls(name: str, request: pytest.FixtureRequest) -> None:
    llm: LLM = request.getfixturevalue(name)
    events: list[Any] = []
    result = run_chat(
        llm, HELLO, ToolBox([look], policy="allow"), PARAMS, tool_choice="look", parallel=False, max_rounds=1,
        on_event=events.append,
    )  # fmt: skip
    (done,) = result.results
    assert done.status == "done"
    assert done.content.startswith("saw ")
    assert json.loads(done.call.arguments)["at"] in ("it", "that")
    assert isinstance(next(event for event in events if not isinstance(event, TextDelta)), CallDelta)
    assert result.messages[-1]["role"] == "assistant"
    # The conversation goes on: ids and all, the prompt can be written again.
    assert llm.render([*HELLO, *result.messages, *HELLO], tools=ToolBox([look], policy="allow").described())


def test_the_same_seed_calls_the_same(mistral: LLM) -> None:
    box = ToolBox([look], policy="allow")
    made = [
        LocalModel(mistral, PARAMS).answer(HELLO, box, tool_choice="required", parallel=True, tell=lambda _: None)
        for _ in range(2)
    ]
    calls = [[(call.name, call.arguments) for call in answer.tool_calls] for answer in made]
    assert calls[0] == calls[1]
    assert calls[0]


def test_built_in_tools_of_llama_are_announced(llama: LLM) -> None:
    box = ToolBox([brave_search("key", url="http://127.0.0.1:1"), look], policy="deny")
    model = LocalModel(llama, SamplingParams(seed=1, max_tokens=60))
    answer = model.answer(HELLO, box, tool_choice="brave_search", parallel=True, tell=lambda _: None)
    if answer.finish_reason == "stop":
        assert [call.name for call in answer.tool_calls] == ["brave_search"]
    else:  # a random query has no end: what is cut short is no call
        assert answer.content.startswith('<|python_tag|>brave_search.call(query="')


def test_a_form_of_the_answer_goes_with_tools(mistral: LLM) -> None:
    box = ToolBox([look], policy="allow")
    model = LocalModel(mistral, SamplingParams(seed=1, max_tokens=60, guided=Guided(regex="yes|no")))
    for choice in ("auto", "none"):
        answer = model.answer(HELLO, box, tool_choice=choice, parallel=False, tell=lambda _: None)
        assert answer.content in ("yes", "no") or (answer.tool_calls and choice == "auto")
    with pytest.raises(RequestError, match="cannot be combined with tools"):
        LocalModel(mistral, SamplingParams(guided=Guided(choice=["a"]))).answer(
            HELLO, box, tool_choice="auto", parallel=True, tell=lambda _: None
        )


def test_what_a_local_model_does_not_take(mistral: LLM) -> None:
    with pytest.raises(PromptError, match="has no tools"):
        LocalModel(mistral, format="mistral-v1")
    with pytest.raises(RequestError, match="n must be 1"):
        LocalModel(mistral, SamplingParams(n=2))


def chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def whole(index: int, name: str, arguments: str) -> dict[str, Any]:
    return {"index": index, "id": "abcdefgh1", "type": "function", "function": {"name": name, "arguments": arguments}}


END = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}


def test_an_endpoint_calls_and_answers() -> None:
    stop = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    usage = {"choices": [], "usage": {"total_tokens": 3}}
    begin, call = chunk(role="assistant", content=""), chunk(tool_calls=[whole(0, "look", '{"at": "it"}')])
    replies = [
        stream(begin, call, END, "[DONE]"),
        stream(chunk(content="It "), chunk(content="is."), stop, usage, "[DONE]"),
    ]
    events: list[Any] = []
    with serving(lambda fake, _asked: replies[len(fake.asked) - 1]) as fake:
        endpoint = Endpoint(f"{fake.url}/v1/", "tiny", api_key="secret", params=SamplingParams(seed=3, stop="x"))
        result = run_chat(
            endpoint, HELLO, ToolBox([look], policy="allow"), tool_choice="look", parallel=False, on_event=events.append
        )
    assert result.content == "It is."
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["It ", "is."]
    assert result.results[0].content == "saw it 1"
    first, second = fake.asked
    assert (first.path, first.headers["authorization"]) == ("/v1/chat/completions", "Bearer secret")
    assert first.body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert (first.body["seed"], first.body["stop"], first.body["parallel_tool_calls"]) == (3, ["x"], False)
    assert "temperature" not in first.body
    assert second.body["tool_choice"] == "auto"
    assert second.body["messages"] == [*HELLO, *result.messages[:-1]]


def test_an_endpoint_that_sends_calls_in_fragments() -> None:
    one = {"index": 0, "id": "call_1", "function": {"name": "look", "arguments": ""}}
    rest = [{"index": 0, "function": {"arguments": part}} for part in ('{"at"', ': "that"}')]
    two = {"index": 1, "id": "call_2", "function": {"name": "look", "arguments": "{}"}}
    reply = stream(*(chunk(tool_calls=[each]) for each in (one, rest[0], two, rest[1])), END)
    with serving(lambda _fake, _asked: reply) as fake:
        model = Endpoint(fake.url, "tiny")
        answer = model.answer(
            HELLO, ToolBox([look], policy="allow"), tool_choice="auto", parallel=True, tell=lambda _: None
        )
    assert [(call.id, call.arguments) for call in answer.tool_calls] == [("call_1", '{"at": "that"}'), ("call_2", "{}")]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (always(404, {"error": {"message": "no such model"}})(None, None), "status 404.*no such model"),  # type: ignore[arg-type]
        (stream(chunk(content="a"), {"error": {"message": "out of memory"}}), "amid its answer: out of memory"),
        (stream(chunk(content="a")), "before it was whole"),
        (stream("no json"), "no completion"),
    ],
)
def test_an_endpoint_that_fails(reply: Any, words: str) -> None:
    with serving(lambda _fake, _asked: reply) as fake, pytest.raises(ServiceError, match=words):
        run_chat(Endpoint(fake.url, "tiny"), HELLO, ToolBox([look], policy="allow"))


def test_an_endpoint_that_does_not_stream() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [whole(0, "look", '{"at": "it"}')]}
    reply = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    with serving(always(200, reply)) as fake:
        model, box = Endpoint(f"{fake.url}/chat/completions", "tiny"), ToolBox([look], policy="allow")
        answer = model.answer(HELLO, box, tool_choice="auto", parallel=True, tell=lambda _: None)
    assert [(call.name, call.arguments) for call in answer.tool_calls] == [("look", '{"at": "it"}')]


def test_what_an_endpoint_cannot_be_given() -> None:
    with pytest.raises(RequestError, match="is no address"):
        Endpoint("127.0.0.1:1", "tiny")
    with pytest.raises(RequestError, match="top_k cannot be sent"):
        Endpoint("http://127.0.0.1:1", "tiny", params=SamplingParams(top_k=3))
