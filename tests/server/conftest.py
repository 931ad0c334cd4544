"""A tiny model as the tests of services load it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from served import load, slowed

from ostro import LLM


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Callable[[str], Path]) -> Path:
    return tiny_checkpoint("mistral-7b-v0.3")


@pytest.fixture(scope="module")
def llm(folder: Path) -> LLM:
    return load(folder, max_num_seqs=4)


@pytest.fixture
def slow(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> LLM:
    return slowed(llm, monkeypatch)
