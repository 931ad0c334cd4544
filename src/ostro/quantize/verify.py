"""Every tensor of a packed folder, unpacked once more and compared with the one that it was made from.

A group of 32 weights whose largest magnitude is m is rounded to the levels of its codebook, scaled to m. No weight then
lies further from its level than `worst_step` times m, so the error of the group is at most sqrt(32) * worst_step * m,
if a scale was chosen for it that is no worse than the plainest, give or take a twentieth. Where scales are whole
multiples of one for 256 columns, at most 127 times it, half of that is added. An error that is larger was not made by
this format. Weights that come from GGUF blocks in their exact form must be the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ostro.checkpoint.open import Checkpoint
from ostro.checkpoint.packed import GROUP, PANEL, PackedTensor
from ostro.checkpoint.packed_folder import MANIFEST, how_to_mend
from ostro.checkpoint.tensors import Tensor
from ostro.checkpoint.text import read_json
from ostro.errors import CheckpointError, DamagedError
from ostro.models.convert.plan import slabs
from ostro.models.convert.state import checksum

Float32 = npt.NDArray[np.float32]

_HALF = 2.0**-11  # relative error of a scale that is rounded to float16
_TINY = 2.0**-25  # absolute error of one that is subnormal there
_PIECE = 1 << 18  # weights that are compared at once: few enough for the caches
_PIECES_KEPT = 32  # pieces whose pages of the files stay in memory


@dataclass(frozen=True, slots=True)
class Fidelity:
    """What became of a tensor: how it was `made` (None: it is as it was), and the squares of its errors and values."""

    made: str | None
    squared_error: float
    squared_values: float
    nbytes: int
    num_weights: int

    @property
    def relative_error(self) -> float:
        """Root of the sum of squared errors over that of squared values."""
        return math.sqrt(self.squared_error / self.squared_values) if self.squared_values else 0.0


def verify(
    source: Checkpoint, packed: Checkpoint, tell: Callable[[int, str], None], *, num_threads: int = 1
) -> dict[str, Fidelity]:
    """Compare the folder `packed` with `source`; `tell` hears of weights done and their tensor.

    Raises CheckpointError, naming file or tensor, for a file that is not as it was written, and for a weight that is
    further from the source's than its format explains.
    """
    assert packed.folder is not None
    manifest = read_json(packed.folder / MANIFEST)
    _check_files(packed.folder, manifest["files"])
    entries: dict[str, dict[str, str]] = manifest["tensors"]  # type: ignore[assignment]
    found: dict[str, Fidelity] = {}
    with ThreadPoolExecutor(num_threads) as pool:
        for name in packed.tensors:
            made = entries[name]["made"] if name in entries else None
            found[name] = _compare(name, source, packed, made, tell, pool)
    return found


def _check_files(folder: Path, stated: object) -> None:
    assert isinstance(stated, dict)
    for name, file in stated.items():
        if checksum(folder / name) != file["blake2b"]:
            raise DamagedError(
                f"{folder / name} is not as it was written: the disk or another program changed it",
                how_to_mend(folder),
            )


def _compare(
    name: str,
    source: Checkpoint,
    packed: Checkpoint,
    made: str | None,
    tell: Callable[[int, str], None],
    pool: ThreadPoolExecutor,
) -> Fidelity:
    before, after = source.tensors[name], packed.tensors[name]
    error = values = 0.0
    pieces = list(slabs(before.shape, _PIECE)) if len(before.shape) == 2 else [slice(0, before.shape[0])]
    measured = pool.map(lambda rows: _measure(before, after, rows, made), pieces)
    for number, (rows, (wrong, squared_error, squared_values)) in enumerate(zip(pieces, measured, strict=True)):
        if wrong or not math.isfinite(squared_error):
            raise CheckpointError(
                f"{packed.folder}: tensor {name}, rows {rows.start} to {rows.stop}: {wrong} of its weights or groups "
                "are further from the source's than the format explains. Delete the folder and quantize the model "
                "again."
            )
        error += squared_error
        values += squared_values
        if number % _PIECES_KEPT == _PIECES_KEPT - 1 or number == len(pieces) - 1:
            source.drop_pages()
            packed.drop_pages()
        tell(before.shape[-1] * (rows.stop - rows.start) if len(before.shape) == 2 else rows.stop, name)
    return Fidelity(made, error, values, after.nbytes, math.prod(before.shape))


def _measure(before: Tensor, after: Tensor, rows: slice, made: str | None) -> tuple[int, float, float]:
    """Weights or groups that are wrong, and the squares of errors and values of some rows."""
    old, new = _rows(before, rows), _rows(after, rows)
    difference = new - old
    errors = _squares(difference)
    if made is None or made == "exact":
        wrong = int(np.count_nonzero(difference))
    else:
        assert isinstance(after, PackedTensor)
        wrong = _too_far(old, errors, after)
    return wrong, float(errors.sum(dtype=np.float64)), float(_squares(old).sum(dtype=np.float64))


def worst_step(tensor: PackedTensor) -> float:
    """Largest distance of a number in -1 .. 1 from the levels of a packed tensor, scaled to reach 1 at one end.

    >>> from ostro.checkpoint.packed import INT4, PACKINGS, PackedTensor
    >>> shapes = PACKINGS["P4"].codes_shape(16, 32), PACKINGS["P4"].scales_shape(16, 32)
    >>> worst_step(PackedTensor("P4", (16, 32), *(np.zeros(shape, np.uint8) for shape in shapes), INT4))
    0.125
    """
    codes = {6: range(-32, 32), 8: range(-127, 128)}
    levels = np.sort(np.asarray(tensor.codebook or codes[tensor.packing.bits], np.float64))
    levels /= np.abs(levels).max()
    return float(max(np.diff(levels).max() / 2, 1 - levels[-1], levels[0] + 1))


def _too_far(old: Float32, errors: Float32, packed: PackedTensor) -> int:
    """Groups whose squared error is larger than any sensible choice of scale explains."""
    groups = _grouped(old)
    largest = np.maximum(groups.max(axis=2), -groups.min(axis=2)).astype(np.float64)
    allowed = (worst_step(packed) + _HALF) * largest + 127 * _TINY
    if packed.packing.scale_columns > GROUP:
        count = packed.packing.scale_columns // GROUP
        shared = np.maximum.reduceat(largest, np.arange(0, largest.shape[1], count), axis=1)
        allowed += 0.5 / 127 * shared.repeat(count, axis=1)[:, : largest.shape[1]]
    return int(np.count_nonzero(~(errors <= GROUP * (1.05 * allowed) ** 2)))


def _squares(values: Float32) -> Float32:
    """Sum of the squares of every group: (rows, groups)."""
    groups = _grouped(values)
    sums: Float32 = np.einsum("rgc,rgc->rg", groups, groups)
    return sums


def _grouped(values: Float32) -> Float32:
    """(rows, columns) or (columns,) as (rows, groups, 32), filled up with zeros."""
    rows = values.reshape(-1, values.shape[-1])
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % GROUP))) if rows.shape[1] % GROUP else rows
    return padded.reshape(len(rows), -1, GROUP)


def _rows(tensor: Tensor, rows: slice) -> Float32:
    if isinstance(tensor, PackedTensor):
        first = rows.start // PANEL
        return tensor.panels(np.arange(first, -(-rows.stop // PANEL)))[: rows.stop - rows.start]
    if isinstance(tensor, np.ndarray):
        wide: Float32 = tensor[rows].astype(np.float32)
        return wide
    return tensor.rows(rows).dequantize()
