"""`SamplingParams`: how the tokens of an answer are chosen and when it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from ostro.engine.guided import Guided
from ostro.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Every field is honoured; a value out of range is a RequestError that names the field.

    The scores (logits) of a step pass through these stages, in this order:

    1. `repetition_penalty` r: of every token in the prompt or the answer so far, a positive score is divided by r
       and a negative one multiplied; 0.01 .. 100, 1 is off.
    2. `frequency_penalty` f and `presence_penalty` p, each -2 .. 2: f times the number of times that a token stands
       in the answer so far, and p if it stands there at all, are subtracted. 0 is off.
    3. `logit_bias`: token id -> number in -100 .. 100 that is added.
    4. `min_tokens`: until the answer has so many tokens, end-of-sequence tokens and `stop_token_ids` are impossible
       (and stop strings are not looked for). `guided`: tokens that leave the form are impossible; where the form
       allows nothing but an end, it ends before `min_tokens`.
    5. `temperature` T: scores are divided by T. 0 is greedy: the highest score wins, the lowest id among equals,
       and stages 6 to 8 do nothing.
    6. `top_k`: only the k highest remain, lower ids first among equals. 0 or -1 is off.
    7. `top_p`: of what remains, only the smallest set of likeliest tokens whose probabilities reach top_p. 1 is off.
    8. `min_p`: only tokens at least min_p times as likely as the likeliest. 0 is off.

    Then one token is drawn. `seed` makes the draws repeatable: they depend on the seed, the scores and the
    parameters, never on other requests. Answer number i of `n` draws with seed + i, so it equals the answer of a
    request of its own with that seed. None draws from fresh entropy.

    The answer ends at an end-of-sequence token (unless `ignore_eos`), at one of `stop_token_ids`, at the first
    complete `stop` string, where the form of `guided` is complete, after `max_tokens`, or at the end of the context
    (`max_tokens=None`). The last two, and a stop string, may cut a form short. Text from a stop string on is left out,
    and so is the text of a stopping token, unless `include_stop_str_in_output`.
    `skip_special_tokens=False` writes control tokens into the text by their names.

    `logprobs`: k gives the log-probabilities of the chosen token and of the k likeliest at every step. They are those
    of the model: the log-softmax of the scores before stage 1.

    >>> SamplingParams(temperature=0, max_tokens=8).stop
    ()
    """

    n: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: str | Sequence[str] | None = ()
    stop_token_ids: Sequence[int] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    max_tokens: int | None = None
    logprobs: int | None = None
    skip_special_tokens: bool = True
    guided: Guided | None = None

    def __post_init__(self) -> None:
        _set(self, "stop", _strings(self.stop))
        _set(self, "stop_token_ids", _ids(self.stop_token_ids))
        _set(self, "logit_bias", _bias(self.logit_bias))
        _integer("n", self.n, 1, None)
        _number("temperature", self.temperature, 0, None)
        _integer("top_k", self.top_k, -1, None)
        _number("top_p", self.top_p, 0, 1, open_low=True)
        _number("min_p", self.min_p, 0, 1)
        _integer("seed", self.seed, -(2**63), 2**64 - 1, optional=True)
        _number("presence_penalty", self.presence_penalty, -2, 2)
        _number("frequency_penalty", self.frequency_penalty, -2, 2)
        _number("repetition_penalty", self.repetition_penalty, 0.01, 100)
        _integer("min_tokens", self.min_tokens, 0, None)
        _integer("max_tokens", self.max_tokens, 1, None, optional=True)
        _integer("logprobs", self.logprobs, 0, None, optional=True)
        for name in ("include_stop_str_in_output", "ignore_eos", "skip_special_tokens"):
            if not isinstance(getattr(self, name), bool):
                raise _refusal(name, getattr(self, name), "true or false")
        if self.guided is not None and not isinstance(self.guided, Guided):
            raise _refusal("guided", self.guided, "a Guided(...)")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise RequestError(
                f"min_tokens ({self.min_tokens}) must not be greater than max_tokens ({self.max_tokens}).",
                param="min_tokens",
            )

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """`stop` as it was normalized: none, one or several strings."""
        assert isinstance(self.stop, tuple)
        return self.stop

    @property
    def has_penalties(self) -> bool:
        """Whether stages 1 or 2 do anything."""
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0


def _set(params: SamplingParams, name: str, value: Any) -> None:
    object.__setattr__(params, name, value)


def _refusal(name: str, value: object, allowed: str) -> RequestError:
    return RequestError(f"{name} must be {allowed}, not {value!r}.", param=name)


def _is_integer(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral)


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def _integer(name: str, value: Any, low: int, high: int | None, *, optional: bool = False) -> None:
    if optional and value is None:
        return
    if not _is_integer(value) or value < low or (high is not None and value > high):
        extent = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise _refusal(name, value, f"a whole number {extent}" + (", or null" if optional else ""))


def _number(name: str, value: Any, low: float, high: float | None, *, open_low: bool = False) -> None:
    extent = f"greater than {low}" if open_low else f"at least {low}"
    allowed = f"a number {extent}" + ("" if high is None else f" and at most {high}")
    if not _is_number(value) or value < low or (open_low and value == low) or (high is not None and value > high):
        raise _refusal(name, value, allowed)


def _strings(stop: object) -> tuple[str, ...]:
    if stop is None:
        return ()
    strings = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, Sequence) else (stop,)
    if not all(isinstance(text, str) and text for text in strings):
        raise _refusal("stop", stop, "a string or a list of strings, none of them empty")
    return tuple(str(text) for text in strings)


def _ids(ids: object) -> tuple[int, ...]:
    if not isinstance(ids, Sequence) or not all(_is_integer(token_id) and token_id >= 0 for token_id in ids):
        raise _refusal("stop_token_ids", ids, "a list of token ids")
    return tuple(ids)


def _bias(bias: object) -> dict[int, float]:
    allowed = "a table of token ids with numbers from -100 to 100"
    if not isinstance(bias, Mapping):
        raise _refusal("logit_bias", bias, allowed)
    for token_id, value in bias.items():
        if not _is_integer(token_id) or token_id < 0:
            raise _refusal("logit_bias", token_id, f"{allowed}; its keys are whole numbers")
        if not _is_number(value) or not -100 <= value <= 100:
            raise _refusal("logit_bias", value, allowed)
    return dict(bias)
