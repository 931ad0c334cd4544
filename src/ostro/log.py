"""One logger for the package, and `once`: a message that a user must see, but not a hundred times."""

from __future__ import annotations

import functools
import logging

logger = logging.getLogger("ostro")


@functools.cache
def warn_once(message: str) -> None:
    """Log `message` as a warning the first time it is given in this process."""
    logger.warning(message)
