"""A run's answer on its way to the client, whole or in frames. Whoever stops listening stops the computation."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager

from starlette.requests import Request

from ostro.errors import OstroError
from ostro.server.errors import fault_of
from ostro.server.events import Choice, Event, Finish, Usage, gather
from ostro.server.notes import note
from ostro.server.refusal import Scope
from ostro.server.sse import unless_gone


async def whole(
    request: Request, events: AsyncGenerator[Event, None], cancel: Callable[[], None]
) -> tuple[list[Choice], Usage]:
    """All answers; ClientGone, and the run is cancelled, when the connection is closed before they are ready."""
    try:
        return await unless_gone(request, gather(_noted(request.scope, events)))
    finally:
        cancel()


async def whole_events(
    request: Request, events: AsyncGenerator[Event, None], cancel: Callable[[], None]
) -> list[Event]:
    """As `whole`, with the events as they are."""
    try:
        return await unless_gone(request, _listed(_noted(request.scope, events)))
    finally:
        cancel()


async def begun(
    request: Request, events: AsyncGenerator[Event, None], cancel: Callable[[], None]
) -> AsyncGenerator[Event, None]:
    """The events once the first is there: what fails before it can still be answered with a status of its own."""
    noted = _noted(request.scope, events)
    try:
        first = await unless_gone(request, anext(noted))
    except BaseException:
        cancel()
        raise
    return _chained(first, noted)


async def _listed(events: AsyncGenerator[Event, None]) -> list[Event]:
    return [event async for event in events]


async def _chained(first: Event, rest: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    async with aclosing(rest):
        yield first
        async for event in rest:
            yield event


async def _noted(scope: Scope, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """The events, with what the log tells of them."""
    async with aclosing(events):
        with _failure_noted(scope):
            async for event in events:
                _note_event(scope, event)
                yield event


def _note_event(scope: Scope, event: Event) -> None:
    if isinstance(event, Finish):
        note(scope, finish_reason=event.reason)
    elif isinstance(event, Usage):
        note(
            scope,
            prompt_tokens=event.prompt_tokens,
            cached_tokens=event.cached_tokens,
            completion_tokens=event.completion_tokens,
        )


@contextmanager
def _failure_noted(scope: Scope) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        note(scope, error=fault_of(error).code if isinstance(error, OstroError) else "internal_error")
        raise
