"""Text to ids and back, whatever file the vocabulary came from: `load_tokenizer`, `Tokenizer`, `StreamDetokenizer`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ostro.tokenizer.base import Tokenizer
    from ostro.tokenizer.detokenize import StreamDetokenizer
    from ostro.tokenizer.load import load_tokenizer

__all__ = ["StreamDetokenizer", "Tokenizer", "load_tokenizer"]

_HOMES = {"Tokenizer": "base", "StreamDetokenizer": "detokenize", "load_tokenizer": "load"}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for (PEP 562), so that importing the package stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
