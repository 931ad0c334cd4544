"""Fixtures that several parts share, and the settings of property tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine must not fail a test: an example may take its time, and so may the making of one. CI takes the same
# examples every time, so that a change is judged by itself; every other run looks for new ones.
settings.register_profile(
    "ostro", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("ostro")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the tests make is not left in the cache of whoever runs them."""
    os.environ["OSTRO_CACHE"] = str(tmp_path_factory.mktemp("cache"))


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
