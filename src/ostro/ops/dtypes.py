"""Names of storage types and their NumPy dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ostro.errors import BackendError

DTYPES = ("float32", "float16", "bfloat16")


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype called `name`; bfloat16 is `ml_dtypes`'.

    >>> numpy_dtype("float16").itemsize
    2
    """
    if name not in DTYPES:
        raise BackendError(f"dtype {name!r} is not known; choose one of {', '.join(DTYPES)}.")
    if name == "bfloat16":
        import ml_dtypes

        name = ml_dtypes.bfloat16
    dtype: np.dtype[Any] = np.dtype(name)
    return dtype
