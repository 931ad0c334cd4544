"""`save_pretrained`: safetensors under HF's names, in shards where they are large."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file

from ostro.errors import RequestError
from ostro.transformers.modeling import PreTrainedModel

_OWN = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def save_model(model: PreTrainedModel, folder: Path, max_shard_size: int | str) -> None:
    """Write the model; RequestError for one in 4 or 8 bits, one with an adapter, and for a size that is none."""
    if model.is_quantized:
        raise RequestError(
            "A model loaded in 4 or 8 bits cannot be saved: its packed weights are a form of this process. Load it "
            "without quantization_config and save that; it can be quantized again whenever it is loaded."
        )
    if model.adapter_config is not None:
        raise RequestError(
            "The model has an adapter over it: save_adapter(model, folder) saves the adapter, and `ostro merge` makes "
            "one model of it and its base."
        )
    limit = _bytes(max_shard_size)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    _remove_old(folder)
    shards = _split(tensors, limit)
    if len(shards) == 1:
        _write(shards[0], folder / "model.safetensors")
    else:
        _write_shards(shards, folder)
    model.config.architectures = [type(model).__name__]
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.config.save_pretrained(folder)
    if model.has_lm_head:
        model.generation_config.save_pretrained(folder)


def _bytes(size: int | str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?B|)", str(size).upper())
    if match is None or float(match[1]) <= 0:
        raise RequestError(
            f'max_shard_size must be a number of bytes or a size such as "5GB", not {size!r}.', param="max_shard_size"
        )
    return int(float(match[1]) * _UNITS[match[2]])


def _remove_old(folder: Path) -> None:
    """Shards of an earlier save into the same folder: left beside the new ones they would be another model."""
    for path in folder.glob("model*"):
        if _OWN.fullmatch(path.name):
            path.unlink()


def _split(tensors: dict[str, torch.Tensor], limit: int) -> list[dict[str, torch.Tensor]]:
    """In order, each shard at most `limit` bytes, or one tensor that is larger."""
    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.detach()
        size += tensor.nbytes
    return shards


def _write(tensors: dict[str, torch.Tensor], path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})


def _write_shards(shards: list[dict[str, torch.Tensor]], folder: Path) -> None:
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
