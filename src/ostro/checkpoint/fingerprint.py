"""A fingerprint of a checkpoint's weights, so that what was computed with them is not taken for another model's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ostro.checkpoint.open import Checkpoint

_HEAD = 1 << 16
_SAMPLE = 1 << 12
_NUM_SAMPLES = 16
_NUM_ROWS = 4
_NUM_COLUMNS = 64


def fingerprint(checkpoint: Checkpoint) -> str:
    """A digest of every file's name, size, time of change, beginning, and sixteen places in it.

    Reading all of a model takes as long as loading it. A file that was changed has another time of change, and one that
    was replaced by another model has other bytes wherever one looks: both together are as good in practice.
    """
    digest = hashlib.sha256()
    for path in sorted(checkpoint.files):
        status = path.stat()
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}".encode())
        _add_samples(digest, path, status.st_size)
    return digest.hexdigest()[:32]


def _add_samples(digest: hashlib._Hash, path: Path, size: int) -> None:
    with path.open("rb", buffering=0) as file:
        digest.update(file.read(_HEAD))
        for number in range(_NUM_SAMPLES):
            file.seek(size * number // _NUM_SAMPLES)
            digest.update(file.read(_SAMPLE))


def weights_fingerprint(checkpoint: Checkpoint) -> str:
    """A digest of the decoder's weights alone: the same for every folder, sharding and float type with these numbers.

    It is made from every tensor's name and shape, and from numbers at four places of it; another training run, or
    another rounding, has others there. For what must outlast a copy of the model: an adapter knows its base by it.
    Output heads are left out, since a classifier and a language model may stand on one base.
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in checkpoint.tensors if name.startswith("model.")):
        tensor = checkpoint.tensors[name]
        digest.update(f"{name} {tensor.shape}".encode())
        rows = np.unique(np.linspace(0, tensor.shape[0] - 1, _NUM_ROWS, dtype=np.int64))
        values = tensor[rows] if isinstance(tensor, np.ndarray) else tensor.row_values(rows)
        digest.update(np.ascontiguousarray(values.reshape(len(rows), -1)[:, :_NUM_COLUMNS], dtype="<f4").tobytes())
    return digest.hexdigest()[:32]
