"""One call that seeds every generator a training script draws from."""

from __future__ import annotations

import random

import numpy as np
import torch


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators, the latter on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
