"""The four forms of a list of texts: a text, texts, token ids, lists of token ids."""

from __future__ import annotations

from typing import Any

from ostro.server.errors import FieldError
from ostro.server.fields import shown
from ostro.server.settings import ServerSettings


def prompts_of(given: Any, settings: ServerSettings, param: str = "prompt") -> list[str | list[int]]:
    """The texts or ids; FieldError names what is neither, and a list that is too long."""
    if given is None:
        return [""]
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        raise FieldError(
            f"{param} must be a text, token ids, or a list of either that is not empty, not {shown(given)}.",
            param=param,
        )
    if _are_ids(given):
        return [given]
    if len(given) > settings.max_inputs:
        raise FieldError(
            f"{param} has {len(given)} entries; this server takes {settings.max_inputs} in one request.", param=param
        )
    for index, each in enumerate(given):
        if not isinstance(each, str) and not (isinstance(each, list) and each and _are_ids(each)):
            raise FieldError(
                f"{param}[{index}] must be a text or a list of token ids, not {shown(each)}.", param=f"{param}[{index}]"
            )
    return given


def _are_ids(values: list[Any]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)
