"""The Auto classes: the class of a checkpoint's own family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ostro.errors import RequestError
from ostro.transformers import families
from ostro.transformers.configuration import PreTrainedConfig
from ostro.transformers.modeling import PreTrainedModel
from ostro.transformers.sources import config_class, config_values, read_config, take_source


class AutoConfig:
    """`AutoConfig.from_pretrained(name)` is a MistralConfig, MixtralConfig or LlamaConfig."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> PreTrainedConfig:
        """The config of a folder, GGUF file, alias or hub repository.

        `revision`, `cache_dir` and `local_files_only` say where from; other arguments replace values of the config.
        """
        return read_config(pretrained_model_name_or_path, PreTrainedConfig, **kwargs)

    @staticmethod
    def for_model(model_type: str, **values: Any) -> PreTrainedConfig:
        """A config of that `model_type`."""
        return config_class({"model_type": model_type}, "AutoConfig.for_model")(**values)


class _AutoModel:
    classes: ClassVar[Mapping[str, type[PreTrainedModel]]]

    def __init__(self) -> None:
        raise RequestError(f"{type(self).__name__} is used by its class methods from_pretrained and from_config.")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """The model of a checkpoint in any form, in eval mode; see `ostro.transformers.loading.load_model`."""
        config = kwargs.get("config")
        if config is None:
            source = take_source(pretrained_model_name_or_path, dict(kwargs))
            kind = config_class(config_values(source.path()), str(pretrained_model_name_or_path)).model_type
        else:
            kind = config.model_type
        return cls.classes[kind].from_pretrained(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_config(cls, config: PreTrainedConfig, **kwargs: Any) -> Any:
        """A model with random weights."""
        return cls.classes[config.model_type].from_config(config, **kwargs)


class AutoModel(_AutoModel):
    """The bare decoder."""

    classes: ClassVar = {
        "mistral": families.MistralModel,
        "mixtral": families.MixtralModel,
        "llama": families.LlamaModel,
    }


class AutoModelForCausalLM(_AutoModel):
    """A language model."""

    classes: ClassVar = {
        "mistral": families.MistralForCausalLM,
        "mixtral": families.MixtralForCausalLM,
        "llama": families.LlamaForCausalLM,
    }


class AutoModelForSequenceClassification(_AutoModel):
    """A classifier of sequences."""

    classes: ClassVar = {
        "mistral": families.MistralForSequenceClassification,
        "mixtral": families.MixtralForSequenceClassification,
        "llama": families.LlamaForSequenceClassification,
    }


class AutoModelForTokenClassification(_AutoModel):
    """A classifier of tokens."""

    classes: ClassVar = {
        "mistral": families.MistralForTokenClassification,
        "mixtral": families.MixtralForTokenClassification,
        "llama": families.LlamaForTokenClassification,
    }
