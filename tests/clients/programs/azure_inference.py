"""azure-ai-inference, b4 and b9: chat, embeddings, model info."""

from __future__ import annotations

import json
from typing import Any

from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient, load_client
from azure.ai.inference import models as forms
from azure.core.credentials import AzureKeyCredential
from report import (
    ADDRESS,
    COLOUR,
    KEY,
    MAX_TOKENS,
    MODEL,
    QUESTION,
    RESULT,
    WEATHER,
    embedded,
    reason,
    refusals,
    run,
    streamed,
    told,
)

GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": MAX_TOKENS}
TOOLS = [
    forms.ChatCompletionsToolDefinition(
        function=forms.FunctionDefinition(name="get_weather", description="The weather in a city.", parameters=WEATHER)
    )
]
REQUIRED = forms.ChatCompletionsToolChoicePreset.REQUIRED


def client(path: str = "", key: str = KEY) -> ChatCompletionsClient:
    return ChatCompletionsClient(ADDRESS + path, AzureKeyCredential(key), retry_total=0)


def messages(text: str = QUESTION) -> list[Any]:
    return [forms.SystemMessage(content="Be brief."), forms.UserMessage(content=text)]


def chat() -> dict[str, Any]:
    return told(client().complete(messages=messages(), model=MODEL, **GREEDY))


def stream() -> dict[str, Any]:
    return streamed(client().complete(messages=messages(), model=MODEL, stream=True, **GREEDY))


def tools() -> dict[str, Any]:
    talk = messages("What is the weather in Oslo?")
    asked: dict[str, Any] = {"model": MODEL, "tools": TOOLS, "temperature": 0.0, "max_tokens": 400}
    first = client().complete(messages=talk, tool_choice=REQUIRED, **asked).choices[0]
    calls = first.message.tool_calls
    talk.append(forms.AssistantMessage(tool_calls=calls))
    talk += [forms.ToolMessage(tool_call_id=call.id, content=RESULT) for call in calls]
    asked["max_tokens"] = MAX_TOKENS
    second = client().complete(messages=talk, tool_choice="none", **asked).choices[0]
    return {
        "calls": [[call.id, call.function.name, json.loads(call.function.arguments)] for call in calls],
        "finish_reason": reason(first),
        "answer": second.message.content,
    }


def tools_stream() -> dict[str, Any]:
    calls: dict[str, list[str]] = {}
    last = ""
    talk = messages("What is the weather in Oslo?")
    for update in client().complete(
        messages=talk, model=MODEL, tools=TOOLS, tool_choice=REQUIRED, temperature=0.0, max_tokens=400, stream=True
    ):
        for choice in update.choices:
            for call in (choice.delta and choice.delta.tool_calls) or []:
                last = call.id or last
                name, arguments = calls.setdefault(last, ["", ""])
                calls[last] = [name + (call.function.name or ""), arguments + (call.function.arguments or "")]
    return {"calls": [[id_, name, json.loads(arguments)] for id_, (name, arguments) in calls.items()]}


def schema() -> dict[str, Any]:
    """As JSON: only the newer version has classes for it."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 60,
        "response_format": {"type": "json_schema", "json_schema": {"name": "Colour", "schema": COLOUR, "strict": True}},
    }
    return dict(json.loads(client().complete(body=body).choices[0].message.content))


def embed() -> dict[str, Any]:
    embedder = EmbeddingsClient(ADDRESS, AzureKeyCredential(KEY), retry_total=0)
    return embedded(embedder.embed(input=["one", "two", "three"], model=MODEL))


def info() -> dict[str, Any]:
    found = client().get_model_info()
    loaded = load_client(ADDRESS, AzureKeyCredential(KEY))
    return {"name": found.model_name, "type": str(found.model_type), "loaded": type(loaded).__name__}


def safe_prompt() -> dict[str, Any]:
    extra = {"safe_prompt": True}
    answer = client().complete(
        messages=[forms.UserMessage(content=QUESTION)], model=MODEL, model_extras=extra, **GREEDY
    )
    plain = client().complete(messages=[forms.UserMessage(content=QUESTION)], model=MODEL, **GREEDY)
    return {"more_tokens": answer.usage.prompt_tokens - plain.usage.prompt_tokens}


def errors() -> dict[str, Any]:
    def ask(path: str = "", key: str = KEY, text: str = QUESTION, **options: Any) -> Any:
        return client(path, key).complete(messages=messages(text), **{"model": MODEL, "max_tokens": 2, **options})

    return refusals(ask, lambda: list(client().complete(messages=messages(), model="fails-midstream", stream=True)))


run(
    chat=chat, stream=stream, tools=tools, tools_stream=tools_stream, schema=schema, embed=embed, info=info,
    safe_prompt=safe_prompt, errors=errors,
)  # fmt: skip
