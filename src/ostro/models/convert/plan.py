"""What becomes of every tensor of a checkpoint, decided before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ostro.checkpoint.open import Checkpoint
from ostro.checkpoint.packed import CODEBOOKS, INT4, PACKINGS, PackedTensor
from ostro.checkpoint.packed_folder import is_router
from ostro.checkpoint.packing import HEAD_KINDS, LAYER_KINDS
from ostro.checkpoint.safetensors_writer import Slot, slot_of
from ostro.checkpoint.tensors import QuantizedTensor, Tensor
from ostro.config import ModelConfig, Quantization
from ostro.ops.packing import pack, repack

Made = Literal["quantized", "exact", "requantized"]
"""From floats; GGUF blocks in another order, value for value; from the values of GGUF blocks, rounded once more."""

_SLAB = 1 << 22  # weights that are packed at once: 16 MB as float32
_PROBE = 16  # rows that show which layout holds a tensor of GGUF blocks exactly


@dataclass(frozen=True, slots=True)
class Layout:
    """How a matrix is packed."""

    kind: str
    codebook: tuple[int, ...]
    made: Made

    def slots(self, name: str, shape: tuple[int, int]) -> dict[str, Slot]:
        """The stored tensors of the matrix `name`."""
        packing = PACKINGS[self.kind]
        return {
            f"{name}.codes": Slot("U8", packing.codes_shape(*shape)),
            f"{name}.scales": Slot("U8", packing.scales_shape(*shape)),
        }

    def entry(self, shape: tuple[int, int]) -> dict[str, Any]:
        """What `packed.json` says of the matrix."""
        rows, cols = shape
        stated: dict[str, Any] = {"kind": self.kind, "rows": rows, "cols": cols, "made": self.made}
        return stated | ({"codebook": list(self.codebook)} if self.codebook else {})


@dataclass(frozen=True, slots=True)
class Shard:
    """A file to be written: `slots` are the tensors that it stores, `layouts` the packed matrices by their HF names."""

    file: str
    tensors: tuple[str, ...]
    slots: dict[str, Slot]
    layouts: dict[str, Layout]

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(slot.nbytes for slot in self.slots.values())


def plan_shards(checkpoint: Checkpoint, quantization: Quantization) -> list[Shard]:
    """The files of the packed folder: embeddings, last norm and head in the first, then one for each layer.

    Of floats nothing is read but their types; of GGUF blocks the first rows.
    """
    names = list(checkpoint.tensors)
    layers = [f"model.layers.{index}." for index in range(checkpoint.config.num_hidden_layers)]
    around = tuple(name for name in names if not name.startswith("model.layers."))
    groups = [around, *(tuple(name for name in names if name.startswith(layer)) for layer in layers)]
    count = len(groups)
    return [
        _shard(checkpoint, quantization, f"model-{number:05}-of-{count:05}.safetensors", group)
        for number, group in enumerate(groups, start=1)
    ]


def _shard(checkpoint: Checkpoint, quantization: Quantization, file: str, names: tuple[str, ...]) -> Shard:
    slots: dict[str, Slot] = {}
    layouts: dict[str, Layout] = {}
    for name in names:
        target = target_kind(name, checkpoint.config, quantization.bits)
        tensor = checkpoint.tensors[name]
        if target is None:
            slots[name] = slot_of(as_floats(tensor))
        else:
            rows, cols = tensor.shape
            layouts[name] = layout_of(tensor, target, quantization)
            slots |= layouts[name].slots(name, (rows, cols))
    return Shard(file, names, slots, layouts)


def target_kind(name: str, config: ModelConfig, bits: int) -> str | None:
    """The layout for floats, or None for a tensor that stays as it is: a norm, a router."""
    if "norm" in name or is_router(name):
        return None
    is_head = name == "lm_head.weight" or (name == "model.embed_tokens.weight" and config.tie_word_embeddings)
    return (HEAD_KINDS if is_head else LAYER_KINDS)[bits]


def layout_of(tensor: Tensor, target: str, quantization: Quantization) -> Layout:
    """The layout of a matrix. GGUF blocks keep their values where those fit into as many bits as `target` has."""
    codebook = CODEBOOKS[quantization.codebook or "int4"] if PACKINGS[target].bits == 4 else ()
    if not isinstance(tensor, QuantizedTensor):
        return Layout(target, codebook, "quantized")
    exact = repack(tensor.rows(slice(0, _PROBE)))
    if exact is not None and exact.packing.bits <= PACKINGS[target].bits:
        return Layout(exact.kind, exact.codebook, "exact")
    return Layout(target, codebook, "requantized")


def slabs(shape: tuple[int, ...], size: int | None = None) -> Iterator[slice]:
    """Rows of a matrix, about `size` weights at a time (some megabytes unless it is given), whole panels of them."""
    rows, cols = shape
    step = max(1, (size or _SLAB) // cols // 16) * 16
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def pack_rows(tensor: Tensor, rows: slice, layout: Layout, num_threads: int | None) -> tuple[PackedTensor, bool]:
    """Some rows in a layout, and whether all their values are kept where that was intended."""
    part = tensor.rows(rows) if isinstance(tensor, QuantizedTensor) else _array(tensor)[rows]
    if layout.made == "exact" and isinstance(part, QuantizedTensor):
        packed = repack(part, num_threads=num_threads)
        if packed is not None:
            return packed, True
        return pack(part, layout.kind, num_threads=num_threads), False  # a Q8_0 with a -128 further down
    return pack(part, layout.kind, layout.codebook or INT4, num_threads=num_threads), True


def as_floats(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A tensor that is not to be packed: an array as it is, blocks of a GGUF's router as the float32 they mean."""
    return tensor if isinstance(tensor, np.ndarray) else tensor.dequantize()


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    assert isinstance(tensor, np.ndarray)
    return tensor
