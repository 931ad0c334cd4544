"""What is measured: a shape with random weights, or a model from its files, loaded into a backend."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ostro.bench.runs import Plan
from ostro.bench.shapes import cut, find_shape
from ostro.bench.weights import BITS, check_precision, planned_bytes, random_weights
from ostro.checkpoint.open import open_checkpoint
from ostro.checkpoint.tensors import Tensor
from ostro.config import ModelConfig
from ostro.engine import EngineConfig, EngineCore
from ostro.errors import RequestError
from ostro.log import logger
from ostro.machine import available_memory
from ostro.models.llama import LlamaWeights
from ostro.models.load import load_weights
from ostro.ops import get_ops
from ostro.ops.base import Ops

_WORKING_MEMORY = 300_000_000
"""Bytes beside weights and K/V that a run takes at most: activations of a step, scores over the vocabulary, Python."""


Tell = Callable[[str], None]
"""Hears in a few words what is done next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How it is run; the arguments are those of `ostro.LLM`."""

    backend: str = "auto"
    num_threads: int | None = None
    device: str | None = None
    kv_dtype: str = "auto"

    def ops(self, dtype: str | None) -> Ops:
        """The backend; `dtype` is that of the weights, None for packed ones, which torch unpacks to bfloat16."""
        options = {"num_threads": self.num_threads, "device": self.device}
        if self.backend == "torch":
            options["dtype"] = dtype or "bfloat16"
        return get_ops(self.backend, **{name: value for name, value in options.items() if value is not None})

    def kv(self, dtype: str | None) -> str:
        """The type of the K/V cache: by default the weights', float16 for packed ones."""
        return (dtype or "float16") if self.kv_dtype == "auto" else self.kv_dtype


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A model that is ready to run. `bits` is None for a model from files, `codebook` for anything but 4 bits.

    `plan` is the one to measure, within the model's context. `seconds` is how long it took to get it ready: to make
    the weights of a shape, to load those of a model.
    """

    name: str
    plan: Plan
    config: ModelConfig
    num_layers_of_model: int
    bits: int | None
    codebook: str | None
    ops: Ops
    weights: LlamaWeights
    engine: EngineCore
    kv_dtype: str
    seconds: float


def from_shape(
    shape: str | ModelConfig,
    plan: Plan,
    machine: Machine,
    *,
    num_layers: int | None = None,
    bits: int = 4,
    codebook: str | None = None,
    tell: Tell,
) -> Subject:
    """Random weights of a shape; RequestError, with the numbers, where they do not fit into memory."""
    check_precision(bits, codebook)
    name = shape if isinstance(shape, str) else "custom"
    whole = find_shape(shape) if isinstance(shape, str) else shape
    config = cut(whole, num_layers, name)
    dtype = "bfloat16" if bits == 16 else None
    ops, kv_dtype = machine.ops(dtype), machine.kv(dtype)
    plan = _fitting(plan, config, name)
    engine_config = plan.engine_config(kv_dtype, config.max_window)
    _check_memory(name, whole, config, bits, _kv_bytes(config, engine_config))
    tell(f"Making {planned_bytes(config, bits) / 1e9:.2f} GB of random weights")
    start = time.perf_counter()
    tensors = random_weights(config, bits, codebook, num_threads=getattr(ops, "num_threads", 1))
    weights = load_weights(ops, config, tensors)
    engine = EngineCore(ops, config, weights, engine_config=engine_config)
    seconds = time.perf_counter() - start
    codebook = codebook or ("int4" if bits == 4 else None)
    layers = whole.num_hidden_layers
    return Subject(name, plan, config, layers, bits, codebook, ops, weights, engine, kv_dtype, seconds)


def from_model(path: Path, plan: Plan, machine: Machine, *, name: str | None = None, tell: Tell) -> Subject:
    """A model from its folder or GGUF file, as `LLM` loads it."""
    tell("Loading the model")
    start = time.perf_counter()
    checkpoint = open_checkpoint(path)
    config, name = checkpoint.config, name or path.name
    dtype = _stored_dtype(checkpoint.tensors["model.embed_tokens.weight"])
    ops, kv_dtype = machine.ops(dtype), machine.kv(dtype)
    plan = _fitting(plan, config, name)
    engine_config = plan.engine_config(kv_dtype, config.max_window)
    _warn_of_disk(name, sum(file.stat().st_size for file in checkpoint.files))
    weights = load_weights(ops, config, checkpoint.tensors)
    engine = EngineCore(ops, config, weights, engine_config=engine_config)
    seconds = time.perf_counter() - start
    return Subject(name, plan, config, config.num_hidden_layers, None, None, ops, weights, engine, kv_dtype, seconds)


def _stored_dtype(embeddings: Tensor) -> str | None:
    """The type of the weights as they are stored; None for packed ones."""
    return str(embeddings.dtype.name) if isinstance(embeddings, np.ndarray) else None


def _fitting(plan: Plan, config: ModelConfig, name: str) -> Plan:
    """The plan within the model's context; RequestError, with what would fit, where what was asked for does not."""
    context = config.max_position_embeddings
    if config.max_window is not None:
        return plan
    plan = plan.within(context)
    remedies: list[str] = []
    if plan.prefill and max(plan.prefill) >= context:
        remedies.append(f"prefill={context - 1} or less")
    most = plan.largest_context(context)
    if plan.batch and most < plan.context:
        remedies.append(f"context={most} or less" if most else "batch=none, for which it is too short")
    if remedies:
        raise RequestError(
            f"A text of {plan.longest} tokens (prompt and answer) does not fit into the context of {name}, {context} "
            f"tokens: give {' and '.join(remedies)}.",
            param="prefill",
        )
    return plan


def _kv_bytes(config: ModelConfig, engine_config: EngineConfig) -> int:
    assert engine_config.num_blocks is not None
    tokens = engine_config.num_blocks * engine_config.block_size
    return config.kv_bytes_per_token(engine_config.kv_dtype) * tokens


def _check_memory(name: str, whole: ModelConfig, config: ModelConfig, bits: int, kv_bytes: int) -> None:
    """RequestError if the shape does not fit, with the largest number of layers that does."""
    available = available_memory()

    def needed(num_layers: int, bits: int = bits) -> float:
        share = num_layers / config.num_hidden_layers
        return planned_bytes(cut(whole, num_layers, name), bits) + kv_bytes * share + _WORKING_MEMORY

    layers = config.num_hidden_layers
    if needed(layers) <= available:
        return
    fitting = next((count for count in range(layers - 1, 0, -1) if needed(count) <= available), 0)
    remedies = [f"layers={fitting} or less"] if fitting else []
    remedies += [f"bits={fewer}" for fewer in BITS if fewer < bits and needed(layers, fewer) <= available]
    remedy = "give " + (", or ".join(remedies) or "a smaller shape")
    weights, room = planned_bytes(config, bits) / 1e9, available / 1e9
    raise RequestError(
        f"{name} with {layers} layers at {bits} bits takes {weights:.1f} GB for weights, {kv_bytes / 1e9:.1f} GB for "
        f"K/V and {_WORKING_MEMORY / 1e9:.1f} GB to work with, but {room:.1f} GB of memory are available: {remedy}.",
        param="layers",
    )


def _warn_of_disk(name: str, num_bytes: int) -> None:
    available = available_memory()
    if num_bytes > available:
        logger.warning(
            "The files of %s have %.1f GB, but %.1f GB of memory are available: what is measured may be the disk.",
            name, num_bytes / 1e9, available / 1e9,
        )  # fmt: skip
