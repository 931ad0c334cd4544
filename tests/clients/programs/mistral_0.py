"""mistralai 0.x: `MistralClient`. 0.0.12 knows neither tools nor formats."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from mistralai.client import MistralClient
from mistralai.models.chat_completion import ChatMessage
from report import (
    ADDRESS,
    KEY,
    MAX_TOKENS,
    MODEL,
    QUESTION,
    RESULT,
    TOOL,
    embedded,
    reason,
    refusals,
    run,
    streamed,
    told,
)

VERSION = tuple(map(int, version("mistralai").split(".")))
GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0.0, "max_tokens": MAX_TOKENS}


def client(path: str = "", key: str = KEY) -> MistralClient:
    return MistralClient(api_key=key, endpoint=ADDRESS + path, max_retries=0, timeout=300)


def messages(text: str = QUESTION) -> list[ChatMessage]:
    return [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content=text)]


def chat() -> dict[str, Any]:
    return told(client().chat(messages=messages(), **GREEDY))


def stream() -> dict[str, Any]:
    return streamed(client().chat_stream(messages=messages(), **GREEDY))


def tools() -> dict[str, Any]:
    talk = messages("What is the weather in Oslo?")
    asked: dict[str, Any] = {"model": MODEL, "tools": [TOOL], "temperature": 0.0}
    first = client().chat(messages=talk, tool_choice="any", max_tokens=400, **asked).choices[0]
    calls = first.message.tool_calls
    talk.append(first.message)
    for call in calls:
        own = {"tool_call_id": call.id} if VERSION >= (0, 4) else {}
        talk.append(ChatMessage(role="tool", name=call.function.name, content=RESULT, **own))
    second = client().chat(messages=talk, tool_choice="none", max_tokens=MAX_TOKENS, **asked).choices[0]
    return {
        "calls": [[call.id, call.function.name, json.loads(call.function.arguments)] for call in calls],
        "finish_reason": reason(first),
        "answer": second.message.content,
    }


def tools_stream() -> dict[str, Any]:
    calls = []
    for chunk in client().chat_stream(
        messages=messages("What is the weather in Oslo?"), model=MODEL, tools=[TOOL], tool_choice="any",
        temperature=0.0, max_tokens=400,
    ):  # fmt: skip
        for call in chunk.choices[0].delta.tool_calls or []:
            calls.append([call.id, call.function.name, json.loads(call.function.arguments)])
    return {"calls": calls}


def embed() -> dict[str, Any]:
    return embedded(client().embeddings(model=MODEL, input=["one", "two", "three"]))


def models() -> dict[str, Any]:
    return {"ids": [card.id for card in client().list_models().data]}


def safe_prompt() -> dict[str, Any]:
    ask = [ChatMessage(role="user", content=QUESTION)]
    name = "safe_mode" if VERSION < (0, 1) or "safe_mode" in MistralClient.chat.__annotations__ else "safe_prompt"
    safe = client().chat(messages=ask, **{name: True}, **GREEDY)
    plain = client().chat(messages=ask, **GREEDY)
    return {"more_tokens": safe.usage.prompt_tokens - plain.usage.prompt_tokens}


def fim() -> dict[str, Any]:
    answer = client().completion(
        model=MODEL, prompt="def f(", suffix="return a", temperature=0.0, max_tokens=MAX_TOKENS
    )
    return {"content": answer.choices[0].message.content, "finish_reason": reason(answer.choices[0])}


def errors() -> dict[str, Any]:
    def ask(path: str = "", key: str = KEY, text: str = QUESTION, **options: Any) -> Any:
        return client(path, key).chat(messages=messages(text), **{"model": MODEL, "max_tokens": 2, **options})

    return refusals(ask, lambda: list(client().chat_stream(messages=messages(), model="fails-midstream")))


scenarios: dict[str, Any] = {"chat": chat, "stream": stream, "embed": embed, "models": models, "errors": errors}
scenarios["safe_prompt"] = safe_prompt
if VERSION >= (0, 1):
    scenarios |= {"tools": tools, "tools_stream": tools_stream}
if VERSION >= (0, 4):
    scenarios["fim"] = fim
run(**scenarios)
