"""Random data for tests of ops: activations, weights of every stored type, and the backends with every kernel set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ostro.checkpoint.gguf_blocks import BLOCKS
from ostro.checkpoint.tensors import QuantizedTensor, Tensor
from ostro.ops import BACKENDS, get_ops
from ostro.ops.base import Ops
from ostro.ops.cpu import cpu_features
from ostro.ops.dtypes import DTYPES, numpy_dtype

# IQ4_NL is left out: the cpu backend takes it repacked alone (test_ops_packing.py).
PACKED = tuple(kind for kind in BLOCKS if BLOCKS[kind].block_size > 1 and kind != "IQ4_NL")
KINDS = (*DTYPES, *PACKED)
# Where the float16 scales of a block lie.
SCALES = {
    "Q4_1": (0, 2),
    "Q5_1": (0, 2),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}

ISAS = tuple(cpu_features()["usable"])
TESTED = (*(f"cpu-{isa}" for isa in ISAS), *(name for name in BACKENDS if name not in ("reference", "cpu")))
"""Every backend but the reference; the cpu backend once for each kernel set that runs here."""


def backend_called(name: str, monkeypatch: pytest.MonkeyPatch) -> Ops:
    """The backend of one name in TESTED, on the CPU."""
    backend, _, isa = name.partition("-")
    if isa:
        monkeypatch.setenv("OSTRO_ISA", isa)
        return get_ops(backend, num_threads=2)
    return get_ops(backend, device="cpu")


def give(ops: Ops, x: npt.NDArray[Any]) -> Any:
    """x as an array of the backend's own; a copy, for some ops work in place."""
    if ops.name != "torch":
        return x.copy()
    import torch

    return torch.from_numpy(x.copy())


def floats(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=np.float32)


def stored(rng: np.random.Generator, kind: str, rows: int, cols: int) -> Tensor:
    """A random weight of about unit size as a checkpoint would hold it; packed blocks are random bits."""
    if kind in DTYPES:
        return floats(rng, rows, cols).astype(numpy_dtype(kind))
    block = BLOCKS[kind]
    blocks = rng.integers(0, 256, (rows, cols // block.block_size, block.block_bytes), dtype=np.uint8)
    for at in SCALES.get(kind, (0,)):
        scale = (rng.uniform(-1, 1, blocks.shape[:2]) / 2**8).astype(np.float16)
        blocks[:, :, at : at + 2] = scale[:, :, None].view(np.uint8)
    return QuantizedTensor(kind, (rows, cols), blocks.reshape(rows, -1), block.decode)


def odd_columns(kind: str) -> tuple[int, ...]:
    """Numbers of columns that a type can have, awkward ones first."""
    if kind in DTYPES:
        return (1, 15, 33, 130, 777)
    size = BLOCKS[kind].block_size
    return (size, 5 * size)


def assert_close(ours: Any, theirs: npt.NDArray[np.float32], tolerance: float = 3e-6) -> None:
    """Within `tolerance` of the largest value."""
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def same_bits(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> bool:
    """Whether two arrays are the same down to the last bit."""
    return a.shape == b.shape and np.array_equal(a.view(np.uint32), b.view(np.uint32))
