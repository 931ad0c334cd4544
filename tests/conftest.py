"""Fixtures that several parts share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_checkpoint(variant)`: a folder that transformers wrote; made once a session."""
    made: dict[str, Path] = {}

    def make(variant: str) -> Path:
        if variant not in made:
            from tiny import save_tiny

            made[variant] = save_tiny(variant, tmp_path_factory.mktemp("tiny") / variant)
        return made[variant]

    return make
