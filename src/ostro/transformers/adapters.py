"""Adapters of models in PyTorch, to disk and back: `save_adapter`, `load_adapter`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from ostro.checkpoint.adapter import BaseRecord, read_adapter, write_adapter
from ostro.checkpoint.fingerprint import weights_fingerprint
from ostro.checkpoint.lora_config import LoraConfig
from ostro.checkpoint.open import open_checkpoint
from ostro.errors import RequestError
from ostro.log import logger
from ostro.ops.torch import from_numpy
from ostro.transformers.lora import SavedModule, adapter_state, install, load_adapter_state
from ostro.transformers.modeling import PreTrainedModel
from ostro.transformers.quantization import QuantizedLinear

_TASKS = (
    ("ForCausalLM", "CAUSAL_LM"), ("ForSequenceClassification", "SEQ_CLS"), ("ForTokenClassification", "TOKEN_CLS"),
)  # fmt: skip


def save_adapter(model: PreTrainedModel, folder: str | Path) -> None:
    """Write the adapter that lies over a model, in peft's format, with a record of the base it was trained over.

    Modules are saved under their whole names, so that every reader means the same ones. RequestError for a model
    without an adapter, and for a folder that cannot be written to.
    """
    config = model.adapter_config
    if config is None:
        raise RequestError("The model has no adapter: apply_lora(model, LoraConfig(...)) lays one over it.")
    whole = tuple(name for name, module in model.named_modules() if isinstance(module, SavedModule))
    task = next((task for end, task in _TASKS if type(model).__name__.endswith(end)), None)
    stated = replace(
        config,
        modules_to_save=whole,
        task_type=config.task_type or task,
        base_model_name_or_path=config.base_model_name_or_path or model.name_or_path or None,
    )
    # A decoder's names lack the "model." that a head's have, in peft's files too.
    tensors = {name: array_of(tensor) for name, tensor in adapter_state(model).items()}
    write_adapter(Path(folder), stated, tensors, base_record(model))


def load_adapter(model: PreTrainedModel, folder: str | Path, *, is_trainable: bool = False) -> LoraConfig:
    """Lay the adapter of a folder over a model, in place; its config. With `is_trainable`, training goes on with it.

    A base that is not the one it was trained over is told in the log. CheckpointError for an adapter that cannot be
    read or does not fit, RequestError for a model that has one already.
    """
    adapter = read_adapter(Path(folder))
    prefix = "model." if model.base_model is model else ""
    shapes = {prefix + name: shape for name, shape in _shapes(model)}
    adapter.check(shapes, model.name_or_path or type(model).__name__)
    tensors = {name.removeprefix(prefix): tensor for name, tensor in adapter.saved.items()}
    for module, pair in adapter.pairs.items():
        tensors[f"{module.removeprefix(prefix)}.lora_A.weight"] = pair.a
        tensors[f"{module.removeprefix(prefix)}.lora_B.weight"] = pair.b
    exact = replace(
        adapter.config,
        target_modules=tuple(name.removeprefix(prefix) for name in adapter.pairs),
        exclude_modules=None,
        layers_to_transform=None,
        modules_to_save=tuple(sorted({name.removeprefix(prefix).rpartition(".")[0] for name in adapter.saved})),
    )
    install(model, exact)
    load_adapter_state(model, {name: from_numpy(tensor) for name, tensor in tensors.items()})
    model.adapter_config = adapter.config
    if not is_trainable:
        model.requires_grad_(False)
    _tell_base(model, adapter.base, str(folder))
    return adapter.config


def base_record(model: PreTrainedModel) -> BaseRecord | None:
    """What is known of a model's base; None for one that has no files."""
    if model.checkpoint_path is None:
        return None
    checkpoint = open_checkpoint(model.checkpoint_path, lm_head=False)
    quantization = None
    if model.quantization_config is not None and model.is_quantized:
        quantization = {key: _plain(value) for key, value in asdict(model.quantization_config).items()}
    dtype = str(model.config.dtype).removeprefix("torch.")
    return BaseRecord(fingerprint=weights_fingerprint(checkpoint), dtype=dtype, quantization=quantization)


def _shapes(model: PreTrainedModel) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of every parameter, and of the weights that packed layers stand for."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        yield name, tuple(parameter.shape)
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear):
            yield f"{name}.weight", (module.out_features, module.in_features)


def _tell_base(model: PreTrainedModel, stated: BaseRecord | None, folder: str) -> None:
    found = None if stated is None else base_record(model)
    if stated is not None and found is not None and stated.fingerprint != found.fingerprint:
        logger.warning(
            "%s: this adapter was trained over other weights than those of %s; its answers may be worse for it.",
            folder,
            model.name_or_path,
        )


def _plain(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return list(value) if isinstance(value, tuple) else value


def array_of(tensor: torch.Tensor) -> npt.NDArray[Any]:
    """A NumPy array of the same numbers, bfloat16 being that of `ml_dtypes`."""
    host = tensor.detach().to("cpu").contiguous()
    if host.dtype != torch.bfloat16:
        array: npt.NDArray[Any] = host.numpy()
        return array
    import ml_dtypes

    halves: npt.NDArray[Any] = host.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return halves
