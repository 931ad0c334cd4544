"""litellm, by the routes that people take to a server of their own."""

from __future__ import annotations

import json
from typing import Any

import litellm
from report import ADDRESS, COLOUR, KEY, MAX_TOKENS, MODEL, QUESTION, RESULT, TOOL, refusals, run, streamed, told

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
ROUTES = {"openai": "/v1", "mistral": "/v1", "hosted_vllm": "/v1", "azure_ai": ""}
litellm.suppress_debug_info = True


def ask(route: str, messages: list[Any], model: str = MODEL, path: str = "", **options: Any) -> Any:
    given = {"temperature": 0.0, "max_tokens": MAX_TOKENS, "api_key": KEY, "max_retries": 0, "timeout": 300, **options}
    return litellm.completion(
        model=f"{route}/{model}", messages=messages, api_base=f"{ADDRESS}{path}{ROUTES[route]}", **given
    )


def chat(route: str) -> dict[str, Any]:
    return told(ask(route, TALK))


def stream(route: str) -> dict[str, Any]:
    found = streamed(ask(route, TALK, stream=True))
    del found["completion_tokens"]  # litellm keeps the usage of a stream to itself unless it is asked for
    return found


def tools(route: str) -> dict[str, Any]:
    talk: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    first = ask(route, talk, tools=[TOOL], tool_choice="required", max_tokens=400).choices[0]
    calls = first.message.tool_calls
    talk.append(first.message)
    talk += [{"role": "tool", "tool_call_id": call.id, "content": RESULT} for call in calls]
    second = ask(route, talk, tools=[TOOL], tool_choice="none")
    return {
        "calls": [[call.id, call.function.name, json.loads(call.function.arguments)] for call in calls],
        "finish_reason": first.finish_reason,
        "answer": second.choices[0].message.content,
    }


def schema(route: str) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "Colour", "schema": COLOUR, "strict": True}}
    return dict(json.loads(ask(route, TALK, response_format=form, max_tokens=60).choices[0].message.content))


def embed() -> dict[str, Any]:
    found = litellm.embedding(
        model=f"openai/{MODEL}", input=["one", "two", "three"], api_base=f"{ADDRESS}/v1", api_key=KEY
    )
    return {"vectors": [item["embedding"] for item in found.data], "prompt_tokens": found.usage.prompt_tokens}


def errors() -> dict[str, Any]:
    def tried(text: str = QUESTION, key: str = KEY, **options: Any) -> Any:
        return ask("openai", [{"role": "user", "content": text}], api_key=key, **options)

    return refusals(tried, lambda: list(ask("openai", TALK, model="fails-midstream", stream=True)))


every: dict[str, Any] = {f"chat_{route}": lambda route=route: chat(route) for route in ROUTES}
every |= {f"stream_{route}": lambda route=route: stream(route) for route in ROUTES}
every |= {f"tools_{route}": lambda route=route: tools(route) for route in ("openai", "mistral")}
every |= {f"schema_{route}": lambda route=route: schema(route) for route in ("openai", "hosted_vllm")}
run(embed=embed, errors=errors, **every)
