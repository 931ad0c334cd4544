"""Fields of request bodies: each is honoured, or refused by name.

A body is a pydantic model. Every field carries one of two marks: `Honoured`, with what it does, or `Refused`, with why
and with the values that ask for nothing and so are let pass (null always is). The marks are the one source of what
`read` enforces, of the table of `ostro serve --capabilities`, and of the OpenAPI document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from ostro.server.errors import FieldError

_SHOWN = 80
"""Characters of a wrong value that its error repeats."""


@dataclass(frozen=True, slots=True)
class Honoured:
    """The field does what its dialect documents; `note` says it in a line, with the limits of this server."""

    note: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The field is known and cannot be honoured, but for the values in `neutral`, which ask for nothing."""

    why: str
    neutral: tuple[object, ...] = ()


Mark = Honoured | Refused


class Body(BaseModel):
    """A JSON object of a request. Numbers are numbers and strings strings; unknown fields are kept apart."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=(), allow_inf_nan=False)


B = TypeVar("B", bound=Body)


def parse_json(raw: bytes) -> dict[str, Any]:
    """The JSON object of a body; FieldError says where it is none."""
    try:
        value = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FieldError(f"The body is no JSON: {error}.", param=None, code="invalid_json") from None
    if not isinstance(value, dict):
        raise FieldError(
            f"The body is a {type(value).__name__}; it must be a JSON object.", param=None, code="invalid_json"
        )
    return value


def read(form: type[B], given: Mapping[str, Any]) -> B:
    """A body in its form; FieldError names the field that is missing, wrong or refused."""
    try:
        body = form.model_validate(dict(given))
    except ValidationError as error:
        raise _first(error) from None
    for path, value, field in _values(body):
        mark = mark_of(field)
        if isinstance(mark, Refused) and not _is_neutral(value, mark):
            allowed = f" Leave it out{_or(mark.neutral)}."
            raise FieldError(
                f"{path} cannot be honoured: {mark.why}{allowed}", param=path, code="unsupported_parameter"
            )
    return body


def unknown_fields(body: Body, path: str = "") -> list[str]:
    """The names, with dots, of what the body holds beside the fields of its form."""
    names = [f"{path}{name}" for name, value in (body.model_extra or {}).items() if value is not None]
    for name in type(body).model_fields:
        value = getattr(body, name)
        if isinstance(value, Body):
            names += unknown_fields(value, f"{path}{name}.")
    return names


def mark_of(field: FieldInfo) -> Mark:
    """The mark of a field."""
    for each in field.metadata:
        if isinstance(each, Honoured | Refused):
            return each
    raise AssertionError(f"a field of a body has no mark: {field!r}")


def nested_form(field: FieldInfo) -> type[Body] | None:
    """The form of the object that a field holds, if it is one with fields of its own."""
    options = [field.annotation, *getattr(field.annotation, "__args__", ())]
    for each in options:
        if isinstance(each, type) and issubclass(each, Body):
            return each
    return None


def wire_name(name: str, field: FieldInfo) -> str:
    """The field's name in JSON."""
    return field.alias or name


def _values(body: Body, path: str = "") -> Iterator[tuple[str, Any, FieldInfo]]:
    for name, field in type(body).model_fields.items():
        value = getattr(body, name)
        here = f"{path}{wire_name(name, field)}"
        yield here, value, field
        if isinstance(value, Body):
            yield from _values(value, f"{here}.")


def _is_neutral(value: object, mark: Refused) -> bool:
    return value is None or any(type(value) is type(each) and value == each for each in mark.neutral)


def _or(neutral: tuple[object, ...]) -> str:
    return "".join(f", or send {json.dumps(each)}" for each in neutral[:1])


def _first(error: ValidationError) -> FieldError:
    """The deepest of the problems, which for a field of several types is the one of the type that was meant."""
    problems = error.errors(include_url=False, include_context=False)
    fields = {problem["loc"][:1] for problem in problems}
    of_first = [problem for problem in problems if problem["loc"][:1] == min(fields, key=_order(problems))]
    problem = max(of_first, key=lambda each: len(_names(each["loc"])))
    param = _place(problem["loc"])
    if problem["type"] == "missing":
        return FieldError(f"{param} is missing.", param=param, code="missing_required_parameter")
    alike = [each["msg"] for each in of_first if _names(each["loc"]) == _names(problem["loc"])]
    reasons = dict.fromkeys(message.replace("Input should be", "must be") for message in alike)
    return FieldError(f"{param} {' or '.join(reasons)}, not {shown(problem['input'])}.", param=param)


def _order(problems: list[Any]) -> Any:
    first = [problem["loc"][:1] for problem in problems]
    return first.index


def _names(location: tuple[int | str, ...]) -> list[int | str]:
    """The part of a place that is in the request; pydantic adds the branch of a union to it."""
    return [word for word in location if isinstance(word, int) or (word.isidentifier() and word not in _BRANCHES)]


def _place(location: tuple[int | str, ...]) -> str:
    words = (f"[{word}]" if isinstance(word, int) else f".{word}" for word in _names(location))
    return "".join(words).removeprefix(".")


_BRANCHES = frozenset({"str", "int", "float", "bool"})
_JSON_NAMES = {str: "string", list: "list", dict: "object"}


def shown(value: object) -> str:
    """A wrong value as an error repeats it: JSON, and not too much of it."""
    if isinstance(value, str | list | dict) and len(value) > _SHOWN:
        return f"a {_JSON_NAMES[type(value)]} of length {len(value)}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
