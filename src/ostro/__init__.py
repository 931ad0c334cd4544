"""ostro: the open-weight Mistral and Llama families on your own machine.

>>> from ostro import SamplingParams
>>> SamplingParams(temperature=0, max_tokens=32).max_tokens
32
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ostro.engine.guided import Guided
    from ostro.engine.outputs import CompletionOutput, RequestOutput
    from ostro.engine.params import SamplingParams
    from ostro.engine.stream import StreamChunk
    from ostro.errors import OstroError
    from ostro.llm import LLM

__version__ = "0.1.0"

__all__ = [
    "LLM",
    "CompletionOutput",
    "Guided",
    "OstroError",
    "RequestOutput",
    "SamplingParams",
    "StreamChunk",
    "__version__",
]

_HOMES = {
    "LLM": "llm",
    "StreamChunk": "engine.stream",
    "Guided": "engine.guided",
    "SamplingParams": "engine.params",
    "RequestOutput": "engine.outputs",
    "CompletionOutput": "engine.outputs",
    "OstroError": "errors",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for (PEP 562), so that `import ostro` takes a blink."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ostro' has no attribute {name!r}")
    return getattr(import_module(f"ostro.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Every public name, loaded or not."""
    return sorted(__all__)
