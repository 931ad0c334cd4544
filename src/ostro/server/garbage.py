"""What all threads wait for: each other's turns, and the garbage collector, kept short while a server runs.

Python's collector walks through all objects when many have been made, which takes 0.2 s beside a large answer, and
nothing else runs meanwhile. Here it walks through the young ones only, and once in a while through those that were made
since the server started; objects that are in no cycle are freed at once as ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_TURN = 0.001  # seconds; Python's own is five times that, and it takes several turns to answer a request
_YOUNG, _MIDDLE, _NEVER = 2000, 10, 1 << 30
_EVERY = 60.0


@asynccontextmanager
async def short_waits() -> AsyncIterator[None]:
    """Keep waits short during the block, which begins when what stays for long is there: the models."""
    turn, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(_TURN)
    gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)
    gc.collect()
    gc.freeze()
    collecting = asyncio.ensure_future(_collect())
    try:
        yield
    finally:
        collecting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await collecting
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(turn)


def collect_everything() -> None:
    """Free what is in cycles, also where it was there when the server started: a model that is unloaded."""
    is_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    gc.collect()
    if is_frozen:
        gc.freeze()


async def _collect() -> None:
    while True:
        await asyncio.sleep(_EVERY)
        gc.collect()
