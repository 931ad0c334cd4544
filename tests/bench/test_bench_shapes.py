"""Shapes by name, and cut to a number of layers."""

from __future__ import annotations

import pytest

from ostro.bench import find_shape, shape_names
from ostro.config.published import PUBLISHED
from ostro.errors import RequestError


def test_every_published_model_is_a_shape() -> None:
    assert len(set(shape_names())) == len(PUBLISHED)
    for name, model in zip(shape_names(), PUBLISHED, strict=True):
        assert find_shape(name) == model.config()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("mistral-7b", "Mistral 7B v0.3"),
        ("Mistral-Nemo", "Mistral NeMo"),
        ("mistral-small", "Mistral Small 3"),
        ("mistral-large-2", "Mistral Large 2"),
        ("mixtral-8x7b", "Mixtral 8x7B"),
        ("llama-3.1-8b", "Llama 3.1 8B"),
        (" llama-3.2-3b ", "Llama 3.2 3B"),
    ],
)
def test_short_names(name: str, published: str) -> None:
    assert find_shape(name) == next(model.config() for model in PUBLISHED if model.name == published)


def test_layers_are_the_first_ones() -> None:
    config = find_shape("mistral-7b-v0.1", 3)
    assert config.num_hidden_layers == 3
    assert config.sliding_windows == (4096,) * 3
    assert find_shape("mistral-7b-v0.1", 32) == find_shape("mistral-7b-v0.1")


def test_an_unknown_shape_is_refused_with_all_there_are() -> None:
    with pytest.raises(RequestError, match="no shape 'gpt-2'") as caught:
        find_shape("gpt-2")
    assert all(name in str(caught.value) for name in shape_names())


@pytest.mark.parametrize("layers", [0, -1, 33])
def test_impossible_layers_are_refused(layers: int) -> None:
    with pytest.raises(RequestError, match=r"from 1 to 32 .*mistral-7b.*, not"):
        find_shape("mistral-7b", layers)
