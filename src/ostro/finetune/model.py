"""The model of a configuration, ready to be trained: whole, with an adapter, or with one over 4-bit weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ostro.checkpoint.hub import resolve
from ostro.checkpoint.lora_config import LoraConfig
from ostro.checkpoint.open import open_checkpoint
from ostro.checkpoint.text import read_json
from ostro.errors import ConfigError
from ostro.finetune.config import PretrainConfig, RunConfig, TrainConfig
from ostro.tokenizer import Tokenizer, load_tokenizer
from ostro.transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedConfig, apply_lora

_RESIDUAL_OUTPUTS = ("o_proj", "down_proj", "w2")


def trainable_model(
    config: TrainConfig,
    device: torch.device,
    auto_class: Any = AutoModelForCausalLM,
    *,
    modules_to_save: tuple[str, ...] = (),
    **overrides: Any,
) -> Any:
    """The checkpoint's model in the type of the configuration, with what is to be trained wanting gradients.

    `auto_class` says which head; `modules_to_save` are trained whole beside an adapter (a new head), `overrides` values
    of the model's config. Random numbers are drawn from the run's seed.
    """
    torch.manual_seed(config.seed)
    quantization = None
    if config.method == "qlora":
        quantization = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        )  # as the paper has it
    model = auto_class.from_pretrained(
        config.model, dtype=config.dtype, device_map=device, quantization_config=quantization, **overrides
    )
    return prepare(model, config, modules_to_save)


def prepare(model: Any, config: RunConfig, modules_to_save: tuple[str, ...] = ()) -> Any:
    """Lay the configuration's adapter over a model, if it asks for one, and turn checkpointing on, if it does."""
    if isinstance(config, TrainConfig) and config.method != "full":
        apply_lora(model, lora_config(config, modules_to_save))
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return model


def lora_config(config: TrainConfig, modules_to_save: tuple[str, ...] = ()) -> LoraConfig:
    """The `lora` section under peft's names."""
    section = config.lora_section
    return LoraConfig(
        r=section.r,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules=section.target_modules,
        modules_to_save=tuple(dict.fromkeys((*section.modules_to_save, *modules_to_save))),
        use_rslora=section.use_rslora,
    )


def tokenizer_of(name: str | Path) -> Tokenizer:
    """The tokenizer of a folder, GGUF file, alias or hub repository."""
    path = resolve(name)
    if path.is_file():
        return load_tokenizer(gguf_metadata=open_checkpoint(path).gguf_metadata, source=str(path))
    return load_tokenizer(path)


def new_model(config: PretrainConfig, tokenizer: Tokenizer, device: torch.device) -> Any:
    """A model of random weights with the numbers that the configuration states."""
    numbers = new_config(config, tokenizer)
    torch.manual_seed(config.seed if config.init_seed is None else config.init_seed)
    model = AutoModelForCausalLM.from_config(numbers, dtype=config.dtype)
    if config.scale_residual_init:
        _scale_residual_outputs(model)
    return prepare(model.to(device), config)


def _scale_residual_outputs(model: Any) -> None:
    """Divide what each of the L layers adds twice by sqrt(2 L), so that the sum begins as large as one (GPT-2)."""
    factor = (2 * model.numbers.num_hidden_layers) ** -0.5
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.removesuffix(".weight").rpartition(".")[2] in _RESIDUAL_OUTPUTS:
                parameter.mul_(factor)


def new_config(config: PretrainConfig, tokenizer: Tokenizer) -> PreTrainedConfig:
    """The numbers of a model to be; those of the vocabulary come from the tokenizer where they are left out.

    ConfigError for a vocabulary that is smaller than the tokenizer's.
    """
    values = stated_numbers(config.model)
    values.setdefault("vocab_size", tokenizer.vocab_size)
    values.setdefault("bos_token_id", tokenizer.bos_id)
    values.setdefault("eos_token_id", tokenizer.eos_id)
    kind = values.pop("model_type", None)
    if not isinstance(kind, str):
        raise ConfigError("model: model_type is missing; write mistral, mixtral or llama.")
    if values["vocab_size"] < tokenizer.vocab_size:
        raise ConfigError(
            f"model: vocab_size is {values['vocab_size']}, and the tokenizer {tokenizer.source} has "
            f"{tokenizer.vocab_size} tokens: leave vocab_size out, or make it at least that."
        )
    return AutoConfig.for_model(kind, **values)


def stated_numbers(model: str | dict[str, Any]) -> dict[str, Any]:
    """The keys of a config.json, given by its path or by themselves."""
    if isinstance(model, dict):
        return dict(model)
    path = Path(model)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"model: {model} is no file; give the path of a config.json, or its keys below `model:`.")
    return dict(read_json(file))
