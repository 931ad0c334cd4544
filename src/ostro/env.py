"""Environment variables that ostro reads, each in one place.

| variable | meaning |
|---|---|
| `OSTRO_NUM_THREADS` | threads of the cpu backend (default: affinity, cgroup quota and physical cores decide) |
| `OSTRO_ISA` | force a kernel set: `portable`, `avx2` or `avx512` (default: the best that CPU and OS support) |
| `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN` | as `huggingface_hub` documents them |
"""

from __future__ import annotations

import os

from ostro.errors import RequestError


def num_threads() -> int | None:
    """The value of OSTRO_NUM_THREADS, or None when it is not set."""
    text = os.environ.get("OSTRO_NUM_THREADS")
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise RequestError(f"OSTRO_NUM_THREADS must be a whole number of at least 1, not {text!r}.", param="num_threads")
    return int(text)
