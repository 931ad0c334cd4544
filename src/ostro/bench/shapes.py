"""Shapes of published models by short names, so that a model's speed can be measured without its weights."""

from __future__ import annotations

from dataclasses import replace

from ostro.checkpoint.aliases import find_alias
from ostro.config import ModelConfig
from ostro.config.published import PUBLISHED, Published
from ostro.errors import RequestError


def shape_names() -> tuple[str, ...]:
    """Every shape, in the order of the published table.

    >>> from ostro.bench.shapes import shape_names
    >>> shape_names()[:4]
    ('mistral-7b-v0.1', 'mistral-7b-v0.2', 'mistral-7b-v0.3', 'mixtral-8x7b')
    """
    return tuple(_slug(model) for model in PUBLISHED)


def find_shape(name: str, num_layers: int | None = None) -> ModelConfig:
    """The configuration of a published model, cut to its first `num_layers` layers; None: all of them.

    `name` is one of `shape_names`, or a short name of `ostro list`. RequestError for an unknown name or layers that
    the model does not have.
    """
    by_slug = {_slug(model): model for model in PUBLISHED}
    wanted = name.strip().lower()
    alias = find_alias(wanted)
    model = by_slug.get(wanted) or (alias and next(each for each in PUBLISHED if each.name == alias.published))
    if not model:
        raise RequestError(
            f"There is no shape {name!r}. Choose one of {', '.join(by_slug)}, or a short name of `ostro list`.",
            param="shape",
        )
    return cut(model.config(), num_layers, name)


def cut(config: ModelConfig, num_layers: int | None, name: str) -> ModelConfig:
    """The first layers of a model, between its own embeddings and output head; RequestError if it has not so many."""
    if num_layers is None:
        return config
    if not 1 <= num_layers <= config.num_hidden_layers:
        raise RequestError(
            f"layers must be a whole number from 1 to {config.num_hidden_layers} (the layers of {name}), "
            f"not {num_layers}.",
            param="layers",
        )
    return replace(config, num_hidden_layers=num_layers, sliding_windows=config.sliding_windows[:num_layers])


def _slug(model: Published) -> str:
    return model.name.lower().replace(" ", "-")
