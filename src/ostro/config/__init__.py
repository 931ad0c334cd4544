"""Architecture numbers: one frozen `ModelConfig`, read from every form in which checkpoints state them."""

from ostro.config.model import Family, FrequencyFactors, Llama3Rope, ModelConfig, RopeScaling

__all__ = ["Family", "FrequencyFactors", "Llama3Rope", "ModelConfig", "RopeScaling"]
