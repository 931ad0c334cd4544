"""The small model that comes with ostro, so that everything can be tried without a download."""

from __future__ import annotations

from pathlib import Path

from ostro.errors import ModelNotFoundError

NAME = "ostro-mini"
"""Its short name."""

_FOLDER = Path(__file__).parents[1] / "bundled" / NAME


def bundled_model() -> Path | None:
    """Its folder, or None where this installation was made without it."""
    return _FOLDER if (_FOLDER / "config.json").is_file() else None


def require_bundled_model() -> Path:
    """Its folder; ModelNotFoundError where this installation was made without it."""
    folder = bundled_model()
    if folder is None:
        raise ModelNotFoundError(
            f"This installation of ostro has no bundled model ({_FOLDER} is not there). Name a model: a folder, a GGUF "
            "file, a hub id, or a short name of `ostro list`."
        )
    return folder
