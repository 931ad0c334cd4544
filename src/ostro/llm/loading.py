"""From an opened checkpoint to what the engine takes: backend, tokenizer, sizes, and the draft model beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ostro.checkpoint import bundled
from ostro.checkpoint.adapter import WEIGHTS_NAME, Adapter, read_adapter
from ostro.checkpoint.fingerprint import fingerprint, weights_fingerprint
from ostro.checkpoint.open import Checkpoint, num_weights, open_checkpoint
from ostro.config import ModelConfig
from ostro.engine.adapters import AdapterSet
from ostro.engine.config import EngineConfig
from ostro.engine.core import EngineCore
from ostro.engine.draft_model import DraftModel, require_same_vocabulary
from ostro.errors import CheckpointError, ModelNotFoundError, RequestError, TokenizerNotFoundError
from ostro.log import logger
from ostro.models.adapters import adapt_weights
from ostro.models.llama import LlamaWeights
from ostro.models.load import load_weights
from ostro.ops import get_ops
from ostro.ops.base import Ops
from ostro.ops.dtypes import numpy_dtype
from ostro.tokenizer.base import Tokenizer


def find(model: str | Path | None, **options: Any) -> Path:
    """Where a model lies, downloaded if need be; None is the bundled one.

    `options` are those of `ostro.checkpoint.hub.resolve`.
    """
    from ostro.checkpoint.hub import resolve

    if model is None:
        model = bundled.require_bundled_model()
    if not isinstance(model, str | os.PathLike):
        raise ModelNotFoundError(f"A model is a folder, a GGUF file, a hub id or a short name, not {model!r}.")
    return resolve(model, **options)


def make_engine(
    ops: Ops,
    checkpoint: Checkpoint,
    tokenizer: Tokenizer | None,
    engine_config: EngineConfig,
    *,
    draft: Path | None,
    dtype: str,
    kv_dtype: str,
    adapters: Mapping[str, Adapter] | None = None,
) -> EngineCore:
    """An engine with the checkpoint's weights, and with the model at `draft` to write ahead, if there is one.

    `adapters` lie beside the weights, by the names under which requests ask for them.

    `dtype` and `kv_dtype` are those of `LLM`. RequestError where the draft model's vocabulary is another one.
    """
    config, weight_bytes, drafter = checkpoint.config, mapped_bytes(checkpoint, dtype), None
    if draft is not None:
        drafting = open_checkpoint(draft)
        require_same_vocabulary(config, drafting.config, tokenizer, load_tokenizer_of(drafting, draft))
        weight_bytes += mapped_bytes(drafting, dtype)
        kv_bytes = drafting.config.kv_bytes_per_token(kv_dtype_of(drafting, dtype, kv_dtype))
        engine_config = engine_config.fixed(config, weight_bytes, draft_kv_bytes=kv_bytes)
        drafter = _draft_model(ops, drafting, engine_config, dtype, kv_dtype)
    weights = load_weights(ops, config, checkpoint.tensors, dtype=dtype)
    return EngineCore(
        ops,
        config,
        weights,
        tokenizer=tokenizer,
        engine_config=engine_config,
        weight_bytes=weight_bytes,
        fingerprint=f"{fingerprint(checkpoint)} {dtype}" if engine_config.prefix_cache_dir is not None else None,
        draft=drafter,
        adapters=_adapter_set(ops, config, weights, adapters or {}),
    )


def find_adapters(adapters: Mapping[str, str | Path], checkpoint: Checkpoint, source: Path) -> dict[str, Adapter]:
    """The adapters of these folders, proved to fit the checkpoint, which may have been packed from `source`.

    One that was trained over other weights than those of either is told in the log.
    """
    found: dict[str, Adapter] = {}
    for name, folder in adapters.items():
        if not isinstance(name, str) or not name:
            raise RequestError(f"An adapter's name is a text that is not empty, not {name!r}.", param="adapters")
        found[name] = read_adapter(Path(folder).expanduser())
        found[name].check(checkpoint.tensors.shapes, str(checkpoint.folder or checkpoint.files[0]))
    recorded = {name: adapter.base.fingerprint for name, adapter in found.items() if adapter.base is not None}
    own = _fingerprints(checkpoint, source) if recorded else ()
    for name in [name for name, trained_over in recorded.items() if trained_over not in own]:
        logger.warning(
            "adapter %s: it was trained over other weights than these. Where they are the same model, packed or "
            "rounded otherwise, its answers will be about the same; else they will be of no use.",
            name,
        )
    return found


def _fingerprints(checkpoint: Checkpoint, source: Path) -> list[str]:
    checkpoints = [checkpoint]
    if source not in (checkpoint.folder, *checkpoint.files):
        checkpoints.append(open_checkpoint(source))
    return [weights_fingerprint(each) for each in checkpoints]


def tell_loaded(
    engine: EngineCore, ops: Ops, checkpoint: Checkpoint, path: Path, stored: str | None, seconds: float
) -> None:
    """Log what was loaded."""
    sizes = engine.sizes
    logger.info("%s: %s, %s files, weights %s", path, engine.config.family, checkpoint.form, stored or "packed")
    logger.info("backend %s, loaded in %.2f s", ops.name, seconds)
    logger.info("speculation %s", "on" if engine.is_speculating else "off")
    if engine.adapters.digests:
        logger.info("adapters %s", ", ".join(engine.adapters.digests))
    logger.info(
        "K/V cache: %d blocks, %.1f MB, texts of %d tokens",
        sizes.num_blocks, engine.kv_cache_bytes / 1e6, sizes.max_model_len,
    )  # fmt: skip


def _adapter_set(
    ops: Ops, config: ModelConfig, weights: LlamaWeights, adapters: Mapping[str, Adapter]
) -> AdapterSet | None:
    if not adapters:
        return None
    adapted = adapt_weights(ops, config, weights, list(adapters.values()))
    return AdapterSet(adapted, {name: adapter.digest() for name, adapter in adapters.items()})


def _draft_model(
    ops: Ops, checkpoint: Checkpoint, engine_config: EngineConfig, dtype: str, kv_dtype: str
) -> DraftModel:
    assert engine_config.num_blocks is not None
    return DraftModel(
        ops,
        checkpoint.config,
        load_weights(ops, checkpoint.config, checkpoint.tensors, dtype=dtype),
        num_blocks=engine_config.num_blocks,
        block_size=engine_config.block_size,
        kv_dtype=kv_dtype_of(checkpoint, dtype, kv_dtype),
        max_num_batched_tokens=engine_config.max_num_batched_tokens,
    )


def mapped_bytes(checkpoint: Checkpoint, dtype: str) -> int:
    """Bytes of files that stay mapped and will take memory while the model runs."""
    return sum(path.stat().st_size for path in checkpoint.files) if dtype == "auto" else 0


def weight_bytes(
    model: str | Path,
    *,
    draft_model: str | Path | None = None,
    dtype: str = "auto",
    quantize: int | str | None = None,
    backend: str = "auto",
    revision: str | None = None,
    offline: bool = False,
    cache_dir: str | Path | None = None,
    adapters: Mapping[str, str | Path] | None = None,
    **_: Any,
) -> int:
    """About the bytes that `LLM` will need for weights, by its own arguments; headers alone are read.

    A model that is not here is downloaded, and the errors of `LLM` for one that cannot be had or read are raised.
    """
    checkpoint = open_checkpoint(find(model, revision=revision, offline=offline, cache_dir=cache_dir))
    if quantize is not None:
        found = num_weights(checkpoint) * (int(quantize) + 1) // 8  # with scales
    else:
        found = loaded_bytes(checkpoint, dtype, backend)
    if draft_model is not None:
        drafting = open_checkpoint(find(draft_model, offline=offline, cache_dir=cache_dir))
        found += loaded_bytes(drafting, dtype, backend)
    files = [Path(folder).expanduser() / WEIGHTS_NAME for folder in (adapters or {}).values()]
    return found + sum(file.stat().st_size for file in files if file.is_file())


def loaded_bytes(checkpoint: Checkpoint, dtype: str, backend: str) -> int:
    """Bytes of a checkpoint's weights in memory, in the form in which a backend holds them."""
    stored = stored_dtype(checkpoint, dtype)
    if dtype == "auto" and not (backend == "torch" and stored is None):
        return sum(path.stat().st_size for path in checkpoint.files)
    return num_weights(checkpoint) * numpy_dtype(stored or "bfloat16").itemsize


def kv_dtype_of(checkpoint: Checkpoint, dtype: str, kv_dtype: str) -> str:
    """What `kv_dtype` "auto" means: the weights' type, float16 for packed ones."""
    return (stored_dtype(checkpoint, dtype) or "float16") if kv_dtype == "auto" else kv_dtype


def make_ops(backend: str, stored: str | None, **options: Any) -> Ops:
    """The backend with those of the options that are given."""
    if backend == "torch":
        options["dtype"] = stored or "bfloat16"  # there packed weights are unpacked, and this is the smaller type
    return get_ops(backend, **{name: value for name, value in options.items() if value is not None})


def load_tokenizer_of(checkpoint: Checkpoint, path: Path) -> Tokenizer | None:
    """The tokenizer, or None for a folder without one; CheckpointError where it has more tokens than the model."""
    from ostro.tokenizer.load import load_tokenizer

    try:
        if checkpoint.gguf_metadata is not None:
            tokenizer = load_tokenizer(gguf_metadata=checkpoint.gguf_metadata, source=str(path))
        else:
            tokenizer = load_tokenizer(checkpoint.folder)
    except TokenizerNotFoundError:
        return None
    if tokenizer.vocab_size > checkpoint.config.vocab_size:
        raise CheckpointError(
            f"{tokenizer.source} has {tokenizer.vocab_size} tokens, but the model's vocab_size is "
            f"{checkpoint.config.vocab_size}: the tokenizer is of another model. Download both again."
        )
    return tokenizer


def stored_dtype(checkpoint: Checkpoint, dtype: str) -> str | None:
    """The type that matrices will have: the one that is asked for, or the files' own; None for packed ones."""
    if dtype != "auto":
        return numpy_dtype(dtype).name
    embeddings = checkpoint.tensors["model.embed_tokens.weight"]
    return str(embeddings.dtype.name) if isinstance(embeddings, np.ndarray) else None
