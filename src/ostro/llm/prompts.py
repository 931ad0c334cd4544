"""The forms in which a prompt may be given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from ostro.chat.segments import Prompt
from ostro.errors import RequestError

PromptLike: TypeAlias = str | Sequence[int] | Prompt
"""Text (BOS is put in front unless the checkpoint says otherwise), token ids as they are, or a rendered chat."""


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as the engine takes it.

    `text` is for the record, None where it is not known. `at_start`: the answer begins a text of its own, and does not
    go on with one that the caller began. `eos_token_ids` end a turn in the prompt's format. `adapter` is the name of
    the one that answers, None the model alone.
    """

    token_ids: list[int]
    text: str | None
    at_start: bool
    eos_token_ids: tuple[int, ...]
    adapter: str | None = None


def batch(prompts: PromptLike | Sequence[PromptLike]) -> list[PromptLike]:
    """The prompts as a list; a sequence of integers is one prompt."""
    if isinstance(prompts, str | Prompt):
        return [prompts]
    if not isinstance(prompts, Sequence | np.ndarray):
        raise _not_a_prompt(prompts)
    if any(isinstance(each, str | Prompt | Sequence | np.ndarray) for each in prompts):
        return list(prompts)  # type: ignore[arg-type]
    return [token_ids(prompts)] if len(prompts) else []


def token_ids(prompt: Any) -> list[int]:
    """A prompt of token ids as a list of ints."""
    if not isinstance(prompt, Sequence | np.ndarray):
        raise _not_a_prompt(prompt)
    for each in prompt:
        if isinstance(each, bool) or not isinstance(each, Integral):
            raise _not_a_prompt(each)
    return [int(each) for each in prompt]


def _not_a_prompt(value: Any) -> RequestError:
    return RequestError(
        f"A prompt is a text, a list of token ids (whole numbers) or a rendered conversation, not {value!r}. "
        "Conversations are for chat() and render().",
        param="prompt",
    )


def adapter_for_each(adapter: str | Sequence[str | None] | None, count: int) -> Sequence[str | None]:
    """A name for each of `count` prompts, from one for all of them or a list; RequestError for a list of another size.

    >>> adapter_for_each("a", 2), adapter_for_each(["a", None], 2)
    (['a', 'a'], ['a', None])
    """
    if adapter is None or isinstance(adapter, str):
        return [adapter] * count
    if len(adapter) != count:
        raise RequestError(
            f"{len(adapter)} adapters are given for {count} prompts: give one, or one for each prompt.",
            param="adapter",
        )
    return list(adapter)
