"""Chat completions as OpenAI, Mistral and Azure write them: one form that the clients of all three read.

What the strictest of them need: content is a string, also beside calls; a call comes whole, in one delta; usage stands
on the chunk that ends the last answer, or in a chunk of its own where `stream_options.include_usage` asks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ostro.chat.messages import ToolCall
from ostro.engine.outputs import Logprob
from ostro.server.chunks import ChunkWriter, Head, usage_body
from ostro.server.events import Call, Choice, Text, TokenLogprobs, Usage
from ostro.tokenizer.base import Tokenizer


def chat_completion(head: Head, choices: Sequence[Choice], usage: Usage, tokenizer: Tokenizer) -> dict[str, Any]:
    """The whole answer."""
    return {
        **head.of("chat.completion"),
        "choices": [_choice(index, choice, tokenizer) for index, choice in enumerate(choices)],
        "usage": usage_body(usage),
    }


class ChatChunks(ChunkWriter):
    """The chunks of a chat completion."""

    def __init__(self, head: Head, tokenizer: Tokenizer, *, include_usage: bool, num_choices: int) -> None:
        super().__init__(head.of("chat.completion.chunk"), include_usage=include_usage, num_choices=num_choices)
        self._tokenizer = tokenizer
        self._begun: set[int] = set()

    def piece(self, event: Text | Call) -> dict[str, Any]:
        """A delta with text, or with a whole call."""
        if isinstance(event, Call):
            calls = [{"index": event.number, **call_body(event.call)}]
            return self._choice(event.index, {"content": "", "tool_calls": calls})
        choice = self._choice(event.index, {"content": event.text})
        if event.logprobs:
            choice["logprobs"] = logprobs_body(event.logprobs, self._tokenizer)
        return choice

    def end(self, index: int, reason: str) -> dict[str, Any]:
        """A delta without anything new."""
        return self._choice(index, {"content": ""}, reason)

    def _choice(self, index: int, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        if index not in self._begun:
            self._begun.add(index)
            delta = {"role": "assistant", **delta}
        return {"index": index, "delta": delta, "finish_reason": finish_reason}


def call_body(call: ToolCall) -> dict[str, Any]:
    """A call as clients read it: arguments are JSON text."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def logprobs_body(logprobs: Sequence[TokenLogprobs], tokenizer: Tokenizer) -> dict[str, Any]:
    """Log-probabilities in chat's form. `bytes` tells what a token is where its text is no whole character."""
    return {"content": [_token(each, tokenizer) for each in logprobs], "refusal": None}


def token_text(token_id: int, tokenizer: Tokenizer) -> tuple[str, list[int]]:
    """A token's text and bytes; an id that the vocabulary leaves out has neither."""
    spelled = tokenizer.token_bytes(token_id) if token_id < tokenizer.vocab_size else b""
    return spelled.decode("utf-8", "replace"), list(spelled)


def _token(each: TokenLogprobs, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        **_entry(each.token_id, each.logprob, tokenizer),
        "top_logprobs": [_entry(token_id, entry, tokenizer) for token_id, entry in each.likeliest],
    }


def _entry(token_id: int, entry: Logprob, tokenizer: Tokenizer) -> dict[str, Any]:
    text, spelled = token_text(token_id, tokenizer)
    return {"token": text, "token_id": token_id, "logprob": entry.logprob, "bytes": spelled}


def _choice(index: int, choice: Choice, tokenizer: Tokenizer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text}
    if choice.calls:
        message["tool_calls"] = [call_body(call) for call in choice.calls]
    assert choice.finish is not None
    body: dict[str, Any] = {"index": index, "message": message, "finish_reason": choice.finish.reason}
    if choice.logprobs:
        body["logprobs"] = logprobs_body(choice.logprobs, tokenizer)
    return body
