"""Several processes that train one model together: started by torchrun, its parameters shared out by PyTorch's FSDP2.

    torchrun --nproc-per-node 2 -m ostro finetune sft sft.yaml

Every process holds its share of each parameter, gradient and optimizer state. A layer's parameters are put together
where they are used, in the forward and again in the backward pass; embeddings, the last norm and the output matrix stay
together for the whole step. Each process works on its rows of a global batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ostro.errors import BackendError
from ostro.finetune.objective import LossOutput, Objective
from ostro.ops.torch import find_device
from ostro.transformers.modules import DecoderLayer

TreeT = TypeVar("TreeT")


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of one run: this one's `rank` of `size`, and the device that it computes on.

    Without torchrun it is a group of one, for which every method is the plain thing.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes files."""
        return self.rank == 0

    def shard(self, step: nn.Module) -> None:
        """Share out the parameters of `step`, whose `forward` must be the only way to its loss.

        Afterwards they are other objects (`DTensor`): an optimizer must be given `step.parameters()` after this.
        Gradients of the processes are averaged. Buffers, and so the packed weights of quantized layers, stay whole.
        """
        if self.size == 1:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.type, (self.size,))
        for module in step.modules():
            if isinstance(module, DecoderLayer) and any(True for _ in module.parameters()):
                fully_shard(module, mesh=mesh)
        fully_shard(step, mesh=mesh)

    def sum(self, *values: float) -> list[float]:
        """Each value summed over the processes, in float64."""
        if self.size == 1:
            return list(values)
        total = self.sum_tensor(torch.tensor(values, dtype=torch.float64))
        summed: list[float] = total.tolist()
        return summed

    def sum_tensor(self, values: torch.Tensor) -> torch.Tensor:
        """A tensor on any device summed over the processes; on the CPU."""
        if self.size == 1:
            return values.cpu()
        held = values.to(self.device)
        dist.all_reduce(held)
        return held.cpu()

    def any(self, condition: bool) -> bool:
        """Whether it holds in any process: what stops one must stop all."""
        return self.sum(float(condition))[0] > 0

    def wait(self) -> None:
        """Until every process has come here."""
        if self.size > 1:
            self.sum(0.0)

    def close(self) -> None:
        """End the group; the others need not have come here."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()


class LossStep(nn.Module):
    """A model and its objective as one module, whose `forward` is the loss: what FSDP2 can watch the whole of."""

    def __init__(self, model: nn.Module, objective: Objective[Any]) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: Any) -> LossOutput:
        """`objective.loss(model, batch)`."""
        return self.objective.loss(self.model, batch)


def join(device: str = "auto") -> Group:
    """The group that torchrun's variables describe, or a group of one.

    BackendError for a single GPU that several processes were to share, and for variables that are no numbers.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        return Group(0, 1, find_device(device))
    rank, local = _number("RANK"), _number("LOCAL_RANK")
    found = find_device(device)
    if found.type == "cuda":
        if str(found) != "cuda":
            raise BackendError(
                f"device {device!r} names one GPU, and {size} processes train together: write device: cuda, and each "
                "takes its own."
            )
        found = find_device(f"cuda:{local}")
        torch.cuda.set_device(found)
    started: bool = dist.is_initialized()
    if not started:
        dist.init_process_group("nccl" if found.type == "cuda" else "gloo", rank=rank, world_size=size)
    return Group(rank, size, found)


def _number(name: str, default: int | None = None) -> int:
    text = os.environ.get(name, "" if default is None else str(default))
    if not text.isdigit():
        raise BackendError(
            f"The environment says {name}={text!r}, which must be a whole number: start several processes with "
            "torchrun, which sets it, or unset WORLD_SIZE for a single one."
        )
    return int(text)


def whole(state: TreeT, *, keep: bool = True) -> TreeT:
    """A tree of dicts, lists and tensors with every shared tensor put together, on the CPU.

    All processes must call it, on trees of one form, for they exchange their shares; one that has no use for the result
    says so with `keep` False and gets empty tensors. Tensors that are not shared out are handed on as they are.
    """

    def joined(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        full = tensor.full_tensor()
        return full.cpu() if keep else full.new_empty(0)

    return cast("TreeT", _map(state, joined))


def own_share(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor, as a view; for use without gradients."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def share_like(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`value`, which is whole in every process, shared out as `like` is and on its device."""
    if not isinstance(like, DTensor):
        return value.to(like.device)
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def _map(tree: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(tree, torch.Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: _map(value, change) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_map(value, change) for value in tree)
    return tree
