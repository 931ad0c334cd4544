"""OpenAI's responses over a socket: items, events, and conversations that the server keeps."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from scripted import Script, ScriptedService, scripted_server
from sse_client import post_raw

from ostro.errors import EngineError
from ostro.server.errors import NotStoredError
from ostro.server.openai.store import ResponseStore, StoredResponse

PATH = "/v1/responses"
TEXT = "Größe 😀"
TOOL = {"type": "function", "name": "look", "description": "Looks.", "parameters": {"type": "object"}, "strict": None}
CALLS = '[TOOL_CALLS] [{"name": "look", "arguments": {"at": "it"}}, {"name": "look", "arguments": {}}]'


def script(prompt: str, index: int) -> Script:
    if "[AVAILABLE_TOOLS]" in prompt and "[TOOL_RESULTS]" not in prompt:
        return Script(CALLS)
    if "FAIL" in prompt:
        return Script(TEXT, failure=EngineError("The engine broke."), after=3)
    return Script(TEXT)


@pytest.fixture(scope="module")
def service() -> ScriptedService:
    return ScriptedService(script)


@pytest.fixture(scope="module")
def address(service: ScriptedService) -> Iterator[str]:
    with scripted_server(service) as address:
        yield address


def create(address: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{address}{PATH}", json=body, timeout=60)


def stream(address: str, **body: Any) -> tuple[list[dict[str, Any]], bool]:
    """The events, each with the name on its `event:` line, and whether the answer was whole."""
    wire = post_raw(address, PATH, {**body, "stream": True})
    events = []
    for chunk in wire.chunks:
        found = re.fullmatch(rb"event: ([a-z_.]+)\ndata: ([^\r\n]*)\n\n", chunk)
        assert found is not None
        event = json.loads(found[2])
        assert event["type"] == found[1].decode()
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events, wire.is_whole


def without_ids(response: dict[str, Any]) -> Any:
    """A response without what is drawn for each."""
    text = json.dumps({**response, "created_at": 0})
    return json.loads(re.sub(r'"((resp|msg|fc)_\w+|[a-zA-Z0-9]{9})"', '"id"', text))


def test_a_whole_response(address: str) -> None:
    answer = create(address, input="Hello").json()
    (item,) = answer["output"]
    assert item["type"] == "message"
    assert item["role"] == "assistant"
    assert item["status"] == answer["status"] == "completed"
    assert item["content"] == [{"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}]
    assert {"id", "created_at", "model", "parallel_tool_calls", "tool_choice", "tools"} <= answer.keys()
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert usage["input_tokens_details"] == {"cached_tokens": 3}
    assert usage["output_tokens_details"] == {"reasoning_tokens": 0}


def test_the_events_of_a_text(address: str) -> None:
    events, is_whole = stream(address, input="Hello")
    assert is_whole
    names = [event["type"].removeprefix("response.") for event in events]
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert names == [
        "created", "in_progress", "output_item.added", "content_part.added",
        *["output_text.delta"] * len(deltas),
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert "".join(deltas) == TEXT
    (item,) = events[-1]["response"]["output"]
    for event in events[3:-2]:
        assert event["item_id"] == item["id"]
        assert event["output_index"] == event["content_index"] == 0
    assert events[-2]["item"] == item
    assert without_ids(events[-1]["response"]) == without_ids(create(address, input="Hello").json())


def test_the_events_of_calls(address: str) -> None:
    events, _ = stream(address, input="Hello", tools=[TOOL])
    whole = create(address, input="Hello", tools=[TOOL]).json()
    assert without_ids(events[-1]["response"]) == without_ids(whole)
    assert [item["type"] for item in whole["output"]] == ["function_call"] * 2
    done = [event for event in events if event["type"] == "response.function_call_arguments.done"]
    assert [json.loads(event["arguments"]) for event in done] == [{"at": "it"}, {}]
    assert [event["output_index"] for event in done] == [0, 1]
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", item["call_id"]) for item in whole["output"])


def test_a_conversation_that_the_server_keeps(address: str, service: ScriptedService) -> None:
    first = create(address, input="One", instructions="Obey").json()
    second = create(address, input="Two", previous_response_id=first["id"]).json()
    assert service.submitted[-1].prompt.text == f"<s>[INST] One[/INST] {TEXT}</s>[INST] Two[/INST]"
    assert second["previous_response_id"] == first["id"]
    events, _ = stream(address, input="Three", previous_response_id=second["id"])
    assert f"[INST] Two[/INST] {TEXT}</s>[INST] Three" in service.submitted[-1].prompt.text
    kept = httpx.get(f"{address}{PATH}/{events[-1]['response']['id']}")
    assert kept.json() == events[-1]["response"]


def test_calls_and_their_results(address: str, service: ScriptedService) -> None:
    first = create(address, input="Look", tools=[TOOL]).json()
    results = [{"type": "function_call_output", "call_id": c["call_id"], "output": "it"} for c in first["output"]]
    by_id = create(address, input=results, tools=[TOOL], previous_response_id=first["id"])
    assert by_id.json()["output"][0]["content"][0]["text"] == TEXT
    kept = service.submitted[-1].prompt.text
    echoed = [{"role": "user", "content": [{"type": "input_text", "text": "Look"}]}, *first["output"], *results]
    assert create(address, input=echoed, tools=[TOOL]).status_code == 200
    assert service.submitted[-1].prompt.text == kept


def test_kept_responses_can_be_read_and_forgotten(address: str) -> None:
    made = create(address, input="Hello").json()
    url = f"{address}{PATH}/{made['id']}"
    assert httpx.get(url).json() == made
    items = httpx.get(f"{url}/input_items").json()
    assert items["data"][0]["content"] == [{"type": "input_text", "text": "Hello"}]
    assert httpx.get(url, params={"stream": "true"}).status_code == 400
    assert httpx.delete(url).json() == {"id": made["id"], "object": "response", "deleted": True}
    for answer in (httpx.get(url), httpx.delete(url), httpx.get(f"{url}/input_items")):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "response_not_found"
    gone = create(address, input="Hello", previous_response_id=made["id"])
    assert gone.status_code == 400
    assert gone.json()["error"]["param"] == "previous_response_id"
    passed = create(address, input="Hello", store=False).json()
    assert httpx.get(f"{address}{PATH}/{passed['id']}").status_code == 404


def test_another_key_does_not_see_a_response(service: ScriptedService) -> None:
    with scripted_server(service, api_keys=["key-one", "key-two"]) as address:
        for scheme in ("Bearer", "bearer", "BEARER "):
            one, two = ({"authorization": f"{scheme} key-{name}"} for name in ("one", "two"))
            made = httpx.post(f"{address}{PATH}", json={"input": "Hello"}, headers=one).json()
            url = f"{address}{PATH}/{made['id']}"
            assert httpx.get(url, headers=one).status_code == 200
            assert httpx.get(url, headers={"api-key": "key-one"}).status_code == 200
            assert httpx.get(url, headers=two).status_code == 404


def test_an_answer_cut_short_is_incomplete(address: str) -> None:
    answer = create(address, input="Hello", max_output_tokens=2).json()
    assert answer["status"] == answer["output"][0]["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    events, _ = stream(address, input="Hello", max_output_tokens=2)
    assert events[-1]["type"] == "response.incomplete"


def test_a_failure_amid_the_answer(address: str) -> None:
    events, is_whole = stream(address, input="FAIL")
    assert not is_whole
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "The engine broke."}
    assert httpx.get(f"{address}{PATH}/{events[-1]['response']['id']}").status_code == 404
    assert create(address, input="FAIL").status_code == 500


REFUSED = [
    ({}, "input"),
    ({"input": []}, "input"),
    ({"input": [{"type": "reasoning", "id": "r"}]}, "input[0]"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0]"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0]"),
    ({"input": [{"role": "user", "content": "x", "mood": "good"}]}, "input[0]"),
    ({"input": [{"type": "function_call", "name": 7}]}, "input[0]"),
    ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0]"),
    ({"input": "x", "tools": [{"type": "function", "function": {"name": "a"}}]}, "tools[0]"),
    ({"input": "x", "include": ["file_search_call.results"]}, "include"),
    ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    ({"input": "x", "text": {"format": {"type": "json_object"}}, "guided_regex": "a"}, "text.format"),
    ({"input": "x", "max_output_tokens": 5000}, "max_output_tokens"),
    ({"input": "x", "tool_choice": {"type": "function", "name": "nope"}}, "tool_choice"),
]


@pytest.mark.parametrize(("body", "param"), REFUSED)
def test_what_is_wrong_is_named(address: str, body: dict[str, Any], param: str) -> None:
    answer = create(address, **body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_the_store_keeps_within_its_bounds() -> None:
    def response(name: str, size: int = 10) -> StoredResponse:
        return StoredResponse({"id": name, "text": "x" * size}, [], ())

    store = ResponseStore(max_entries=3, max_bytes=1000)
    for name in "abc":
        store.put(response(name))
    store.get("a", "")
    store.put(response("d"))
    with pytest.raises(NotStoredError):
        store.get("b", "")
    assert [store.get(name, "").body["id"] for name in "acd"] == ["a", "c", "d"]
    store.put(response("e", 920))
    assert len(store) == 2  # it and what was used last
    store.put(response("f", 2000))
    assert len(store) == 2
    store.delete("e", "")
    store.put(response("g", 800))
    assert {store.get(name, "").body["id"] for name in "dg"} == {"d", "g"}
