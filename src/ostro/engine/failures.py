"""When something fails inside a step: whose fault it is, and what that request is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ostro.engine.scheduler import Chunk
from ostro.errors import EngineError, OstroError
from ostro.log import logger

T = TypeVar("T")


def together_or_apart(
    chunks: list[Chunk], compute: Callable[[list[Chunk]], T], fail: Callable[[Chunk, Exception], None]
) -> list[tuple[list[Chunk], T]]:
    """What `compute` makes of all chunks at once; or of each alone, where that fails.

    A chunk that fails alone too is at fault: `fail` is told, and it is not among what is returned.
    """
    try:
        return [(chunks, compute(chunks))]
    except Exception as failure:
        if len(chunks) == 1:
            fail(chunks[0], failure)
            return []
    return [part for chunk in chunks for part in together_or_apart([chunk], compute, fail)]


def as_ostro_error(failure: Exception) -> OstroError:
    """An error of ours as it is. Any other one goes to the log, and an EngineError stands for it."""
    if isinstance(failure, OstroError):
        return failure
    logger.error("The engine failed at a request", exc_info=failure)
    error = EngineError(
        f"The model could not go on with this request because of an error inside ostro ({type(failure).__name__}: "
        f"{failure}). The log has more. Other requests are not affected."
    )
    error.__cause__ = failure
    return error
