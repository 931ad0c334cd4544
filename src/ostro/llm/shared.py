"""`SharedEngine`: one engine that several threads put requests to, each told of its own."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeAlias

from ostro.engine.core import EngineCore
from ostro.engine.outputs import RequestOutput
from ostro.engine.params import SamplingParams
from ostro.engine.pooling import Embedding
from ostro.engine.scoring import Reading
from ostro.llm.prompts import EncodedPrompt

Deliver: TypeAlias = Callable[[RequestOutput], None]
"""Gets the outputs of one request as they come, in whatever thread takes the step; must neither wait nor raise."""


class FairLock:
    """A re-entrant lock that a thread cannot take again and again while another waits.

    Whoever waits holds a turnstile, at which the thread that has just let go must stop: a thread that takes step after
    step lets others in between.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._turnstile = threading.Lock()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        if self._owner == threading.get_ident():
            self._lock.acquire()
        else:
            with self._turnstile:
                self._lock.acquire()
        self._owner = threading.get_ident()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = None
        self._lock.release()


class SharedEngine:
    """`engine` and the `lock` under which it is used: hold it for a step at most, so that others get their turn.

    Whoever wants a request to go on calls `step`, which takes the next step for all of them.
    """

    def __init__(self, engine: EngineCore) -> None:
        self.engine = engine
        self.lock = FairLock()
        self._deliveries: dict[str, Deliver] = {}
        self._abandoned: deque[str] = deque()
        self._ids = itertools.count()

    def add(
        self,
        prompt: EncodedPrompt,
        params: SamplingParams,
        deliver: Deliver,
        *,
        cache_salt: str = "",
        final_only: bool = False,
    ) -> str:
        """Queue a request and return its id; `deliver` gets its outputs. The rest is as in `EngineCore.add_request`."""
        self.engine.prepare(params)  # before the lock: other requests go on meanwhile
        with self.lock:
            request_id = str(next(self._ids))
            self.engine.add_request(
                request_id,
                prompt.token_ids,
                params,
                prompt=prompt.text,
                cache_salt=cache_salt,
                at_start=prompt.at_start,
                eos_token_ids=prompt.eos_token_ids,
                final_only=final_only,
                adapter=prompt.adapter,
            )
            self._deliveries[request_id] = deliver
        return request_id

    def holds(self, request_id: str) -> bool:
        """Whether outputs of the request may still come."""
        return request_id in self._deliveries

    def step(self) -> None:
        """Take a step, if there is anything to do, and deliver what came of it."""
        with self.lock:
            self.drop([self._abandoned.popleft() for _ in range(len(self._abandoned))])
            if not self.engine.has_unfinished:
                return
            for output in self.engine.step():
                # An answer that nobody waits for any more was dropped in between.
                deliver = self._deliveries.get(output.request_id)
                if deliver is not None:
                    deliver(output)
                if output.finished:
                    self._deliveries.pop(output.request_id, None)

    def finish(self, text: Embedding | Reading, on_step: Callable[[], None] | None = None) -> None:
        """Take steps until a text that is only read is done; `on_step` is called before each, and may end the work."""
        while True:
            if on_step is not None:
                on_step()
            with self.lock:
                if text.failure is not None:
                    raise text.failure
                if text.is_done:
                    return
                self.step()

    def abort(self, request_id: str) -> RequestOutput | None:
        """End a request now; its last output, which is not delivered, or None if it has ended already."""
        with self.lock:
            self._deliveries.pop(request_id, None)
            return self.engine.abort(request_id)

    def drop(self, request_ids: Sequence[str]) -> None:
        """End requests that nobody waits for any more; harmless where they have ended."""
        with self.lock:
            for request_id in request_ids:
                self.abort(request_id)

    def abandon(self, request_id: str) -> None:
        """Let the next step drop a request. For finalizers: they may run in the middle of a step."""
        self._abandoned.append(request_id)
