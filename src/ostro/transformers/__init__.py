"""The classes of Hugging Face transformers for Mistral, Mixtral and Llama, over ostro's own decoder: change the import.

    from ostro.transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("mistralai/Mistral-7B-v0.1")
    model = AutoModelForCausalLM.from_pretrained("mistralai/Mistral-7B-v0.1", device_map="auto")
    inputs = tokenizer(["My favourite condiment is"], return_tensors="pt").to(model.device)
    print(tokenizer.batch_decode(model.generate(**inputs, max_new_tokens=100, do_sample=True))[0])

The models are `torch.nn.Module`s whose parameters have HF's names; checkpoints are read in every form that ostro
reads. An argument is honoured, or refused by name. Needs PyTorch: `pip install 'ostro[torch]'`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ostro.errors import MissingExtraError

if find_spec("torch") is None:
    raise MissingExtraError("torch", "torch", "ostro.transformers")

if TYPE_CHECKING:
    from ostro.checkpoint.lora_config import LoraConfig
    from ostro.transformers.adapters import load_adapter, save_adapter
    from ostro.transformers.auto import (
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
    )
    from ostro.transformers.cache_utils import DynamicCache
    from ostro.transformers.configuration import LlamaConfig, MistralConfig, MixtralConfig, PreTrainedConfig
    from ostro.transformers.families import (
        LlamaForCausalLM,
        LlamaForSequenceClassification,
        LlamaForTokenClassification,
        LlamaModel,
        MistralForCausalLM,
        MistralForSequenceClassification,
        MistralForTokenClassification,
        MistralModel,
        MixtralForCausalLM,
        MixtralForSequenceClassification,
        MixtralForTokenClassification,
        MixtralModel,
    )
    from ostro.transformers.generation_config import GenerationConfig
    from ostro.transformers.lora import adapter_state, apply_lora, disable_adapter, has_adapter, load_adapter_state
    from ostro.transformers.modeling import PreTrainedModel
    from ostro.transformers.pipelines import TextGenerationPipeline, pipeline
    from ostro.transformers.quantization import BitsAndBytesConfig
    from ostro.transformers.seeds import set_seed
    from ostro.transformers.streamers import TextIteratorStreamer, TextStreamer
    from ostro.transformers.tokenization import AutoTokenizer, BatchEncoding, PreTrainedTokenizer

_HEADS = ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification")
_MODULES: dict[str, tuple[str, ...]] = {
    "adapters": ("load_adapter", "save_adapter"),
    "auto": ("AutoConfig", *(f"AutoModel{head.removeprefix('Model')}" for head in _HEADS)),
    "cache_utils": ("DynamicCache",),
    "configuration": ("LlamaConfig", "MistralConfig", "MixtralConfig", "PreTrainedConfig"),
    "families": tuple(f"{family}{head}" for family in ("Llama", "Mistral", "Mixtral") for head in _HEADS),
    "generation_config": ("GenerationConfig",),
    "lora": ("LoraConfig", "adapter_state", "apply_lora", "disable_adapter", "has_adapter", "load_adapter_state"),
    "modeling": ("PreTrainedModel",),
    "pipelines": ("TextGenerationPipeline", "pipeline"),
    "quantization": ("BitsAndBytesConfig",),
    "seeds": ("set_seed",),
    "streamers": ("TextIteratorStreamer", "TextStreamer"),
    "tokenization": ("AutoTokenizer", "BatchEncoding", "PreTrainedTokenizer"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AutoConfig",
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoTokenizer",
    "BatchEncoding",
    "BitsAndBytesConfig",
    "DynamicCache",
    "GenerationConfig",
    "LlamaConfig",
    "LlamaForCausalLM",
    "LlamaForSequenceClassification",
    "LlamaForTokenClassification",
    "LlamaModel",
    "LoraConfig",
    "MistralConfig",
    "MistralForCausalLM",
    "MistralForSequenceClassification",
    "MistralForTokenClassification",
    "MistralModel",
    "MixtralConfig",
    "MixtralForCausalLM",
    "MixtralForSequenceClassification",
    "MixtralForTokenClassification",
    "MixtralModel",
    "PreTrainedConfig",
    "PreTrainedModel",
    "PreTrainedTokenizer",
    "TextGenerationPipeline",
    "TextIteratorStreamer",
    "TextStreamer",
    "adapter_state",
    "apply_lora",
    "disable_adapter",
    "has_adapter",
    "load_adapter",
    "load_adapter_state",
    "pipeline",
    "save_adapter",
    "set_seed",
]


def __getattr__(name: str) -> object:
    """Import a class when it is asked for (PEP 562), so that importing the package does not load PyTorch."""
    if name not in _HOMES:
        raise AttributeError(
            f"module {__name__!r} has no {name!r}. It has: {', '.join(__all__)}. For other classes use transformers "
            "itself, which reads what save_pretrained writes here."
        )
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
