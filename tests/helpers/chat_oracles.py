"""mistral-common's own encoding of a conversation, with its validation and normalization: what ours is held against."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import mistral_common
from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from mistral_common.protocol.instruct.normalize import get_normalizer
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import Function, FunctionCall, Tool, ToolCall
from mistral_common.protocol.instruct.validator import ValidationMode, get_validator
from mistral_common.tokens.tokenizers.base import TokenizerVersion
from mistral_common.tokens.tokenizers.instruct import InstructTokenizerV7
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

DATA = Path(mistral_common.__file__).parent / "data"
FILES = {
    "v1": "tokenizer.model.v1",
    "v2": "mistral_instruct_tokenizer_240216.model.v2",
    "v3": "mistral_instruct_tokenizer_240323.model.v3",
    "v7": "mistral_instruct_tokenizer_241114.model.v7",
    "v3-tekken": "tekken_240718.json",
}


@cache
def mistral_oracle(version: str) -> Any:
    """A MistralTokenizer of one of the wheel's vocabularies; v7-tekken is the newer Tekken one under v7's rules."""
    if version == "v7-tekken":
        tekkenizer = Tekkenizer.from_file(DATA / "tekken_240911.json")
        validator = get_validator(TokenizerVersion.v7, ValidationMode.test)
        return MistralTokenizer(InstructTokenizerV7(tekkenizer), validator, get_normalizer(TokenizerVersion.v7))
    return MistralTokenizer.from_file(DATA / FILES[version])


def write_newer_tekken(folder: Path, version: str) -> Path:
    """A small Tekken vocabulary that states v11 or v13, made of the wheel's first pieces; none is published with it."""
    described = json.loads((DATA / FILES["v3-tekken"]).read_text(encoding="utf-8"))
    names = [token["token_str"] for token in Tekkenizer.DEPRECATED_SPECIAL_TOKENS] + ["[ARGS]", "[CALL_ID]"]
    described["special_tokens"] = [
        {"rank": rank, "token_str": str(name), "is_control": True} for rank, name in enumerate(names)
    ]
    described["vocab"] = described["vocab"][:3000]
    described["config"] |= {
        "version": version,
        "num_vocab_tokens": 3000,
        "default_vocab_size": 3100,
        "default_num_special_tokens": 100,
    }
    path = folder / f"tekken_{version}.json"
    path.write_text(json.dumps(described), encoding="utf-8")
    return path


def mistral_ids(oracle: Any, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> list[int]:
    """Ids of OpenAI-style messages by mistral-common."""
    made = [_message(message) for message in messages]
    given = [Tool(function=Function(**tool["function"])) for tool in tools] if tools else None
    ids: list[int] = oracle.encode_chat_completion(ChatCompletionRequest(messages=made, tools=given)).tokens
    return ids


def _message(message: dict[str, Any]) -> Any:
    match message["role"]:
        case "system":
            return SystemMessage(content=message["content"])
        case "user":
            return UserMessage(content=message["content"])
        case "tool":
            return ToolMessage(**{key: value for key, value in message.items() if key != "role"})
    calls = [
        ToolCall(id=call["id"], function=FunctionCall(**call["function"])) for call in message.get("tool_calls") or ()
    ]
    return AssistantMessage(
        content=message.get("content"), tool_calls=calls or None, prefix=message.get("prefix", False)
    )
