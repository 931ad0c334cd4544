"""What a sentence-transformers folder says of itself: its modules, pooling, prompts and limits.

Source: the files that the library sentence-transformers writes, versions 2 to 6. Every module, pooling mode and
setting is honoured or refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias, get_args

from ostro.checkpoint.text import read_json
from ostro.config.fields import Fields
from ostro.embeddings.base import InputType
from ostro.errors import CheckpointError, ConfigError

MODULES = "modules.json"

PoolingMode: TypeAlias = Literal["cls", "mean", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
"""How the hidden states of a text become one vector; the names are sentence-transformers'."""

POOLING_MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)

_FLAGS: Mapping[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Keys of older files, in the order in which several poolings are put side by side."""

_ACTIVATIONS = {"Identity": None, "Tanh": "tanh"}


@dataclass(frozen=True, slots=True)
class DenseModule:
    """A linear layer behind the pooling, in a folder of its own; `activation` "tanh" or None."""

    folder: Path
    in_features: int
    out_features: int
    has_bias: bool
    activation: str | None


@dataclass(frozen=True, slots=True)
class Recipe:
    """From tokens to a vector. `kind` "static" has no pooling: it is always the mean.

    `folder` has the weights and the tokenizer; `max_tokens` is None where the folder states no limit of its own.
    `smaller_dimensions` None means any size (a model trained for all of them).
    """

    kind: Literal["transformer", "static"]
    folder: Path
    pooling: tuple[PoolingMode, ...]
    dense: tuple[DenseModule, ...]
    max_tokens: int | None
    lower_case: bool
    prompts: dict[InputType, str]
    smaller_dimensions: Sequence[int] | None


def is_sentence_transformers(folder: Path) -> bool:
    """Whether a folder says how its model makes embeddings."""
    return (folder / MODULES).is_file()


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a folder with a modules.json; CheckpointError or ConfigError for what cannot be honoured."""
    modules = _modules(folder)
    kinds = [kind for kind, _ in modules]
    first, first_folder = modules[0]
    pooling: tuple[PoolingMode, ...] = ()
    dense = []
    for place, (kind, where) in enumerate(modules[1:], start=1):
        if kind == "Pooling" and first == "Transformer" and place == 1:
            pooling = _pooling(where)
        elif kind == "Dense" and "Normalize" not in kinds[:place]:
            dense.append(_dense(where))
        elif kind == "Normalize":
            _plain_normalize(where)
        elif kind != "Dropout":  # which does nothing outside of training
            raise _cannot(folder, kinds, f"a module {kind} at place {place}")
    if first not in ("Transformer", "StaticEmbedding") or (first == "Transformer" and not pooling):
        raise _cannot(folder, kinds, f"{first} without Pooling behind it" if first == "Transformer" else first)
    limits = _transformer_settings(first_folder) if first == "Transformer" else (None, False)
    return Recipe(
        kind="transformer" if first == "Transformer" else "static",
        folder=first_folder,
        pooling=pooling,
        dense=tuple(dense),
        max_tokens=limits[0],
        lower_case=limits[1],
        prompts=_refuse_hidden_prompts(_prompts(folder), modules),
        smaller_dimensions=smaller_dimensions(first_folder),
    )


def bare_recipe(folder: Path, pooling: PoolingMode) -> Recipe:
    """The recipe of an encoder without a modules.json, whose pooling somebody else knows."""
    max_tokens, lower_case = _transformer_settings(folder)
    return Recipe(
        kind="transformer",
        folder=folder,
        pooling=(pooling,),
        dense=(),
        max_tokens=max_tokens,
        lower_case=lower_case,
        prompts=_prompts(folder),
        smaller_dimensions=smaller_dimensions(folder),
    )


def smaller_dimensions(folder: Path) -> Sequence[int] | None:
    """The sizes to which vectors may be cut: `matryoshka_dimensions` of config.json, () without; None: any size."""
    path = folder / "config.json"
    if not path.is_file():
        return ()
    fields = Fields(read_json(path), str(path))
    sizes = fields.get("matryoshka_dimensions")
    if sizes is None:
        return None if fields.flag("is_matryoshka") else ()
    if not isinstance(sizes, list) or not all(type(size) is int and size > 0 for size in sizes):
        raise fields.wrong("matryoshka_dimensions", sizes, "a list of sizes")
    return sizes


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """The kind (the last part of the class's name) and folder of each module, in order."""
    path = folder / MODULES
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): download the model again.") from None
    if not isinstance(listed, list) or not listed:
        raise CheckpointError(f"{path} must be a list of modules: download the model again.")
    found = []
    for entry in listed:
        kind, where = (entry.get(key) if isinstance(entry, dict) else None for key in ("type", "path"))
        if not isinstance(kind, str) or not isinstance(where, str):
            raise CheckpointError(f"{path}: {entry!r} has no type or no path: download the model again.")
        # A plain folder below this one: the list must not send us anywhere else on the disk.
        if PurePosixPath(where).is_absolute() or ".." in PurePosixPath(where).parts:
            raise CheckpointError(f"{path}: the path {where!r} leads out of the folder.")
        if not kind.startswith("sentence_transformers."):
            raise CheckpointError(f"{path}: {kind} is code of the repository's own, which ostro never runs.")
        found.append((kind.rpartition(".")[2], folder / where if where else folder))
    return found


def _pooling(folder: Path) -> tuple[PoolingMode, ...]:
    path = folder / "config.json"
    fields = Fields(read_json(path), str(path))
    stated = fields.get("pooling_mode")
    flags = [mode for key, mode in _FLAGS.items() if fields.flag(key)]
    modes: list[Any] = flags if stated is None else stated if isinstance(stated, list) else [stated]
    for mode in modes or ["nothing"]:
        if mode not in POOLING_MODES:
            raise ConfigError(f"{path}: pooling_mode is {mode!r}, and {', '.join(POOLING_MODES)} are known.")
    fields.refuse_unread(("embedding_dimension", "word_embedding_dimension", "include_prompt"))
    return tuple(modes)


def _dense(folder: Path) -> DenseModule:
    path = folder / "config.json"
    fields = Fields(read_json(path), str(path))
    activation = str(fields.require("activation_function")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise ConfigError(f"{path}: activation_function {activation} is not known; only {', '.join(_ACTIVATIONS)} are.")
    for key in ("module_input_name", "module_output_name"):
        fields.allow_only(key, ("sentence_embedding",), "a layer on single tokens would come before the pooling.")
    fields.allow_only("use_residual", (False,), "such a layer has not been met yet.")
    has_bias = fields.flag("bias")
    made = DenseModule(
        folder=folder,
        in_features=fields.integer("in_features"),
        out_features=fields.integer("out_features"),
        has_bias=True if has_bias is None else has_bias,
        activation=_ACTIVATIONS[activation],
    )
    fields.refuse_unread()
    return made


def _plain_normalize(folder: Path) -> None:
    path = folder / "config.json"
    if folder.is_dir() and path.is_file():
        fields = Fields(read_json(path), str(path))
        for key in ("module_input_name", "module_output_name"):
            fields.allow_only(key, ("sentence_embedding",), "single tokens would be normalized.")
        fields.refuse_unread()


def _transformer_settings(folder: Path) -> tuple[int | None, bool]:
    """The limit of tokens that the folder states, and whether texts are lowered first."""
    limits = []
    lower_case = False
    settings = folder / "sentence_bert_config.json"
    if settings.is_file():
        fields = Fields(read_json(settings), str(settings))
        limits.append(fields.optional_integer("max_seq_length"))
        lower_case = bool(fields.flag("do_lower_case"))
        fields.allow_only("transformer_task", ("feature-extraction",), "only hidden states make embeddings.")
        fields.allow_only("module_output_name", ("token_embeddings",), "only hidden states make embeddings.")
        for key in ("query_length", "document_length", "query_expansion", "processing_kwargs"):
            fields.allow_only(key, ({},), "texts would be prepared in another way.")
        fields.refuse_unread(("modality_config", "unpad_inputs", "model_args", "tokenizer_args", "config_args"))
    tokenizer = folder / "tokenizer_config.json"
    if tokenizer.is_file():
        stated = read_json(tokenizer).get("model_max_length")
        # transformers writes 10**30 for "no limit".
        limits.append(int(stated) if isinstance(stated, int | float) and stated < 1e9 else None)
    known = [limit for limit in limits if limit is not None]
    return (min(known) if known else None), lower_case


def _prompts(folder: Path) -> dict[InputType, str]:
    """Prompts by input type: "query", the first of "document", "passage" and "corpus", and the default one for text."""
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return {}
    stated = read_json(path)
    prompts = stated.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise ConfigError(f"{path}: prompts must be an object of texts.")
    default = stated.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ConfigError(f"{path}: default_prompt_name {default!r} is none of {', '.join(prompts) or 'no prompts'}.")
    fallback = prompts.get(default) or ""
    document = next((prompts[name] for name in ("document", "passage", "corpus") if name in prompts), fallback)
    return {"query": prompts.get("query", fallback) or "", "document": document or "", "text": fallback}


def _refuse_hidden_prompts(prompts: dict[InputType, str], modules: list[tuple[str, Path]]) -> dict[InputType, str]:
    """`include_prompt` false keeps a prompt's tokens out of the pooling; without prompts there is nothing to keep."""
    for kind, where in modules:
        path = where / "config.json"
        if kind == "Pooling" and any(prompts.values()) and read_json(path).get("include_prompt") is False:
            raise ConfigError(f"{path}: include_prompt false is not supported for a model with prompts.")
    return prompts


def _cannot(folder: Path, kinds: list[str], what: str) -> CheckpointError:
    return CheckpointError(
        f"{folder / MODULES} lists {', '.join(kinds)}, and {what} cannot be run. What can: Transformer and Pooling, or "
        "StaticEmbedding; behind them Dense, then Normalize."
    )
