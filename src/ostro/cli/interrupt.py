"""Ctrl-C that stops an answer at once and leaves the engine whole."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

_ARITHMETIC = "ostro.models."
_LOSING_PATIENCE = 3


class LostPatience(KeyboardInterrupt):
    """Ctrl-C again and again, while an answer would not stop: the program is to end."""


class _Stopped(KeyboardInterrupt):
    """Raised in the arithmetic, and swallowed at the end of the `with` block."""


class StopOnInterrupt:
    """While active, Ctrl-C ends the block's work and not the program; `wanted` then says that it was pressed.

        with StopOnInterrupt() as stop, llm.stream(prompt) as chunks:
            for chunk in chunks:
                ...
                if stop.wanted: break

    Inside the arithmetic, where nearly all the time goes, the block is left at once: the engine can take such a step
    again. Inside its bookkeeping an exception could lose a block of the cache, so there Ctrl-C waits for the next
    chunk. Pressed for the third time it raises LostPatience wherever it is.
    """

    def __init__(self) -> None:
        self._count = 0

    @property
    def wanted(self) -> bool:
        """Whether Ctrl-C has been pressed."""
        return self._count > 0

    def __enter__(self) -> StopOnInterrupt:
        self._previous = signal.signal(signal.SIGINT, self._pressed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        signal.signal(signal.SIGINT, self._previous)
        return isinstance(error, _Stopped)

    def _pressed(self, _number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count >= _LOSING_PATIENCE:
            raise LostPatience
        if self._count == 1 and _computes(frame):
            raise _Stopped


def _computes(frame: FrameType | None) -> bool:
    """Whether the interrupted code is the model's forward pass."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(_ARITHMETIC):
            return True
        frame = frame.f_back
    return False
