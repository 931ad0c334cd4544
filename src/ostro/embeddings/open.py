"""From a name to an embedder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ostro.checkpoint.folder import read_weights
from ostro.checkpoint.hub import resolve
from ostro.checkpoint.safetensors import SafetensorsFile
from ostro.checkpoint.text import read_json
from ostro.config.encoder import FAMILIES, encoder_from_hf
from ostro.embeddings import default
from ostro.embeddings.base import INPUT_TYPES, InputType, TextEmbedder
from ostro.embeddings.encoder import EncoderEmbedder, Projection
from ostro.embeddings.folder import (
    MODULES,
    POOLING_MODES,
    DenseModule,
    PoolingMode,
    Recipe,
    bare_recipe,
    is_sentence_transformers,
    read_recipe,
)
from ostro.embeddings.known import published_prompts
from ostro.embeddings.static import StaticEmbedder
from ostro.embeddings.tokens import EncoderTokenizer
from ostro.errors import CheckpointError, RequestError
from ostro.models.load_encoder import load_encoder
from ostro.ops import get_ops
from ostro.ops.base import Ops

_STATIC_TENSORS = ("embedding.weight", "embeddings")
"""sentence-transformers' name of the table, and model2vec's."""


def is_embedding_model(path: Path) -> bool:
    """Whether a folder holds an embedding model, and not one that generates."""
    if not path.is_dir():
        return False
    if is_sentence_transformers(path):
        return True
    config = path / "config.json"
    return config.is_file() and read_json(config).get("model_type") in FAMILIES


def open_embedder(
    name: str | os.PathLike[str] | None = None,
    *,
    pooling: PoolingMode | None = None,
    prompts: Mapping[InputType, str] | None = None,
    matryoshka_dimensions: Sequence[int] | None = None,
    backend: str = "auto",
    num_threads: int | None = None,
    device: str | None = None,
    revision: str | None = None,
    offline: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> TextEmbedder:
    """The embedder called `name`: a folder or hub id of an embedding model, or "wordllama", the small default (None).

    A sentence-transformers folder says itself how it pools, what it puts in front of queries and documents and to
    which sizes its vectors may be cut; `prompts` (by input type) and `matryoshka_dimensions` say it where the folder
    does not, in the words of the model's card. `pooling` is for the folder of a bare encoder alone.
    `backend`, `num_threads`, `device`, `revision`, `offline` and `cache_dir` are those of `ostro.LLM`.

    A model that generates has hidden states to pool: `PooledEmbedder(LLM(name))`.

    Raises ModelNotFoundError, CheckpointError, ConfigError, TokenizerError, BackendError or RequestError, and
    MissingExtraError where the default is not installed.
    """
    if name is None or name == default.NAME:
        _refuse_options(
            default.NAME,
            pooling=pooling,
            prompts=prompts,
            matryoshka_dimensions=matryoshka_dimensions,
            backend=None if backend == "auto" else backend,
            num_threads=num_threads,
            device=device,
            revision=revision,
        )
        return default.open_default()
    path = resolve(name, revision=revision, offline=offline, cache_dir=cache_dir)
    recipe = _recipe(path, str(name), pooling)
    given = _checked_prompts(prompts)
    recipe = replace(
        recipe,
        prompts=recipe.prompts | given if any(recipe.prompts.values()) else published_prompts(str(name)) | given,
        smaller_dimensions=recipe.smaller_dimensions if matryoshka_dimensions is None else matryoshka_dimensions,
    )
    if recipe.kind == "static":
        backend_asked = None if backend == "auto" else backend
        _refuse_options(str(name), backend=backend_asked, num_threads=num_threads, device=device)
        return _static(str(name), recipe)
    options = {"num_threads": num_threads, "device": device}
    return _encoder(str(name), recipe, get_ops(backend, **{k: v for k, v in options.items() if v is not None}))


def _recipe(path: Path, name: str, pooling: PoolingMode | None) -> Recipe:
    if not is_embedding_model(path):
        raise RequestError(
            f"{name} is no embedding model: it has neither a {MODULES} nor the config.json of an encoder. If it is a "
            "model that generates, PooledEmbedder(LLM(...)) pools its hidden states, as `ostro embed` does.",
            param="model",
        )
    if pooling is not None and pooling not in POOLING_MODES:
        raise RequestError(f"pooling must be one of {', '.join(POOLING_MODES)}, not {pooling!r}.", param="pooling")
    if is_sentence_transformers(path):
        _refuse_options(name, pooling=pooling)
        return read_recipe(path)
    if pooling is None:
        raise RequestError(
            f"{name} is an encoder without a {MODULES}, so nothing says how its hidden states become a vector: choose "
            f"a pooling ({', '.join(POOLING_MODES)}) as the model's card has it, mostly mean or cls.",
            param="pooling",
        )
    return bare_recipe(path, pooling)


def _encoder(name: str, recipe: Recipe, ops: Ops) -> EncoderEmbedder:
    config_file = recipe.folder / "config.json"
    config = encoder_from_hf(read_json(config_file), source=str(config_file))
    holder = read_weights(recipe.folder).holder
    weights = load_encoder(
        ops, config, list(holder), lambda tensor: holder[tensor].tensor(tensor), source=str(recipe.folder)
    )
    width = config.hidden_size * len(recipe.pooling)
    tokenizer = EncoderTokenizer(recipe.folder / "tokenizer.json", lower_case=recipe.lower_case)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{recipe.folder}: tokenizer.json has {tokenizer.vocab_size} tokens, but the model's vocab_size is "
            f"{config.vocab_size}: the two are not of one model. Download both again."
        )
    return EncoderEmbedder(
        name,
        ops,
        config,
        weights,
        tokenizer,
        pooling=recipe.pooling,
        projections=_projections(ops, recipe.dense, width),
        max_tokens=recipe.max_tokens,
        prompts=recipe.prompts,
        smaller_dimensions=recipe.smaller_dimensions,
    )


def _projections(ops: Ops, modules: Sequence[DenseModule], width: int) -> list[Projection]:
    made = []
    for module in modules:
        if module.in_features != width:
            raise CheckpointError(
                f"{module.folder} does not fit: it takes {module.in_features} numbers (in_features), and the module "
                f"before it gives {width}."
            )
        file = SafetensorsFile(module.folder / "model.safetensors")
        shapes: dict[str, tuple[int, ...]] = {"linear.weight": (module.out_features, width)}
        if module.has_bias:
            shapes["linear.bias"] = (module.out_features,)
        found = {tensor: info.shape for tensor, info in file.infos.items()}
        if found != shapes:
            raise CheckpointError(f"{file.path} does not fit its config.json: it has {found}, and {shapes} is needed.")
        bias = np.asarray(file.tensor("linear.bias"), np.float32) if module.has_bias else None
        weight = ops.weight(file.tensor("linear.weight"))
        made.append(Projection(weight, bias, module.out_features, module.activation == "tanh"))
        width = module.out_features
    return made


def _static(name: str, recipe: Recipe) -> StaticEmbedder:
    if recipe.dense:
        raise CheckpointError(f"{recipe.folder}: a Dense module behind StaticEmbedding is not supported.")
    file = SafetensorsFile(recipe.folder / "model.safetensors")
    tensor = next((tensor for tensor in _STATIC_TENSORS if tensor in file.infos), None)
    if tensor is None or len(file.infos) > 1 or len(file.infos[tensor].shape) != 2:
        raise CheckpointError(
            f"{file.path} has the tensors {', '.join(file.infos)}; a static embedding has one table, called "
            f"{' or '.join(_STATIC_TENSORS)}."
        )
    table = file.tensor(tensor)
    tokenizer = EncoderTokenizer(recipe.folder / "tokenizer.json")
    if tokenizer.vocab_size > len(table):
        raise CheckpointError(
            f"{recipe.folder}: tokenizer.json has {tokenizer.vocab_size} tokens, but the table {len(table)} rows: the "
            "two are not of one model."
        )
    sizes = recipe.smaller_dimensions
    smaller = range(1, table.shape[1]) if sizes is None else sizes
    return StaticEmbedder(name, table, tokenizer, prompts=recipe.prompts, smaller_dimensions=smaller)


def _checked_prompts(prompts: Mapping[InputType, str] | None) -> dict[InputType, str]:
    for input_type, text in (prompts or {}).items():
        if input_type not in INPUT_TYPES or not isinstance(text, str):
            raise RequestError(
                f"prompts must give a text for {', '.join(INPUT_TYPES)}, not {text!r} for {input_type!r}.",
                param="prompts",
            )
    return dict(prompts or {})


def _refuse_options(name: str, **options: object) -> None:
    """RequestError for an option that is given and that this embedder does not have."""
    for option, value in options.items():
        if value is not None:
            raise RequestError(f"{option} cannot be chosen for {name}: leave it out.", param=option)
