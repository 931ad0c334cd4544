"""mistralai 1.x and newer: `Mistral`."""

from __future__ import annotations

import json
from typing import Any

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

try:
    from mistralai import Mistral
except ImportError:  # from 3.0 on
    from mistralai.client import Mistral

GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0.0, "max_tokens": MAX_TOKENS}


def client(path: str = "", key: str = KEY) -> Any:
    return Mistral(api_key=key, server_url=ADDRESS + path, timeout_ms=300_000)


def messages(text: str = QUESTION) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def chat() -> dict[str, Any]:
    return told(client().chat.complete(messages=messages(), **GREEDY))


def stream() -> dict[str, Any]:
    return streamed(event.data for event in client().chat.stream(messages=messages(), **GREEDY))


def tools() -> dict[str, Any]:
    talk: list[Any] = messages("What is the weather in Oslo?")
    asked: dict[str, Any] = {"model": MODEL, "tools": [TOOL], "temperature": 0.0}
    first = client().chat.complete(messages=talk, tool_choice="any", max_tokens=400, **asked).choices[0]
    calls = first.message.tool_calls
    talk.append(first.message)
    talk += [{"role": "tool", "name": call.function.name, "tool_call_id": call.id, "content": RESULT} for call in calls]
    second = client().chat.complete(messages=talk, tool_choice="none", max_tokens=MAX_TOKENS, **asked).choices[0]
    return {
        "calls": [[call.id, call.function.name, json.loads(call.function.arguments)] for call in calls],
        "finish_reason": str(first.finish_reason),
        "answer": second.message.content,
    }


def tools_stream() -> dict[str, Any]:
    calls = []
    talk = messages("What is the weather in Oslo?")
    asked: dict[str, Any] = {"model": MODEL, "tools": [TOOL], "temperature": 0.0, "max_tokens": 400}
    for event in client().chat.stream(messages=talk, tool_choice="any", **asked):
        for call in event.data.choices[0].delta.tool_calls or []:
            calls.append([call.id, call.function.name, json.loads(call.function.arguments)])
    return {"calls": calls}


def schema() -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "Colour", "schema": COLOUR, "strict": True}}
    answer = client().chat.complete(
        model=MODEL, messages=messages(), temperature=0.0, max_tokens=60, response_format=form
    )
    return dict(json.loads(answer.choices[0].message.content))


def prefix() -> dict[str, Any]:
    begun = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "A colour is", "prefix": True}]
    answer = client().chat.complete(messages=begun, **GREEDY)
    return {"content": answer.choices[0].message.content}


def embed() -> dict[str, Any]:
    return embedded(client().embeddings.create(model=MODEL, inputs=["one", "two", "three"]))


def models() -> dict[str, Any]:
    found = client().models.list()
    return {"ids": [card.id for card in found.data], "one": client().models.retrieve(model_id=MODEL).id}


def safe_prompt() -> dict[str, Any]:
    ask = [{"role": "user", "content": QUESTION}]
    safe = client().chat.complete(messages=ask, safe_prompt=True, **GREEDY)
    plain = client().chat.complete(messages=ask, **GREEDY)
    return {"more_tokens": safe.usage.prompt_tokens - plain.usage.prompt_tokens}


def fim() -> dict[str, Any]:
    answer = client().fim.complete(
        model=MODEL, prompt="def f(", suffix="return a", temperature=0.0, max_tokens=MAX_TOKENS
    )
    return {"content": answer.choices[0].message.content, "finish_reason": str(answer.choices[0].finish_reason)}


def errors() -> dict[str, Any]:
    def ask(path: str = "", key: str = KEY, text: str = QUESTION, **options: Any) -> Any:
        given = {"model": MODEL, "max_tokens": 2, **options}
        return client(path, key).chat.complete(messages=messages(text), **given)

    return refusals(ask, lambda: list(client().chat.stream(messages=messages(), model="fails-midstream")))


run(
    chat=chat, stream=stream, tools=tools, tools_stream=tools_stream, schema=schema, prefix=prefix, embed=embed,
    models=models, safe_prompt=safe_prompt, fim=fim, errors=errors,
)  # fmt: skip
