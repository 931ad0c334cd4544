"""The small default: the static vectors that the package `wordllama` carries, 16 MB, from the package index.

They were averaged from the token embeddings of large language models and then trained on pairs of sentences, so that
64, 128 and 256 dimensions are of use (MIT; github.com/dleemiller/WordLlama). Its two files are read where the package
lies; the package itself is not imported, since it would set up the process's logging.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ostro.checkpoint.safetensors import SafetensorsFile
from ostro.embeddings.static import StaticEmbedder
from ostro.errors import CheckpointError, MissingExtraError
from ostro.tokenizer.hf import load_hf

NAME = "wordllama"
"""What the default is called."""

DIMENSIONS = (64, 128, 256)

_WEIGHTS = Path("weights", "l2_supercat_256.safetensors")
_TOKENIZER = Path("tokenizers", "l2_supercat_tokenizer_config.json")
_TENSOR = "embedding.weight"


def is_installed() -> bool:
    """Whether the default can be had."""
    return find_spec(NAME) is not None


def open_default() -> StaticEmbedder:
    """The default embedder; MissingExtraError where its package is not installed."""
    spec = find_spec(NAME)
    if spec is None or spec.origin is None:
        raise MissingExtraError(NAME, "embeddings", "The small default embedder")
    folder = Path(spec.origin).parent
    for file in (_WEIGHTS, _TOKENIZER):
        if not (folder / file).is_file():
            raise CheckpointError(f"{folder} has no {file}: install a wordllama of version 0.4 again.")
    weights = SafetensorsFile(folder / _WEIGHTS)
    if _TENSOR not in weights.infos:
        raise CheckpointError(f"{weights.path} has no tensor {_TENSOR}: install a wordllama of version 0.4 again.")
    return StaticEmbedder(NAME, weights.tensor(_TENSOR), load_hf(folder / _TOKENIZER), smaller_dimensions=DIMENSIONS)
