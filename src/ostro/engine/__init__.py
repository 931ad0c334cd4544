"""The engine: requests, continuous batching, sampling, and where an answer ends."""

from ostro.engine.config import EngineConfig, EngineSizes
from ostro.engine.core import EngineCore
from ostro.engine.guided import Guided
from ostro.engine.outputs import CompletionOutput, FinishReason, Logprob, RequestMetrics, RequestOutput
from ostro.engine.params import SamplingParams

__all__ = [
    "CompletionOutput",
    "EngineConfig",
    "EngineCore",
    "EngineSizes",
    "FinishReason",
    "Guided",
    "Logprob",
    "RequestMetrics",
    "RequestOutput",
    "SamplingParams",
]
