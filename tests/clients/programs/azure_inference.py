"""azure-ai-inference, b4 and b9: chat, embeddings, model info."""

from __future__ import annotations

import json
from typing import Any

from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient, load_client
from azure.ai.inference import models as forms
from azure.core.credentials import AzureKeyCredential
from report import ADDRESS, COLOUR, KEY, MAX_TOKENS, MODEL, QUESTION, RESULT, TOO_LARGE, TOO_LONG, WEATHER, refused, run

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
    answer = client().complete(messages=messages(), model=MODEL, **GREEDY)
    choice = answer.choices[0]
    return {
        "content": choice.message.content,
        "finish_reason": str(getattr(choice.finish_reason, "value", choice.finish_reason)),
        "completion_tokens": answer.usage.completion_tokens,
        "prompt_tokens": answer.usage.prompt_tokens,
    }


def stream() -> dict[str, Any]:
    pieces, reasons, usage = [], [], None
    for update in client().complete(messages=messages(), model=MODEL, stream=True, **GREEDY):
        usage = update.usage or usage
        for choice in update.choices:
            pieces.append((choice.delta and choice.delta.content) or "")
            if choice.finish_reason:
                reasons.append(str(getattr(choice.finish_reason, "value", choice.finish_reason)))
    return {
        "content": "".join(pieces),
        "finish_reason": reasons,
        "completion_tokens": usage.completion_tokens if usage else None,
    }


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
        "finish_reason": str(getattr(first.finish_reason, "value", first.finish_reason)),
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
    found = embedder.embed(input=["one", "two", "three"], model=MODEL)
    return {
        "vectors": [item.embedding for item in found.data],
        "indexes": [item.index for item in found.data],
        "prompt_tokens": found.usage.prompt_tokens,
    }


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
    def ask(path: str = "", key: str = KEY, text: str = QUESTION, **options: Any) -> dict[str, Any]:
        given: dict[str, Any] = {"model": MODEL, "max_tokens": 2, **options}
        return refused(lambda: client(path, key).complete(messages=messages(text), **given))

    def streamed() -> Any:
        return list(client().complete(messages=messages(), model="fails-midstream", stream=True))

    return {
        "400": ask(temperature=9.0),
        "401": ask(key="wrong"),
        "404": ask(model="no-such-model"),
        "413": ask(text=TOO_LARGE),
        "422": ask("/mistral", temperature=9.0),
        "429": ask(model="fails-429"),
        "503": ask(model="fails-503"),
        "context": ask(text=TOO_LONG),
        "midstream": refused(streamed),
    }


run(
    chat=chat, stream=stream, tools=tools, tools_stream=tools_stream, schema=schema, embed=embed, info=info,
    safe_prompt=safe_prompt, errors=errors,
)  # fmt: skip
