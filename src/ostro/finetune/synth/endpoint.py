"""Any server of OpenAI's chat completions, asked again where it was busy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ostro.endpoint import Connection, RefusedError, Server
from ostro.errors import ServiceError


@dataclass(frozen=True, slots=True)
class Written:
    """An answer: its text, why it ended, and the tokens that it cost if the server says so."""

    content: str
    finish_reason: str | None
    num_tokens: int


class Endpoint:
    """A server at `base_url` (with its /v1, if it has one) and the `model` that it is asked for.

    A busy server, or one that was there and cannot be reached, is asked again, up to `retries` times, after 1, 2, 4,
    ... seconds or as long as it says. `timeout` is the longest silence in seconds. Requests may come from several
    threads. RequestError for an address or a key that is none.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout: float = 600.0,
        retries: int = 5,
        first_pause: float = 1.0,
    ) -> None:
        self.model = model
        self._server = Server(base_url, api_key)
        self._connection = Connection(self._server, timeout=timeout, retries=retries, first_pause=first_pause)

    def close(self) -> None:
        """Ask no more; requests that wait for their turn give up. The last that is under way closes the connections."""
        self._connection.close()

    def write(self, body: Mapping[str, Any]) -> Written:
        """The answer to one request. ServiceError where the server refuses it, or cannot be reached at last."""
        try:
            answer = self._connection.post("/chat/completions", {**body, "model": self.model})
        except RefusedError as refused:
            may_be_the_form = refused.status in (400, 422) or "response_format" in str(refused)
            if may_be_the_form and "response_format" in body:
                hint = "If it does not know response_format, write `structured: false` into the task."
                raise ServiceError(f"{refused} {hint}") from None
            raise
        return self._written(answer)

    def _written(self, answer: Any) -> Written:
        try:
            choice = answer["choices"][0]
            content = choice["message"]["content"]
            usage = answer.get("usage") or {}
            return Written(content or "", choice.get("finish_reason"), int(usage.get("completion_tokens") or 0))
        except (TypeError, KeyError, IndexError, AttributeError, ValueError):
            raise ServiceError(f"{self._server.name} answered with something that is no chat completion.") from None
