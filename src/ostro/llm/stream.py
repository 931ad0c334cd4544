"""`Stream`: the pieces of a running answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ostro.engine.outputs import RequestOutput
from ostro.engine.params import SamplingParams
from ostro.engine.stream import Pieces, StreamChunk
from ostro.llm.prompts import PromptLike

if TYPE_CHECKING:
    from ostro.llm import LLM


@dataclass(frozen=True, slots=True, eq=False)
class Inbox:
    """A request that was queued, and its newest output until somebody takes it."""

    request_id: str
    newest: deque[RequestOutput]


class Stream(Iterator[StreamChunk]):
    """The pieces of a running answer. `close` (or the end of a `with` block, or dropping it) stops the computation."""

    def __init__(self, llm: LLM, prompt: PromptLike, params: SamplingParams, adapter: str | None = None) -> None:
        self._llm = llm
        inbox = llm._add(prompt, params, adapter)
        self._request_id = inbox.request_id
        self._outputs = llm._outputs(inbox)
        self._ready: deque[StreamChunk] = deque()
        self._pieces = Pieces()
        self.output: RequestOutput | None = None
        """The whole request as it stood at the last piece."""

    def __next__(self) -> StreamChunk:
        while not self._ready:
            try:
                self.output = next(self._outputs)
            except BaseException:
                self.close()
                raise
            self._ready.extend(self._pieces.of(self.output))
        return self._ready.popleft()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # May run in the middle of a step, wherever garbage is collected: the next step drops the request.
        if hasattr(self, "_request_id"):
            self._llm.shared.abandon(self._request_id)

    def close(self) -> None:
        """Stop the computation and free its place; harmless where it has ended."""
        self._llm.shared.drop([self._request_id])
