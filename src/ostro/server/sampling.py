"""From the fields of a body to `SamplingParams`, with errors that use the words of the request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ostro.engine.guided import Guided
from ostro.engine.params import SamplingParams
from ostro.errors import RequestError
from ostro.server.errors import FieldError
from ostro.server.settings import ServerSettings

MAX_STOP_STRINGS = 64

_ALIKE = (
    "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "n",
    "min_tokens", "stop", "stop_token_ids", "ignore_eos", "skip_special_tokens", "include_stop_str_in_output",
)  # fmt: skip
_NAMES = {
    "max_tokens": ("max_tokens", "max_completion_tokens", "max_output_tokens"),
    "seed": ("seed", "random_seed"),
    "logprobs": ("top_logprobs", "logprobs"),
    "response_format": (
        "response_format", "guided_json", "guided_regex", "guided_grammar", "guided_choice", "text", "tools",
    ),
}  # fmt: skip
_GUIDED = ("guided_json", "guided_regex", "guided_grammar", "guided_choice", "response_format", "text.format")
_GUIDED_FIELD = {
    "guided_json": "json_schema",
    "guided_regex": "regex",
    "guided_grammar": "grammar",
    "guided_choice": "choice",
}


def sampling_params(given: Mapping[str, Any], defaults: SamplingParams, settings: ServerSettings) -> SamplingParams:
    """The parameters that the given fields ask for; `defaults` are the model's own.

    FieldError or RequestError names the field, in the request's words, that is wrong or contradicts another one.
    """
    changes = {name: given[name] for name in _ALIKE if name in given}
    changes["max_tokens"], limit_name = agreed(given, *_NAMES["max_tokens"])
    changes["seed"], _ = agreed(given, *_NAMES["seed"])
    if changes["max_tokens"] is None:
        changes["max_tokens"] = defaults.max_tokens
    _check_bounds(given, changes, limit_name, settings)
    if "logit_bias" in given:
        changes["logit_bias"] = _bias(given["logit_bias"])
    changes["guided"] = _guided(given)
    with in_words_of(given):
        return replace(defaults, **changes)


@contextmanager
def in_words_of(given: Mapping[str, Any]) -> Iterator[None]:
    """Errors that name a parameter name the field by which the request gave it."""
    try:
        yield
    except RequestError as error:
        names = _NAMES.get(error.param or "", ())
        found = next((name for name in names if name in given), error.param)
        error.param = "text.format" if found == "text" else found
        raise


def chat_logprobs(given: Mapping[str, Any]) -> int | None:
    """`SamplingParams.logprobs` for the fields `logprobs` (true or false) and `top_logprobs` of chat."""
    top = given.get("top_logprobs", 0)
    if given.get("logprobs"):
        return int(top)
    if top:
        raise FieldError("top_logprobs needs logprobs to be true.", param="top_logprobs")
    return None


def agreed(given: Mapping[str, Any], *names: str) -> tuple[Any, str]:
    """The value of the one field that is given under several names, and the name."""
    present = [name for name in names if name in given]
    for name in present[1:]:
        if given[name] != given[present[0]]:
            raise FieldError(f"{present[0]} and {name} are the same, and here they differ: give one.", param=name)
    return (given[present[0]], present[0]) if present else (None, names[0])


def _check_bounds(
    given: Mapping[str, Any], changes: Mapping[str, Any], limit_name: str, settings: ServerSettings
) -> None:
    most = settings.max_tokens_limit
    if most is not None and limit_name in given and changes["max_tokens"] > most:
        raise FieldError(
            f"{limit_name} must be at most {most} on this server, not {changes['max_tokens']}.", param=limit_name
        )
    for name in ("n", "best_of"):
        if given.get(name, 1) > settings.max_choices:
            raise FieldError(
                f"{name} must be at most {settings.max_choices} on this server, not {given[name]}.", param=name
            )
    stop = given.get("stop")
    if isinstance(stop, list) and len(stop) > MAX_STOP_STRINGS:
        raise FieldError(f"stop has {len(stop)} strings; it may have {MAX_STOP_STRINGS}.", param="stop")


def _bias(given: Mapping[str, float]) -> dict[int, float]:
    bias = {}
    for key, value in given.items():
        if not (key.isascii() and key.isdecimal() and len(key) < 10):
            raise FieldError(f"logit_bias has the key {key[:40]!r}; its keys are token ids.", param="logit_bias")
        bias[int(key)] = value
    return bias


def _guided(given: Mapping[str, Any]) -> Guided | None:
    """The form that the answer must have."""
    forms = {name: given[name] for name in _GUIDED if name in given}
    forms = {name: form for name, form in forms.items() if getattr(form, "type", None) != "text"}
    if not forms:
        return None
    if len(forms) > 1:
        first, second = list(forms)[:2]
        raise FieldError(f"{first} and {second} both say what the answer must be: give one.", param=second)
    name, value = next(iter(forms.items()))
    try:
        return Guided(**{_GUIDED_FIELD[name]: value}) if name in _GUIDED_FIELD else _of_format(value, name)
    except FieldError:
        raise
    except RequestError as error:
        raise FieldError(str(error), param=name) from None


def _of_format(form: Any, name: str) -> Guided:
    if form.type == "json_object":
        return Guided(json_object=True)
    schema = form if hasattr(form, "schema_") else form.json_schema
    if schema is None or schema.schema_ is None:
        where = f"{name}.schema" if schema is form else f"{name}.json_schema"
        raise FieldError(
            f"{where} is missing: the type json_schema needs a schema.", param=where, code="missing_required_parameter"
        )
    return Guided(json_schema=schema.schema_)
