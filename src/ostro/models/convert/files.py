"""Everything of a packed folder but its weights: configuration, tokenizer, licence, index, manifest."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ostro.checkpoint.hub_files import CONFIG_FILES, TOKENIZER_FILES
from ostro.checkpoint.open import Checkpoint
from ostro.checkpoint.text import read_json
from ostro.config import Quantization, to_hf
from ostro.models.convert.state import INDEX, LICENCES, PART, write_json
from ostro.tokenizer.files import GGUF_VOCABULARY

_CLASSES = {"mistral": "MistralForCausalLM", "mixtral": "MixtralForCausalLM", "llama": "LlamaForCausalLM"}
_GENERATION = "generation_config.json"


def source_files(checkpoint: Checkpoint) -> dict[str, Path]:
    """The files that a conversion reads, by their names."""
    files = {path.name: path for path in checkpoint.files}
    if checkpoint.folder is not None:
        files |= {path.name: path for path in _matching(checkpoint.folder, (*CONFIG_FILES, *TOKENIZER_FILES))}
    return files


def write_files(checkpoint: Checkpoint, out: Path) -> None:
    """Tokenizer, generation settings and licence, as the source has them."""
    if checkpoint.folder is not None:
        for path in _matching(checkpoint.folder, (*TOKENIZER_FILES, *LICENCES)):
            _copy(path, out / path.name)
        _write_generation(checkpoint.folder / _GENERATION, out / _GENERATION, checkpoint.form != "native")
    if checkpoint.gguf_metadata is not None:
        vocabulary = {key: value for key, value in checkpoint.gguf_metadata.items() if key.startswith("tokenizer.")}
        if "tokenizer.ggml.model" in vocabulary:
            write_json(out / GGUF_VOCABULARY, vocabulary)


def config_json(checkpoint: Checkpoint, quantization: Quantization) -> dict[str, Any]:
    """The configuration with one key more."""
    return stated_config(checkpoint) | {"quantization_config": quantization.to_dict()}


def stated_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The Hugging Face configuration of a checkpoint: its own, or one that says what the native or GGUF file says."""
    if checkpoint.form in ("hf", "packed"):
        assert checkpoint.folder is not None
        return dict(read_json(checkpoint.folder / "config.json"))
    stated = to_hf(checkpoint.config)
    stated["architectures"] = [_CLASSES[str(stated["model_type"])]]
    return stated


def write_index(out: Path, stored: Mapping[str, Iterable[str]], nbytes: int) -> None:
    """The index that names the shard of every stored tensor."""
    weight_map = {name: file for file, names in stored.items() for name in names}
    write_json(out / INDEX, {"metadata": {"total_size": nbytes}, "weight_map": weight_map})


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    wanted = tuple(patterns)
    return [p for p in sorted(folder.iterdir()) if p.is_file() and any(fnmatchcase(p.name, each) for each in wanted)]


def _copy(source: Path, target: Path) -> None:
    """The file's content, from behind the links that the cache of the hub consists of."""
    part = target.with_name(target.name + PART)
    shutil.copyfile(source, part)
    part.replace(target)


def _write_generation(source: Path, target: Path, names_tokens: bool) -> None:
    """Native configurations do not heed this file's token ids, which must not come into force by being copied."""
    if not source.is_file():
        return
    stated = read_json(source)
    if not names_tokens:
        stated = {key: value for key, value in stated.items() if key not in ("eos_token_id", "bos_token_id")}
    write_json(target, stated)
