"""The reference of DPO: what the model thought of both answers before training, computed once and kept on disk.

    ~/.cache/ostro/reference/DIGEST.npy       float32 (records, 2): of the chosen and of the rejected answer

The digest is of the encoded data, the base's weights and the type it computes in, so that a second run over the same
data (another beta, a resumed run) computes nothing, and one over other data or weights never finds these.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ostro import env
from ostro.finetune.distributed import Group
from ostro.finetune.example_sets import ExampleSet
from ostro.finetune.packing import PackedBatches, Rows
from ostro.finetune.preference import answer_logprobs
from ostro.finetune.row_batches import batch_of
from ostro.transformers.lora import disable_adapter, has_adapter

_SAMPLES = 4096


def reference_logprobs(
    model: Any,
    examples: ExampleSet,
    *,
    rows_per_batch: int,
    max_length: int,
    group: Group | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Log-probabilities (records, 2) of the chosen and rejected answer of every pair under the model as it is now.

    An adapter over the model is off for it. A record that was dropped as too long has zeros. The work is shared among
    the processes of `group`; `on_progress` is told batches done and in all. Not computed where it lies on disk.
    """
    group = group or Group(0, 1, model.device)
    path = cached_path(model, examples)
    known = _read(path, len(examples))
    if not group.any(known is None) and known is not None:
        return known
    table = torch.zeros(len(examples), 2, dtype=torch.float64)
    batches = PackedBatches(
        examples, lambda rows: rows, rows_per_batch=rows_per_batch, max_length=max_length,
        rank=group.rank, world_size=group.size,
    )  # fmt: skip
    total = batches.per_epoch
    with disable_adapter(model) if has_adapter(model) else nullcontext(), _evaluating(model):
        for done in range(total):
            _enter(model, batches.next(), table)
            if on_progress is not None:
                on_progress(done + 1, total)
    found = group.sum_tensor(table).to(torch.float32)
    if group.is_main:
        _write(path, found)
    return found


def cached_path(model: Any, examples: ExampleSet) -> Path:
    """Where the numbers of these examples under this model are kept."""
    digest = hashlib.blake2b(f"{examples.fingerprint} {base_digest(model)}".encode(), digest_size=16).hexdigest()
    return env.cache_folder() / "reference" / f"{digest}.npy"


def base_digest(model: Any) -> str:
    """A digest of the model without its adapter: names, shapes, types, and thousands of numbers of every tensor."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        if ".lora_A." in name or ".lora_B." in name or ".trained." in name:
            continue
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, len(flat) // _SAMPLES)].cpu().contiguous()
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _enter(model: Any, rows: Rows, table: torch.Tensor) -> None:
    sums, _ = answer_logprobs(model, batch_of(rows).to(model.device))
    for pair, both in zip(rows.records[::2], sums.view(-1, 2).cpu(), strict=True):
        if pair:  # a process without pairs of its own has a row of padding
            table[pair[0]] = both.double()


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Within the block dropout is off."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


def _read(path: Path, num_records: int) -> torch.Tensor | None:
    """The kept numbers; None where there are none, or the file is damaged, and is made again."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if values.dtype != np.float32 or values.shape != (num_records, 2) or not np.isfinite(values).all():
        return None
    return torch.from_numpy(values)


def _write(path: Path, values: torch.Tensor) -> None:
    """Whole or not at all: another run may be reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            np.save(file, values.numpy())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
