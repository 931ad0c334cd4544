"""What a server of ostro holds: sequences, blocks of the cache, memory."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from http_load.processes import ServerProcess

_SAMPLE = re.compile(r"^ostro_(\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
_STATE = re.compile(r'state="(\w+)"')


@dataclass(frozen=True, slots=True)
class State:
    """Sequences that run and wait, blocks in use, blocks that are kept for reuse, blocks that are free, and bytes."""

    running: int
    waiting: int
    used_blocks: int
    cached_blocks: int
    free_blocks: int
    resident_bytes: int

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, waits or holds a block."""
        return not (self.running or self.waiting or self.used_blocks)


def state_of(server: ServerProcess, key: str | None = None) -> State:
    """How the server stands, from its `/metrics` and the system."""
    status, body = server.get("/metrics", {"authorization": f"Bearer {key}"} if key else None)
    assert status == 200, f"/metrics answered {status}"
    values: dict[str, int] = {}
    for found in _SAMPLE.finditer(body.decode()):
        state = _STATE.search(found["labels"])
        name = f"{found[1]}.{state[1]}" if state else found[1]
        values[name] = values.get(name, 0) + int(float(found["value"])) if _is_whole(found["value"]) else 0
    return State(
        values.get("sequences_running", 0),
        values.get("sequences_waiting", 0),
        values.get("kv_blocks.used", 0),
        values.get("kv_blocks.cached", 0),
        values.get("kv_blocks.free", 0),
        server.resident_bytes(),
    )


def _is_whole(value: str) -> bool:
    return value.replace(".", "", 1).isdigit()


def idle_state(server: ServerProcess, key: str | None = None, patience: float = 60.0) -> State:
    """The state when all has ended; the last one seen if that does not happen in time."""
    end = time.monotonic() + patience
    while not (state := state_of(server, key)).is_idle and time.monotonic() < end:
        time.sleep(0.1)
    return state
