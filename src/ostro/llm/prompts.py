"""The forms in which a prompt may be given."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from ostro.chat.segments import Prompt
from ostro.errors import RequestError

PromptLike: TypeAlias = str | Sequence[int] | Prompt
"""Text (BOS is put in front unless the checkpoint says otherwise), token ids as they are, or a rendered chat."""


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
