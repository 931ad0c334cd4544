"""Which files of a repository make a model: a pure function of their names.

A checkpoint is its configuration, its tokenizer and one set of safetensors; a GGUF file is a whole model by itself.
Pickled weights (.bin, .pt, .pth) are never taken, because reading a pickle runs code.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from ostro.errors import ModelNotFoundError

CONFIG_FILES = ("config.json", "generation_config.json", "params.json")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model*", "*.model.v[0-9]*", "tekken.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json", "tokenizer_gguf.json",
)  # fmt: skip
"""Names, as patterns, of every file that the tokenizer loader reads."""

EMBEDDING_FILES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
"""What makes a repository one of sentence-transformers; each module may have a folder of its own beside them."""

_MODULE_FILE = re.compile(r"\d+_\w+/(config|tokenizer|tokenizer_config)\.json|\d+_\w+/model\.safetensors", re.ASCII)
_SMALL_FILES = (
    *CONFIG_FILES,
    *TOKENIZER_FILES,
    *EMBEDDING_FILES,
    "packed.json",
)  # the last is part of weights that ostro packed
_INDEX = ".safetensors.index.json"
_PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.gguf|\.safetensors)", re.DOTALL)
_NO_MODELS = re.compile(
    r"mmproj|imatrix", re.IGNORECASE
)  # beside the model in GGUF repositories, not models themselves
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def select_files(names: Sequence[str], gguf: str | None = None) -> list[str]:
    """The files to fetch, in the order of `names`, out of all `names` of a repository (paths with "/").

    For a safetensors checkpoint: configuration, tokenizer and the weights of the Hugging Face form (`model*`), or of
    the native form (`consolidated*`) where the former is not there; of an embedding model its modules too. With
    `gguf`, the GGUF file whose name is or contains it, case ignored ("Q4_K_M"), with all its parts and nothing else.
    A repository of GGUF files alone needs no `gguf` when it holds one model.

    Raises `ModelNotFoundError` when there are no weights that ostro reads, or when the choice of GGUF is not clear.
    """
    if gguf is not None:
        return _chosen_gguf(names, gguf)
    top = [name for name in names if "/" not in name]
    weights = _weights(top, "model") or _weights(top, "consolidated")
    modules = {name for name in names if "modules.json" in top and _MODULE_FILE.fullmatch(name)}
    if weights or any(name.endswith(".safetensors") for name in modules):
        wanted = weights | modules
        return [name for name in names if name in wanted or _is_small(name)]
    if _gguf_models(names):
        return _chosen_gguf(names, None)
    if any(name.endswith(_PICKLES) for name in names):
        raise ModelNotFoundError(
            "the weights are there as pickles only (.bin, .pt, .pth), which ostro does not read because a pickle can "
            "run code. Choose a repository with .safetensors or .gguf files."
        )
    raise ModelNotFoundError("there are no model*.safetensors, consolidated*.safetensors or .gguf files.")


def missing_parts(files: Sequence[str]) -> list[str]:
    """Parts of split weights (`NAME-00001-of-00003.SUFFIX`) that the names of the others call for."""
    missing: list[str] = []
    for stem, count, suffix in dict.fromkeys(
        (match["stem"], match["count"], match["suffix"]) for name in files if (match := _PART.fullmatch(name))
    ):
        expected = (f"{stem}-{number:05}-of-{count}{suffix}" for number in range(1, int(count) + 1))
        missing += [name for name in expected if name not in files]
    return missing


def _is_small(name: str) -> bool:
    return "/" not in name and any(fnmatch.fnmatchcase(name, pattern) for pattern in _SMALL_FILES)


def _weights(top: Sequence[str], stem: str) -> set[str]:
    """The safetensors of one form with their index: all parts, or else the single file."""
    parts = {name for name in top if (m := _PART.fullmatch(name)) and m["stem"] == stem and m["suffix"] != ".gguf"}
    single = {f"{stem}.safetensors"} & set(top)
    if parts:
        return parts | ({stem + _INDEX} & set(top))
    return single


def _gguf_models(names: Sequence[str]) -> dict[str, list[str]]:
    """The GGUF models of a repository: name without part number and suffix, and the files of each."""
    models: dict[str, list[str]] = {}
    for name in names:
        if name.lower().endswith(".gguf") and not _NO_MODELS.search(PurePosixPath(name).name):
            match = _PART.fullmatch(name)
            models.setdefault(match["stem"] if match else name[: -len(".gguf")], []).append(name)
    return models


def _chosen_gguf(names: Sequence[str], gguf: str | None) -> list[str]:
    models = _gguf_models(names)
    if not models:
        raise ModelNotFoundError("there is no GGUF file in this repository. Leave out the part after the colon.")
    chosen = list(models) if gguf is None else _matches(models, gguf)
    if len(chosen) == 1:
        return models[chosen[0]]
    shown = ", ".join(PurePosixPath(stem).name for stem in (chosen or models))
    wanted = (
        "several GGUF models are there"
        if gguf is None
        else f"{gguf!r} names {len(chosen) or 'none'} of its GGUF models"
    )
    raise ModelNotFoundError(
        f"{wanted}: choose one with OWNER/NAME:PART, where PART is or is contained in one of {shown}."
    )


def _matches(models: dict[str, list[str]], gguf: str) -> list[str]:
    """The models that `gguf` names: as a whole, as a word ("Q4_K" is none of "x-Q4_K_M"), as a beginning, or as a part.

    The first of these that some model meets decides.
    """
    wanted = gguf.lower().removesuffix(".gguf")
    begins = re.compile(rf"(?:^|[^a-z0-9]){re.escape(wanted)}")
    word = re.compile(begins.pattern + r"(?:$|[^a-z0-9_])")
    lower = {stem: stem.lower() for stem in models}
    return (
        [stem for stem, name in lower.items() if wanted in (name, PurePosixPath(name).name)]
        or [stem for stem, name in lower.items() if word.search(PurePosixPath(name).name)]
        or [stem for stem, name in lower.items() if begins.search(PurePosixPath(name).name)]
        or [stem for stem, name in lower.items() if wanted in name]
    )
