"""Events to the chunks of a streamed answer: what chat and completions have in common."""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from ostro.server.errors import fault_of
from ostro.server.events import Call, Event, Finish, Text, Usage
from ostro.server.sse import DONE, BrokenStream, frame


@dataclass(frozen=True, slots=True)
class Head:
    """What all parts of an answer repeat."""

    model: str
    kind: str = "chatcmpl"
    id: str = field(init=False)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", f"{self.kind}-{secrets.token_hex(12)}")

    def of(self, object_name: str) -> dict[str, Any]:
        """The fields in front."""
        return {"id": self.id, "object": object_name, "created": self.created, "model": self.model}


def usage_body(usage: Usage) -> dict[str, Any]:
    """The count of tokens."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


class ChunkWriter(ABC):
    """Events to chunks. Usage stands on the chunk that ends the last answer, which waits for it.

    With `include_usage` it comes in a chunk of its own, which alone has no choices; some clients cannot read such.
    """

    def __init__(self, head: dict[str, Any], *, include_usage: bool, num_choices: int) -> None:
        self._head = head
        self._include_usage = include_usage
        self._num_open = num_choices
        self._last: dict[str, Any] | None = None

    @abstractmethod
    def piece(self, event: Text | Call) -> dict[str, Any]:
        """The choice of a chunk with more of an answer."""

    @abstractmethod
    def end(self, index: int, reason: str) -> dict[str, Any]:
        """The choice of a chunk that ends an answer."""

    def chunks(self, event: Event) -> Iterator[dict[str, Any]]:
        """What is to be sent now."""
        if isinstance(event, Finish):
            self._num_open -= 1
            end = self._chunk(self.end(event.index, event.reason))
            if self._num_open or self._include_usage:
                yield end
            else:
                self._last = end
        elif not isinstance(event, Usage):
            yield self._chunk(self.piece(event))
        elif self._include_usage:
            yield {**self._head, "choices": [], "usage": usage_body(event)}
        else:
            assert self._last is not None
            yield {**self._last, "usage": usage_body(event)}

    def failure(self, error: Exception) -> dict[str, Any]:
        """The chunk that ends an answer which could not be finished, by both signs: some clients look at one alone."""
        return {**self._chunk(self.end(0, "error")), "error": fault_of(error).body("common")["error"]}

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        chunk = {**self._head, "choices": [choice]}
        return {**chunk, "usage": None} if self._include_usage else chunk


async def chunk_frames(writer: ChunkWriter, events: AsyncGenerator[Event, None]) -> AsyncGenerator[bytes, None]:
    """The answer in frames. A failure is told in a last one, and BrokenStream is raised."""
    try:
        async with aclosing(events):
            async for event in events:
                for chunk in writer.chunks(event):
                    yield frame(chunk)
    except Exception as error:  # whatever it is: the answer has begun, and it must not seem to be whole
        yield frame(writer.failure(error))
        raise BrokenStream from error
    yield DONE
