"""`MistralConfig`, `MixtralConfig`, `LlamaConfig`: HF's field names and defaults, over one `ModelConfig`.

A config object is what a user edits; what the decoder computes with is its `to_model_config()`, read by the same
reader as a file's `config.json`. So a number that ostro does not know is refused here as it is there.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ostro.config import FrequencyFactors, Llama3Rope, ModelConfig
from ostro.config.hf import from_hf
from ostro.config.to_hf import to_hf
from ostro.errors import ConfigError
from ostro.models.rope import inverse_frequencies

_ROPE_KEYS = ("rope_theta", "rope_scaling", "rope_parameters")
_LABEL_KEYS = ("num_labels", "id2label", "label2id")


class PreTrainedConfig:
    """Numbers of one model under HF's names, as attributes.

    `rope_theta` and `rope_scaling` are held as transformers 4 names them; `rope_parameters`, transformers 5's name
    for both, may be given and read as well. `dtype` is a name such as "bfloat16", or None.
    """

    model_type: ClassVar[str]
    default_values: ClassVar[Mapping[str, Any]]

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    initializer_range: float
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: dict[str, Any] | None
    sliding_window: int | None
    attention_dropout: float
    use_cache: bool
    tie_word_embeddings: bool
    bos_token_id: int | None
    eos_token_id: int | list[int] | None
    pad_token_id: int | None
    id2label: dict[int, str]
    label2id: dict[str, int]
    problem_type: str | None
    classifier_dropout: float | None
    output_attentions: bool
    output_hidden_states: bool
    return_dict: bool
    architectures: list[str] | None
    dtype: str | None

    def __init__(self, **values: Any) -> None:
        for name, default in {**_COMMON, **self.default_values}.items():
            setattr(self, name, copy.deepcopy(default))
        self._set_rope(values)
        self._set_labels(values)
        dtype = values.pop("torch_dtype", None)
        dtype = values.pop("dtype", None) or dtype
        self.dtype = None if dtype is None else str(dtype).removeprefix("torch.")
        values.pop("model_type", None)
        for name, value in values.items():
            setattr(self, name, value)
        if values.get("num_key_value_heads") is None and self.default_values["num_key_value_heads"] is None:
            self.num_key_value_heads = self.num_attention_heads
        if vars(self)["head_dim"] is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        self.to_model_config()  # refuses what cannot be run while the caller's line is on the stack

    def _set_rope(self, values: dict[str, Any]) -> None:
        theta, scaling, parameters = (values.pop(key, None) for key in _ROPE_KEYS)
        if parameters is not None:
            inner = dict(parameters)
            stated = inner.pop("rope_theta", None)
            if theta is not None and stated not in (None, theta):
                raise ConfigError(f"rope_theta is {theta} and rope_parameters states {stated}: keep the right one.")
            theta = stated if theta is None else theta
            scaling = scaling or (inner if inner.get("rope_type", "default") != "default" else None)
        self.rope_theta = float(self.default_values["rope_theta"] if theta is None else theta)
        self.rope_scaling = dict(scaling) if scaling else None

    def _set_labels(self, values: dict[str, Any]) -> None:
        number, names, ids = (values.pop(key, None) for key in _LABEL_KEYS)
        if names is not None and number is not None and len(names) != number:
            raise ConfigError(f"num_labels is {number} and id2label names {len(names)} labels: they must agree.")
        names = names or {i: f"LABEL_{i}" for i in range(2 if number is None else number)}
        self.id2label = {int(i): label for i, label in names.items()}
        self.label2id = dict(ids) if ids else {label: i for i, label in self.id2label.items()}

    @property
    def num_labels(self) -> int:
        """Outputs of a classification head."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, number: int) -> None:
        if number != self.num_labels:
            self._set_labels({"num_labels": number})

    @property
    def rope_parameters(self) -> dict[str, Any]:
        """rope_theta and rope_scaling in one object, as transformers 5 has them."""
        return {"rope_theta": self.rope_theta, "rope_type": "default", **(self.rope_scaling or {})}

    @property
    def torch_dtype(self) -> str | None:
        """The older name of `dtype`."""
        return self.dtype

    def to_dict(self) -> dict[str, Any]:
        """The content of a `config.json` that ostro, transformers 4 and transformers 5 read."""
        values = {name: copy.deepcopy(value) for name, value in vars(self).items() if not name.startswith("_")}
        values["torch_dtype"] = values.pop("dtype")
        values["id2label"] = {str(i): label for i, label in self.id2label.items()}
        if "sliding_window" not in self.default_values:
            values.pop("sliding_window", None)
        return {"model_type": self.model_type, **values, "rope_parameters": self.rope_parameters}

    def to_json_string(self) -> str:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], **overrides: Any) -> Self:
        """A config of the content of a `config.json`; `overrides` replace its values."""
        kind = data.get("model_type", cls.model_type)
        if kind != cls.model_type:
            raise ConfigError(
                f"{cls.__name__} cannot hold a model of type {kind!r}; use AutoConfig, or the class of its family."
            )
        merged = {key: value for key, value in data.items() if key != "transformers_version"}
        if any(key in overrides for key in _LABEL_KEYS):
            merged = {key: value for key, value in merged.items() if key not in _LABEL_KEYS}
        if any(key in overrides for key in _ROPE_KEYS):
            merged.pop("rope_parameters", None)
        return cls(**{**merged, **overrides})

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """The config of a checkpoint in any form; see `AutoConfig.from_pretrained` for the arguments."""
        from ostro.transformers.sources import read_config

        return read_config(pretrained_model_name_or_path, cls, **kwargs)

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write `config.json`."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(self.to_json_string(), encoding="utf-8")

    def to_model_config(self) -> ModelConfig:
        """The architecture's numbers; ConfigError names what is missing, unknown or cannot be run."""
        return from_hf(self.to_dict(), source=type(self).__name__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PreTrainedConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # it is edited

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


_COMMON: dict[str, Any] = {
    "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "head_dim": None,
    "hidden_act": "silu", "initializer_range": 0.02, "use_cache": True, "pad_token_id": None, "bos_token_id": 1,
    "eos_token_id": 2, "tie_word_embeddings": False, "attention_dropout": 0.0, "sliding_window": None,
    "problem_type": None, "classifier_dropout": None, "output_attentions": False, "output_hidden_states": False,
    "return_dict": True, "architectures": None,
}  # fmt: skip


class MistralConfig(PreTrainedConfig):
    """Mistral 7B, NeMo, Small, Large 2: HF's names; the defaults are those of `transformers.MistralConfig`."""

    model_type = "mistral"
    default_values: ClassVar[Mapping[str, Any]] = {
        "intermediate_size": 14336, "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "rope_scaling": None, "sliding_window": 4096,
    }  # fmt: skip


class MixtralConfig(PreTrainedConfig):
    """Mixtral: HF's names; the defaults are those of `transformers.MixtralConfig`.

    The auxiliary router loss and router noise of training are not computed: their switches are refused.
    """

    model_type = "mixtral"
    default_values: ClassVar[Mapping[str, Any]] = {
        "intermediate_size": 14336, "num_key_value_heads": 8, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0, "rope_scaling": None, "sliding_window": None, "num_experts_per_tok": 2,
        "num_local_experts": 8, "output_router_logits": False, "router_aux_loss_coef": 0.001,
        "router_jitter_noise": 0.0,
    }  # fmt: skip

    num_experts_per_tok: int
    num_local_experts: int
    output_router_logits: bool
    router_aux_loss_coef: float
    router_jitter_noise: float

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        for name in ("output_router_logits", "router_jitter_noise"):
            if getattr(self, name):
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}: ostro computes neither the router's auxiliary loss nor its "
                    f"noise. Pass {name}={type(getattr(self, name))(0)}; a model in use gives the same results."
                )


class LlamaConfig(PreTrainedConfig):
    """Llama 3.1, 3.2 (text) and their like: HF's names; the defaults are those of `transformers.LlamaConfig`."""

    model_type = "llama"
    default_values: ClassVar[Mapping[str, Any]] = {
        "intermediate_size": 11008, "num_key_value_heads": None, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "rope_scaling": None, "pretraining_tp": 1, "attention_bias": False, "mlp_bias": False,
    }  # fmt: skip


CONFIGS: dict[str, type[PreTrainedConfig]] = {
    config.model_type: config for config in (MistralConfig, MixtralConfig, LlamaConfig)
}
"""Config classes by `model_type`."""


def hf_values(config: ModelConfig) -> dict[str, Any]:
    """The content of a `config.json` for a model that came from a native or GGUF file.

    ConfigError where HF's format cannot say what the file does: rotary factors that are not of type llama3.
    """
    return to_hf(dataclasses.replace(config, rope_scaling=llama3_rope_of(config)))


def llama3_rope_of(config: ModelConfig) -> Llama3Rope | None:
    """The scaling as HF writes it; a GGUF's factors are recognised as those of Llama 3.1 or 3.2.

    ConfigError for factors that the llama3 formula, with the numbers that all of Meta's models share, does not give.
    """
    scaling = config.rope_scaling
    if not isinstance(scaling, FrequencyFactors):
        return scaling
    rope = Llama3Rope(
        factor=float(round(max(scaling.factors), 3)),
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )
    ours = inverse_frequencies(dataclasses.replace(config, rope_scaling=rope))
    if not np.allclose(ours, inverse_frequencies(config), rtol=1e-3):
        raise ConfigError(
            "the GGUF file's rope_freqs.weight is not the llama3 scaling of Llama 3.1 or 3.2, which is all that an HF "
            "config can say. Use ostro.LLM, which takes the factors as they are, or the model's safetensors."
        )
    return rope
