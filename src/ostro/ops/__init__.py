"""Backends: the handful of array operations of a decoder, for NumPy, our C++ kernels and PyTorch."""

from __future__ import annotations

from typing import Any

from ostro.errors import BackendError
from ostro.log import warn_once
from ostro.ops.base import Ops

BACKENDS = ("cpu", "reference", "torch")
OPTIONS = {"cpu": ("num_threads",), "reference": (), "torch": ("device", "dtype")}


def get_ops(name: str = "auto", **options: Any) -> Ops:
    """The backend called `name`; "auto" is `cpu`, or `reference` where the C++ kernels were not built.

    Options: `num_threads` (cpu), `device` and `dtype` (torch). An option that a backend does not have is refused.

    >>> get_ops("reference").name
    'reference'
    """
    if name == "auto":
        return _best(**options)
    if name not in BACKENDS:
        raise BackendError(f"There is no backend {name!r}; choose one of auto, {', '.join(BACKENDS)}.")
    for option in options:
        if option not in OPTIONS[name]:
            owners = [backend for backend in BACKENDS if option in OPTIONS[backend]]
            remedy = f"choose the backend {' or '.join(owners)}, or leave {option} out" if owners else "leave it out"
            raise BackendError(f"The backend {name} has no option {option}: {remedy}.")
    ops: Ops = _load(name)(**options)
    return ops


def native_error() -> str | None:
    """Why the C++ kernels cannot be used here, or None if they can."""
    try:
        _load("cpu")
    except BackendError as error:
        return str(error)
    return None


def _best(**options: Any) -> Ops:
    reason = native_error()
    if reason is None:
        return get_ops("cpu", **options)
    warn_once(f"{reason} The NumPy backend runs instead: the same results up to rounding, many times slower.")
    if options.pop("num_threads", None) is not None:
        warn_once("num_threads is not honoured by the NumPy backend: OMP_NUM_THREADS governs its threads.")
    return get_ops("reference", **options)


def _load(name: str) -> Any:
    if name == "reference":
        from ostro.ops.reference import ReferenceOps

        return ReferenceOps
    if name == "cpu":
        from ostro.ops.cpu import CpuOps

        return CpuOps
    from ostro.ops.torch import TorchOps

    return TorchOps
