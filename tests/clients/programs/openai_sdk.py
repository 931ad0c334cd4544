"""openai, 1.x and 3.x, and its `AzureOpenAI`."""

from __future__ import annotations

import json
from typing import Any

import openai
from report import (
    ADDRESS,
    COLOUR,
    KEY,
    MAX_TOKENS,
    MODEL,
    QUESTION,
    RESULT,
    TOOL,
    embedded,
    refusals,
    run,
    streamed,
    told,
)

GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0.0, "max_tokens": MAX_TOKENS}


def client(path: str = "", key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=f"{ADDRESS}{path}/v1", max_retries=0, timeout=300)


def messages(text: str = QUESTION) -> list[Any]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def chat() -> dict[str, Any]:
    return told(client().chat.completions.create(messages=messages(), **GREEDY))


def azure() -> dict[str, Any]:
    own = openai.AzureOpenAI(api_key=KEY, azure_endpoint=ADDRESS, api_version="2024-06-01", max_retries=0, timeout=300)
    return told(own.chat.completions.create(messages=messages(), **GREEDY))


def stream() -> dict[str, Any]:
    asked: Any = {"stream": True, "stream_options": {"include_usage": True}, **GREEDY}
    return streamed(client().chat.completions.create(messages=messages(), **asked))


def tools() -> dict[str, Any]:
    talk = messages("What is the weather in Oslo?")
    asked: dict[str, Any] = {"model": MODEL, "tools": [TOOL], "temperature": 0.0}
    first = client().chat.completions.create(messages=talk, tool_choice="required", max_tokens=400, **asked).choices[0]
    calls = first.message.tool_calls or []
    talk.append(first.message)
    talk += [{"role": "tool", "tool_call_id": call.id, "content": RESULT} for call in calls]
    second = client().chat.completions.create(messages=talk, tool_choice="none", max_tokens=MAX_TOKENS, **asked)
    return {
        "calls": [[call.id, call.function.name, json.loads(call.function.arguments)] for call in calls],
        "finish_reason": first.finish_reason,
        "answer": second.choices[0].message.content,
    }


def tools_stream() -> dict[str, Any]:
    calls: dict[int, list[str]] = {}
    asked: dict[str, Any] = {"model": MODEL, "tools": [TOOL], "temperature": 0.0, "max_tokens": 400}
    named = {"type": "function", "function": {"name": "get_weather"}}
    for chunk in client().chat.completions.create(
        messages=messages("What is the weather in Oslo?"), tool_choice=named, stream=True, **asked
    ):
        for call in chunk.choices[0].delta.tool_calls or []:
            kept = calls.setdefault(call.index, ["", "", ""])
            for place, piece in enumerate((call.id, call.function.name, call.function.arguments)):
                kept[place] += piece or ""
    return {"calls": [[id_, name, json.loads(arguments)] for id_, name, arguments in calls.values()]}


def schema() -> dict[str, Any]:
    form: Any = {"type": "json_schema", "json_schema": {"name": "Colour", "schema": COLOUR, "strict": True}}
    answer = client().chat.completions.create(
        model=MODEL, messages=messages(), temperature=0, max_tokens=60, response_format=form
    )
    return dict(json.loads(answer.choices[0].message.content or ""))


def embed() -> dict[str, Any]:
    """In base64, which is this client's default, and as numbers."""
    found = client().embeddings.create(model=MODEL, input=["one", "two", "three"])
    again = client().embeddings.create(model=MODEL, input=["one", "two", "three"], encoding_format="float")
    return {**embedded(found), "again": embedded(again)["vectors"]}


def completion() -> dict[str, Any]:
    answer = client().completions.create(prompt="Once", **GREEDY)
    pieces = [chunk.choices[0].text for chunk in client().completions.create(prompt="Once", stream=True, **GREEDY)]
    return {"content": answer.choices[0].text, "streamed": "".join(pieces)}


def responses() -> dict[str, Any]:
    asked: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_output_tokens": MAX_TOKENS}
    whole = client().responses.create(input=QUESTION, instructions="Be brief.", **asked)
    pieces, kinds = [], []
    for event in client().responses.create(input=QUESTION, instructions="Be brief.", stream=True, **asked):
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            pieces.append(event.delta)
    following = client().responses.create(input="And then?", previous_response_id=whole.id, **asked)
    return {
        "content": whole.output_text,
        "streamed": "".join(pieces),
        "kinds": [kinds[0], kinds[-1]],
        "output_tokens": whole.usage.output_tokens if whole.usage else None,
        "more_tokens": following.usage.input_tokens - whole.usage.input_tokens,
    }


def models() -> dict[str, Any]:
    return {"ids": [card.id for card in client().models.list()], "one": client().models.retrieve(MODEL).id}


def errors() -> dict[str, Any]:
    def ask(path: str = "", key: str = KEY, text: str = QUESTION, **options: Any) -> Any:
        given: Any = {"model": MODEL, "max_tokens": 2, **options}
        return client(path, key).chat.completions.create(messages=messages(text), **given)

    def broken() -> Any:
        return list(client().chat.completions.create(messages=messages(), model="fails-midstream", stream=True))

    return refusals(ask, broken)


run(
    chat=chat, azure=azure, stream=stream, tools=tools, tools_stream=tools_stream, schema=schema, embed=embed,
    completion=completion, responses=responses, models=models, errors=errors,
)  # fmt: skip
