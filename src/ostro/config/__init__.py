"""Architecture numbers: one frozen `ModelConfig`, read from every form in which checkpoints state them."""

from ostro.config.gguf import from_gguf
from ostro.config.hf import from_hf
from ostro.config.model import Family, FrequencyFactors, Llama3Rope, ModelConfig, RopeScaling
from ostro.config.native import from_params
from ostro.config.quantization import Quantization, read_quantization
from ostro.config.to_hf import to_hf

__all__ = [
    "Family",
    "FrequencyFactors",
    "Llama3Rope",
    "ModelConfig",
    "Quantization",
    "RopeScaling",
    "from_gguf",
    "from_hf",
    "from_params",
    "read_quantization",
    "to_hf",
]
