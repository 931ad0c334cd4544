"""Ctrl-C as a wish that is granted between two steps of the engine, and not as an exception inside one."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

_LOSING_PATIENCE = 3


class StopOnInterrupt:
    """While active, Ctrl-C sets `wanted` instead of raising; the third one raises KeyboardInterrupt after all.

        with StopOnInterrupt() as stop:
            for chunk in stream:
                if stop.wanted: break

    An exception in the middle of a step could leave blocks of the cache marked as filled that are not.
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
    ) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _pressed(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1
        if self._count >= _LOSING_PATIENCE:
            raise KeyboardInterrupt
