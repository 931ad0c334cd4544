"""Packed weights from any tensor of a checkpoint: through the C++ kernels where they are built, else in NumPy.

Both ways give the same bytes; `ostro.checkpoint.packing` defines them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ostro.checkpoint import packing
from ostro.checkpoint.packed import INT4, PACKINGS, PANEL, PackedTensor
from ostro.checkpoint.tensors import QuantizedTensor, Tensor
from ostro.ops import native_error

_AT_ONCE = 1 << 22  # weights of a packed matrix that are widened to float32 together


def pack(
    tensor: Tensor, kind: str = "P4", codebook: Sequence[int] = INT4, *, num_threads: int | None = None
) -> PackedTensor:
    """A matrix (N, K) rounded to `kind`: "P4" or "P4G" with an ascending `codebook` of 16 values, or "P8".

    A matrix that is packed already, or one of GGUF blocks, is widened piece by piece and rounded anew; `repack` keeps
    the values of blocks. Raises CheckpointError where a weight is not finite or larger than float16 holds.

    >>> packed = pack(np.eye(16, 64, dtype=np.float32), "P8")
    >>> packed.kind, packed.shape, packed.nbytes
    ('P8', (16, 64), 1088)
    """
    if isinstance(tensor, np.ndarray):
        if native_error() is None:
            from ostro.ops.cpu import pack_native

            return pack_native(tensor, kind, codebook, num_threads)
        return packing.quantize(tensor, kind, codebook)
    N, K = tensor.shape
    levels = tuple(codebook) if PACKINGS[kind].bits == 4 else ()
    out = PackedTensor.empty(kind, (N, K), levels)
    step = max(1, _AT_ONCE // (PANEL * K))  # in panels
    for first in range(0, len(out.codes), step):
        rows = np.arange(PANEL * first, min(N, PANEL * (first + step)))
        part = pack(tensor.row_values(rows), kind, codebook, num_threads=num_threads)
        out.codes[first : first + step], out.scales[first : first + step] = part.codes, part.scales
    return out


def repack(tensor: QuantizedTensor, *, num_threads: int | None = None) -> PackedTensor | None:
    """GGUF blocks in the packed layout that holds their values bit for bit; None where there is none.

    There is none for Q2_K, and for a Q8_0 matrix with a weight of -128 times its scale, which ggml does not write.
    """
    if native_error() is None:
        from ostro.ops.cpu import repack_native

        return repack_native(tensor, num_threads)
    return packing.repack(tensor)
