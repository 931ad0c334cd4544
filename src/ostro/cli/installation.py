"""What is installed and downloaded, for `ostro doctor`: packages, and the hub's cache. Nothing heavy is imported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

REQUIRED = (
    "numpy", "ml_dtypes", "tokenizers", "tiktoken", "mistral-common", "sentencepiece", "huggingface_hub", "jinja2",
    "llguidance", "typer", "rich", "prompt_toolkit", "fastapi", "pydantic", "uvicorn", "httpx", "prometheus-client",
)  # fmt: skip
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch", "safetensors"),
    "train": ("torch", "safetensors", "pyyaml", "jsonschema"),
    "parquet": ("pyarrow",),
    "embeddings": ("wordllama",),
    "rag": ("faiss-cpu", "pypdf"),
    "eval": ("lm-eval",),
    "plot": ("matplotlib",),
}
"""Packages of every extra of pyproject.toml that is meant for users."""


@dataclass(frozen=True)
class HubCache:
    """Where downloads lie, and how many bytes they take."""

    folder: Path
    num_bytes: int


def packages(names: tuple[str, ...]) -> dict[str, str | None]:
    """The installed version of each distribution, None where it is not installed."""
    return {name: _version(name) for name in names}


def hub_cache() -> HubCache:
    """The hub's cache as the HF_* variables place it, and the bytes of its files (each once; snapshots are links)."""
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    folder = Path(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub")).expanduser()
    sizes = [
        entry.stat().st_size
        for where, _, names in os.walk(folder)
        for name in names
        if not (entry := Path(where, name)).is_symlink()
    ]
    return HubCache(folder, sum(sizes))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
