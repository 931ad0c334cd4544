"""`Generation`: a request in service, as the event loop sees it, and the way that news take from thread to loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TypeAlias

from ostro.engine.outputs import RequestOutput
from ostro.errors import OstroError

News: TypeAlias = RequestOutput | OstroError
"""How a request stands, or why it will not go on."""


class Generation(AsyncIterator[RequestOutput]):
    """A request that was let in: iterate over its outputs as they come, or await `final()`.

    Each output tells all that the ones before it told, so a reader that is slower than the engine sees the newest and
    nothing piles up. The last one is `finished`. What goes wrong on the way is raised by the iteration: the error of
    the request (an OstroError), EngineError, or ShuttingDownError. One task may read at a time.

        async with await service.submit(prompt, params) as generation:
            async for output in generation:
                ...

    Leaving the block ends the computation if it has not ended, and so does dropping the object.
    """

    def __init__(self, prompt_token_ids: list[int], on_cancel: Callable[[], None]) -> None:
        self.prompt_token_ids = prompt_token_ids
        self._on_cancel = on_cancel
        self._newest: RequestOutput | None = None
        self._is_read = True
        self._failure: OstroError | None = None
        self._news = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self._failure is not None or (self._newest is not None and self._newest.finished)

    def cancel(self) -> None:
        """End the computation before its next step: the last output then has the `finish_reason` "abort".

        Harmless where it has ended. Its place and its memory are free at once, and its neighbours notice nothing.
        """
        if not self.has_ended:
            self._on_cancel()

    async def final(self) -> RequestOutput:
        """The last output; what the iteration would raise is raised here."""
        async for _ in self:
            pass
        assert self._newest is not None
        return self._newest

    async def __anext__(self) -> RequestOutput:
        while self._is_read:
            if self._failure is not None:
                raise self._failure
            if self.has_ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        assert self._newest is not None
        self._is_read = True
        return self._newest

    async def __aenter__(self) -> Generation:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        self.cancel()

    def hear(self, news: News) -> None:
        """Take the news. Called in the event loop."""
        if isinstance(news, OstroError):
            self._failure = news
        else:
            self._newest, self._is_read = news, False
        self._news.set()


class Mailbox:
    """What threads have to tell the generations of one event loop: of each the newest, until the loop takes it.

    However late the loop is, no more than that is kept, and it is woken once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._news: dict[Generation, News] = {}

    def put(self, generation: Generation, news: News) -> bool:
        """Tell a generation; False where its loop has been closed, so that nobody reads any more."""
        with self._lock:
            is_first = not self._news
            self._news[generation] = news
        if is_first:
            try:
                self._loop.call_soon_threadsafe(self._hand_out)
            except RuntimeError:
                return False
        return not self._loop.is_closed()

    def _hand_out(self) -> None:
        with self._lock:
            news, self._news = self._news, {}
        for generation, each in news.items():
            generation.hear(each)
