"""langchain-openai and langchain-mistralai."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import litellm
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_mistralai import ChatMistralAI, MistralAIEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from report import ADDRESS, COLOUR, KEY, MAX_TOKENS, MODEL, QUESTION, RESULT, TOOL, refusals, run

WRONG = {"max_tokens": -1}  # a wrong temperature langchain-mistralai sees itself
TALK = [SystemMessage("Be brief."), HumanMessage(QUESTION)]


def openai_chat(model: str = MODEL, key: str = KEY, path: str = "", **options: Any) -> Any:
    given = {"temperature": 0.0, "max_tokens": MAX_TOKENS, "max_retries": 0, **options}
    return ChatOpenAI(model=model, api_key=key, base_url=f"{ADDRESS}{path}/v1", timeout=300, **given)


def mistral_chat(model: str = MODEL, key: str = KEY, path: str = "", **options: Any) -> Any:
    given = {"temperature": 0.0, "max_tokens": MAX_TOKENS, "max_retries": 1, **options}
    return ChatMistralAI(model_name=model, api_key=key, endpoint=f"{ADDRESS}{path}/v1", timeout=300, **given)


def chat(make: Any) -> dict[str, Any]:
    answer = make().invoke(TALK)
    return {
        "content": answer.content,
        "finish_reason": answer.response_metadata["finish_reason"],
        "completion_tokens": answer.usage_metadata["output_tokens"],
        "prompt_tokens": answer.usage_metadata["input_tokens"],
    }


def stream(make: Any) -> dict[str, Any]:
    whole: AIMessageChunk | None = None
    reasons = []
    for chunk in make().stream(TALK):
        whole = chunk if whole is None else whole + chunk
        if reason := chunk.response_metadata.get("finish_reason"):
            reasons.append(reason)
    assert whole is not None
    usage = whole.usage_metadata
    return {
        "content": whole.content,
        "finish_reason": reasons,
        "completion_tokens": usage["output_tokens"] if usage else None,
    }


def tools(make: Any) -> dict[str, Any]:
    talk: list[Any] = [HumanMessage("What is the weather in Oslo?")]
    first = make(max_tokens=400).bind_tools([TOOL], tool_choice="any").invoke(talk)
    talk.append(first)
    talk += [ToolMessage(RESULT, tool_call_id=call["id"], name=call["name"]) for call in first.tool_calls]
    second = make().bind_tools([TOOL], tool_choice="none").invoke(talk)
    return {
        "calls": [[call["id"], call["name"], call["args"]] for call in first.tool_calls],
        "finish_reason": first.response_metadata["finish_reason"],
        "answer": second.content,
    }


def tools_stream(make: Any) -> dict[str, Any]:
    whole: Any = None
    asking = make(max_tokens=400).bind_tools([TOOL], tool_choice="any")
    for chunk in asking.stream([HumanMessage("What is the weather in Oslo?")]):
        whole = chunk if whole is None else whole + chunk
    return {"calls": [[call["id"], call["name"], call["args"]] for call in whole.tool_calls]}


def schema(make: Any) -> dict[str, Any]:
    form = {"title": "Colour", "description": "A colour.", **COLOUR}
    return dict(make(max_tokens=60).with_structured_output(form, method="json_schema").invoke(TALK))


def embed(embedder: Any) -> dict[str, Any]:
    return {"vectors": embedder.embed_documents(["one", "two", "three"]), "query": embedder.embed_query("one")}


def openai_embed() -> dict[str, Any]:
    return embed(OpenAIEmbeddings(model=MODEL, api_key=KEY, base_url=f"{ADDRESS}/v1", check_embedding_ctx_length=False))


def openai_embed_ids() -> dict[str, Any]:
    """As it is by default: as token ids, by tiktoken's vocabulary, which litellm brings along."""
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers")
    return embed(OpenAIEmbeddings(model=MODEL, api_key=KEY, base_url=f"{ADDRESS}/v1"))


def mistral_embed() -> dict[str, Any]:
    return embed(MistralAIEmbeddings(model=MODEL, api_key=KEY, endpoint=f"{ADDRESS}/v1/"))


def errors(make: Any) -> dict[str, Any]:
    def ask(text: str = QUESTION, **options: Any) -> Any:
        return make(**options).invoke([HumanMessage(text)])

    return refusals(ask, lambda: list(make(model="fails-midstream").stream(TALK)), WRONG)


both: dict[str, Any] = {}
for name, made in (("openai", openai_chat), ("mistral", mistral_chat)):
    for scenario in (chat, stream, tools, tools_stream, schema, errors):
        both[f"{name}_{scenario.__name__}"] = lambda made=made, scenario=scenario: scenario(made)
run(openai_embed=openai_embed, openai_embed_ids=openai_embed_ids, mistral_embed=mistral_embed, **both)
