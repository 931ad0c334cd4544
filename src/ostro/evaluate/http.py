"""What an evaluation asks of a server beyond any client: whether a prompt is too long, and routes it may not have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ostro.endpoint import Connection, RefusedError, message_of
from ostro.errors import ContextLengthError, RequestError

_NOT_LET_IN = (401, 403)
_TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_TOO_LONG_WORDS = "maximum context length"


class RefusedLengthError(ContextLengthError):
    """A server says that a prompt, or that and its answer, is too long. Its numbers are 0: they are not known."""

    def __init__(self, message: str) -> None:
        self.num_prompt_tokens = self.max_model_len = self.max_tokens_possible = 0
        RequestError.__init__(self, message, param="prompt")


class EvaluatedServer(Connection):
    """A connection that tells prompts that are too long by ContextLengthError."""

    def post(self, path: str, body: Mapping[str, Any], *, is_beside: bool = False) -> Any:
        """As `Connection.post`."""
        with _told_lengths():
            return super().post(path, body, is_beside=is_beside)

    def events(self, path: str, body: Mapping[str, Any], *, may_be_whole: bool = False) -> Iterator[Mapping[str, Any]]:
        """As `Connection.events`."""
        with _told_lengths():
            yield from super().events(path, body, may_be_whole=may_be_whole)

    def beside(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON of an answer to a route that stands beside /v1; None where the server refuses, as without it.

        A server that is busy, or cannot be reached, does not lack it: that is told as by `post`, and so are a model
        that it does not have and a key that it does not take.
        """
        try:
            return self.post(path, body, is_beside=True)
        except RefusedError as refused:
            if refused.status in _NOT_LET_IN or "model_not_found" in _codes(refused.body):
                raise
            return None


@contextmanager
def _told_lengths() -> Iterator[None]:
    """As OpenAI's servers and ours say it, llama.cpp's, or vLLM's, which has words for it alone."""
    try:
        yield
    except RefusedError as refused:
        if not _TOO_LONG.isdisjoint(_codes(refused.body)) or _TOO_LONG_WORDS in message_of(refused.body):
            raise RefusedLengthError(str(refused)) from None
        raise


def _codes(body: Any) -> list[str]:
    error = body.get("error", body) if isinstance(body, Mapping) else None
    codes = (error.get("code"), error.get("type")) if isinstance(error, Mapping) else ()
    return [code for code in codes if isinstance(code, str)]
