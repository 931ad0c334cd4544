"""A writer over the network: answers of any server that speaks OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ostro.endpoint import Connection, Server

if TYPE_CHECKING:
    from ostro.rag.answering import Writer
    from ostro.rag.prompt import Message


def endpoint_writer(
    url: str,
    model: str,
    *,
    api_key: str | None = None,
    fields: Mapping[str, Any] | None = None,
    timeout: float = 600.0,
) -> Writer:
    """The `model` of the server at `url` (with its /v1, if it has one) as a writer.

    `fields` go into every request as they are, such as `{"temperature": 0}`; `timeout` is the longest silence in
    seconds. The answer is streamed, if the server streams. RequestError for an address or a key that is none. The
    writer raises ServiceError where the server cannot be reached, refuses, or ends the answer with an error or before
    its end; keys are never in its text.

        writer = endpoint_writer("https://api.mistral.ai/v1", "mistral-small-latest", api_key=key)
        Questioner(collection, writer).ask("How is it cleaned?")
    """
    server = Server(url, api_key)

    def write(messages: list[Message]) -> Iterator[str]:
        body = {**(fields or {}), "model": model, "messages": messages, "stream": True}
        with Connection(server, timeout=timeout) as connection:
            for chunk in connection.events("/chat/completions", body, may_be_whole=True):
                for choice in (chunk.get("choices") or [])[:1]:  # a chunk of usage alone has none
                    content = (choice.get("delta") or {}).get("content")
                    yield content if isinstance(content, str) else ""

    return write
