"""Tiny models beside transformers' own, and folders with a real tokenizer."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mistral_common
import pytest
import torch
from tiny import make_model, save_tiny

VOCABULARIES = {"v1": ("tokenizer.model.v1", 32000), "v3": ("mistral_instruct_tokenizer_240323.model.v3", 32768)}


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`chat_folder(variant, vocabulary)`: a tiny random model with a tokenizer of Mistral's; made once a session."""
    made: dict[tuple[str, str], Path] = {}

    def make(variant: str = "mistral-7b-v0.3", vocabulary: str = "v3") -> Path:
        if (variant, vocabulary) not in made:
            file, size = VOCABULARIES[vocabulary]
            folder = save_tiny(variant, tmp_path_factory.mktemp("chat") / variant, vocab_size=size)
            shutil.copy(Path(mistral_common.__file__).parent / "data" / file, folder / "tokenizer.model")
            made[variant, vocabulary] = folder
        return made[variant, vocabulary]

    return make


@pytest.fixture
def pair(tiny_checkpoint: Callable[[str], Path]) -> Callable[..., tuple[Any, Any]]:
    """`pair(variant)`: our model and transformers', with the same weights."""

    def make(variant: str, **kwargs: Any) -> tuple[Any, Any]:
        from ostro.transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(tiny_checkpoint(variant), **kwargs), make_model(variant)

    return make


@pytest.fixture
def prompt() -> torch.Tensor:
    """(1, 40) ids below 101, longer than the window of mistral-7b-v0.1's tiny model."""
    return torch.randint(3, 101, (1, 40), generator=torch.Generator().manual_seed(7))
