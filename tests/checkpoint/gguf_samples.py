"""Metadata and tensors of every type that a GGUF file may have."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from gguf_writer import Tensor, Typed, random_blocks

METADATA: dict[str, object] = {
    "u8": Typed(0, 255),
    "i8": Typed(1, -128),
    "u16": Typed(2, 65535),
    "i16": Typed(3, -32768),
    "u32": 2**32 - 1,
    "i32": -5,
    "f32": 1.5,
    "yes": True,
    "no": False,
    "text": "한글 🙂",
    "empty": "",
    "u64": 2**64 - 1,
    "i64": -(2**63),
    "f64": Typed(12, 0.1),
    "strings": ["a", "", "나"],
    "numbers": [1, 2, 3],
    "floats": [0.5, -0.25],
    "booleans": [True, False],
    "none": [],
    "nested": [[1, 2], [3]],
    "nested strings": [["a", "b"], []],
}


def small_tensors() -> dict[str, Tensor]:
    rng = np.random.default_rng(0)
    return {
        "norm": rng.standard_normal(5).astype(np.float32),
        "half": rng.standard_normal((3, 4)).astype(np.float16),
        "brain": rng.standard_normal((2, 3)).astype(ml_dtypes.bfloat16),
        "packed": ("Q4_0", (3, 64), random_blocks("Q4_0", (3, 64))),
        "experts": ("Q8_0", (2, 3, 32), random_blocks("Q8_0", (2, 3, 32))),
        "float experts": rng.standard_normal((2, 3, 4)).astype(np.float32),
    }
