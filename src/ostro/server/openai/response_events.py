"""Events of a job to the events of a response; the whole response is what stands at their end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Any

from ostro.server.chat_answer import logprobs_body
from ostro.server.errors import fault_of
from ostro.server.events import Call, Event, Finish, Text, TokenLogprobs, Usage
from ostro.server.openai.response_body import ResponseBody, call_item, message_item, text_part
from ostro.server.sse import BrokenStream, frame, large_frame
from ostro.tokenizer.base import Tokenizer


class ResponseWriter:
    """Writes one response. Text is an item of its own before, between and behind calls.

    `keep` is called with the whole response before anybody is told of its end.
    """

    def __init__(self, response: ResponseBody, tokenizer: Tokenizer, keep: Callable[[dict[str, Any]], None]) -> None:
        self.response = response
        self._tokenizer = tokenizer
        self._keep = keep
        self._number = 0
        self._open: _OpenMessage | None = None
        self._end = "completed"

    def start(self) -> Iterator[dict[str, Any]]:
        """The first events."""
        for name in ("response.created", "response.in_progress"):
            yield self._event(name, response=self.response.as_json())

    def events(self, event: Event) -> Iterator[dict[str, Any]]:
        """What an event of the job is here."""
        match event:
            case Text():
                yield from self._text(event)
            case Call():
                yield from self._close()
                yield from self._call(event)
            case Finish():
                if not self.response.output and self._open is None:
                    yield from self._text(Text(0, ""))  # a response has something
                self._end = "incomplete" if event.reason == "length" else "completed"
                yield from self._close()
            case Usage():
                self.response.usage = event
                self.response.status = self._end
                whole = self.response.as_json()
                self._keep(whole)
                yield self._event(f"response.{self._end}", response=whole)

    def failure(self, error: Exception) -> dict[str, Any]:
        """The event that ends a response which could not be finished."""
        self.response.status, self.response.fault = "failed", fault_of(error)
        return self._event("response.failed", response=self.response.as_json())

    def _text(self, event: Text) -> Iterator[dict[str, Any]]:
        if self._open is None:
            self._open = _OpenMessage(f"msg_{secrets.token_hex(24)}", len(self.response.output))
            item = message_item(self._open.item_id, "in_progress", [])
            yield self._event("response.output_item.added", output_index=self._open.place, item=item)
            yield self._of_part("response.content_part.added", part=text_part("", (), self._tokenizer))
        self._open.text += event.text
        self._open.logprobs += event.logprobs
        if event.text or event.logprobs:
            logprobs = logprobs_body(event.logprobs, self._tokenizer)["content"]
            yield self._of_part("response.output_text.delta", delta=event.text, logprobs=logprobs)

    def _close(self) -> Iterator[dict[str, Any]]:
        """End the message that is open."""
        message = self._open
        if message is None:
            return
        part = text_part(message.text, message.logprobs, self._tokenizer)
        yield self._of_part("response.output_text.done", text=message.text, logprobs=part["logprobs"])
        yield self._of_part("response.content_part.done", part=part)
        self._open = None
        status = "incomplete" if self._end == "incomplete" else "completed"
        item = message_item(message.item_id, status, [part])
        self.response.output.append(item)
        yield self._event("response.output_item.done", output_index=message.place, item=item)

    def _call(self, event: Call) -> Iterator[dict[str, Any]]:
        call, item_id, place = event.call, f"fc_{secrets.token_hex(24)}", len(self.response.output)
        begun = call_item(item_id, "in_progress", call, "")
        yield self._event("response.output_item.added", output_index=place, item=begun)
        name, where = "response.function_call_arguments", {"item_id": item_id, "output_index": place}
        yield self._event(f"{name}.delta", **where, delta=call.arguments)
        yield self._event(f"{name}.done", **where, name=call.name, arguments=call.arguments)
        item = call_item(item_id, "completed", call, call.arguments)
        self.response.output.append(item)
        yield self._event("response.output_item.done", output_index=place, item=item)

    def _of_part(self, kind: str, /, **facts: Any) -> dict[str, Any]:
        assert self._open is not None
        place = {"item_id": self._open.item_id, "output_index": self._open.place, "content_index": 0}
        return self._event(kind, **place, **facts)

    def _event(self, kind: str, /, **facts: Any) -> dict[str, Any]:
        number, self._number = self._number, self._number + 1
        return {"type": kind, "sequence_number": number, **facts}


class _OpenMessage:
    """A message that is being written, and its place in the output."""

    def __init__(self, item_id: str, place: int) -> None:
        self.item_id = item_id
        self.place = place
        self.text = ""
        self.logprobs: list[TokenLogprobs] = []


async def response_frames(
    writer: ResponseWriter, events: AsyncGenerator[Event, None], *, is_large: bool = False
) -> AsyncGenerator[bytes, None]:
    """The response in frames, each with its `event:` line. A failure is told, and BrokenStream raised.

    Of a response that may be large the frames that repeat it are made in a thread.
    """
    for made in await _frames(writer.start(), is_large):
        yield made
    try:
        async with aclosing(events):
            async for event in events:
                repeats = isinstance(event, Finish | Usage)
                for made in await _frames(writer.events(event), is_large and repeats):
                    yield made
    except Exception as error:  # whatever it is: the answer has begun, and it must not seem to be whole
        failed = writer.failure(error)
        yield frame(failed, failed["type"])
        raise BrokenStream from error


async def _frames(made: Iterator[dict[str, Any]], is_large: bool) -> list[bytes]:
    if is_large:
        return await asyncio.to_thread(lambda: [large_frame(each, each["type"]) for each in made])
    return [frame(each, each["type"]) for each in made]
