"""Environment variables that ostro reads, each in one place.

| variable | meaning |
|---|---|
| `OSTRO_MODEL` | the model of commands that are given none |
| `OSTRO_NUM_THREADS` | threads of the cpu backend (default: affinity, cgroup quota and physical cores decide) |
| `OSTRO_ISA` | force a kernel set: `portable`, `avx2`, `avx_vnni`, `avx512`, `avx512_vnni` (default: the best here) |
| `OSTRO_API_KEY` | the key that clients of `ostro serve` need; several with spaces between |
| `OSTRO_CACHE` | folder of what ostro makes and can make again (default: `~/.cache/ostro`, or below XDG_CACHE_HOME) |
| `BRAVE_API_KEY`, `WOLFRAM_APP_ID` | keys of the tools brave_search and wolfram_alpha |
| `TIKTOKEN_CACHE_DIR` | where tiktoken keeps vocabularies: for token ids in requests for embeddings |
| `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN` | as `huggingface_hub` documents them |
"""

from __future__ import annotations

import os
from pathlib import Path

from ostro.errors import RequestError

NAMES = (
    "OSTRO_MODEL", "OSTRO_NUM_THREADS", "OSTRO_ISA", "OSTRO_API_KEY", "OSTRO_CACHE", "BRAVE_API_KEY",
    "WOLFRAM_APP_ID", "TIKTOKEN_CACHE_DIR", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN",
)  # fmt: skip

_SECRETS = ("OSTRO_API_KEY", "HF_TOKEN", "BRAVE_API_KEY", "WOLFRAM_APP_ID")


def model() -> str | None:
    """The value of OSTRO_MODEL, or None when it is not set."""
    return os.environ.get("OSTRO_MODEL") or None


def num_threads() -> int | None:
    """The value of OSTRO_NUM_THREADS, or None when it is not set."""
    text = os.environ.get("OSTRO_NUM_THREADS")
    if not text:
        return None
    if not text.isdigit() or int(text) < 1:
        raise RequestError(
            f"OSTRO_NUM_THREADS must be a whole number of at least 1, not {text!r}.", param="num_threads"
        )
    return int(text)


def isa() -> str | None:
    """The value of OSTRO_ISA, or None when it is not set; the cpu backend checks it."""
    return os.environ.get("OSTRO_ISA") or None


def api_keys() -> list[str]:
    """The keys in OSTRO_API_KEY."""
    return os.environ.get("OSTRO_API_KEY", "").split()


def tiktoken_cache() -> Path:
    """TIKTOKEN_CACHE_DIR, or where tiktoken keeps its files without it."""
    import tempfile  # slow to import, and hardly ever needed

    own = os.environ.get("TIKTOKEN_CACHE_DIR")
    return Path(own) if own else Path(tempfile.gettempdir()) / "data-gym-cache"


def cache_folder() -> Path:
    """OSTRO_CACHE, or `ostro` in the cache folder of the user: where packed copies of models are kept."""
    own = os.environ.get("OSTRO_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "ostro"


def service_key(name: str) -> str | None:
    """The value of BRAVE_API_KEY or WOLFRAM_APP_ID, or None when it is not set."""
    assert name in _SECRETS, name
    return (os.environ.get(name) or "").strip() or None


def settings() -> dict[str, str]:
    """The variables of the table above that are set, for `ostro doctor`; tokens and keys are never shown."""
    values = {name: value for name in NAMES if (value := os.environ.get(name))}
    return {name: "(set)" if name in _SECRETS else value for name, value in values.items()}
