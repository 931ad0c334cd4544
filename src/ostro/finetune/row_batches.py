"""`Rows` of NumPy arrays as the batches of tensors that the objectives take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from ostro.finetune.classification import LabelBatch
from ostro.finetune.objective import Batch
from ostro.finetune.packing import Rows
from ostro.finetune.preference import PreferenceBatch


def batch_of(rows: Rows) -> Batch:
    """Tensors over the arrays, which nothing else holds."""
    return Batch(*(torch.from_numpy(array) for array in (rows.token_ids, rows.position_ids, rows.loss_weights)))


def preference_batch(rows: Rows, reference: torch.Tensor) -> PreferenceBatch:
    """Pairs with the reference's log-probabilities of their records, out of those of all records (N, 2)."""
    own = [reference[row[0]] if row else torch.zeros(2) for row in rows.records[::2]]
    return PreferenceBatch(batch_of(rows), torch.stack(own))


def label_batch(rows: Rows, labels: Sequence[npt.NDArray[np.int64]]) -> LabelBatch:
    """Rows of one record each with its classes, of which a truncated record keeps the first."""
    marked = (rows.loss_weights > 0).sum(axis=1).tolist()
    own = [labels[row[0]][:count] for row, count in zip(rows.records, marked, strict=True) if row]
    joined = np.concatenate(own) if own else np.zeros(0, np.int64)
    return LabelBatch(batch_of(rows), torch.from_numpy(joined))
