"""From Python's type hints to JSON schemas, and from the JSON of a call back to values of those types."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ostro.errors import ToolError


class ArgumentError(ValueError):
    """An argument that the function does not take; the text says which, and what it takes. Meant for the model."""


@dataclass(frozen=True)
class Kind:
    """A type: its JSON schema, and `read(value, place)`, which gives the value in Python or raises ArgumentError."""

    schema: Mapping[str, Any]
    read: Callable[[Any, str], Any]


_PLAIN: Mapping[type, tuple[str, str]] = {
    str: ("string", "a string"),
    bool: ("boolean", "true or false"),
    int: ("integer", "a whole number"),
    float: ("number", "a number"),
    type(None): ("null", "null"),
}


def kind_of(hint: Any, where: str) -> Kind:
    """The kind of a type hint; ToolError, beginning with `where`, for one that JSON does not have."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return Kind({}, lambda value, _place: value)
    if origin is typing.Annotated:
        return _annotated(hint, where)
    if hint in _PLAIN:
        return _plain(hint)
    if origin is Literal:
        return _one_of({value: value for value in arguments}, where)
    if origin in (typing.Union, types.UnionType):
        return _union([kind_of(each, where) for each in arguments])
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _one_of({member.value: member for member in hint}, where)
    if typing.is_typeddict(hint):
        return _typed_dict(hint, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _dataclass(hint, where)
    container = origin or hint
    if container in (list, set, frozenset, tuple, Sequence):
        return _items(container, arguments, where)
    if container in (dict, Mapping):
        return _mapping(arguments, where)
    raise ToolError(
        f"{where} has the type {hint!r}, which JSON does not have. Use str, int, float, bool, None, list, dict, tuple, "
        "Literal, an Enum, a TypedDict, a dataclass, or unions of these."
    )


def _plain(hint: type) -> Kind:
    name, words = _PLAIN[hint]

    def read(value: Any, place: str) -> Any:
        is_bool = isinstance(value, bool)
        if hint is float and isinstance(value, int) and not is_bool:
            return float(value)
        if hint is int and isinstance(value, float) and value.is_integer():
            return int(value)
        if not isinstance(value, hint) or (is_bool and hint is not bool):
            raise _unlike(place, words, value)
        return value

    return Kind({"type": name}, read)


def _annotated(hint: Any, where: str) -> Kind:
    """`Annotated[T, "what it is"]`; a mapping among the notes is merged into the schema."""
    kind = kind_of(hint.__origin__, where)
    more: dict[str, Any] = {}
    for note in hint.__metadata__:
        if isinstance(note, str):
            more["description"] = note
        elif isinstance(note, Mapping):
            more |= note
    return Kind({**kind.schema, **more}, kind.read)


def _one_of(values: Mapping[Any, Any], where: str) -> Kind:
    if not values or not all(isinstance(value, str | int | bool | None) for value in values):
        raise ToolError(f"{where} has a choice with a value that JSON does not have; use strings and whole numbers.")

    def read(value: Any, place: str) -> Any:
        for known, meant in values.items():
            if known == value and isinstance(known, bool) == isinstance(value, bool):
                return meant
        raise _unlike(place, f"one of {', '.join(map(repr, values))}", value)

    return Kind({"enum": list(values)}, read)


def _union(kinds: Sequence[Kind]) -> Kind:
    def read(value: Any, place: str) -> Any:
        errors = []
        for kind in kinds:
            try:
                return kind.read(value, place)
            except ArgumentError as error:
                errors.append(str(error))
        raise ArgumentError(" ".join(dict.fromkeys(errors)))

    names = [kind.schema.get("type") for kind in kinds]
    if all(isinstance(name, str) and set(kind.schema) == {"type"} for name, kind in zip(names, kinds, strict=True)):
        return Kind({"type": names}, read)
    return Kind({"anyOf": [kind.schema for kind in kinds]}, read)


def _items(container: Any, arguments: Sequence[Any], where: str) -> Kind:
    make = list if container is Sequence else container
    if container is tuple and arguments and arguments[-1] is not Ellipsis:
        return _tuple([kind_of(each, where) for each in arguments])
    item = kind_of(arguments[0], where) if arguments else kind_of(Any, where)

    def read(value: Any, place: str) -> Any:
        if not isinstance(value, list):
            raise _unlike(place, "a list", value)
        return make(item.read(each, f"{place}[{number}]") for number, each in enumerate(value))

    unique = {"uniqueItems": True} if container in (set, frozenset) else {}
    return Kind({"type": "array", "items": item.schema, **unique}, read)


def _tuple(kinds: Sequence[Kind]) -> Kind:
    def read(value: Any, place: str) -> Any:
        if not isinstance(value, list) or len(value) != len(kinds):
            raise _unlike(place, f"a list of {len(kinds)}", value)
        return tuple(kind.read(each, f"{place}[{n}]") for n, (kind, each) in enumerate(zip(kinds, value, strict=True)))

    count = len(kinds)
    schemas = [kind.schema for kind in kinds]
    return Kind({"type": "array", "prefixItems": schemas, "minItems": count, "maxItems": count, "items": False}, read)


def _mapping(arguments: Sequence[Any], where: str) -> Kind:
    if arguments and arguments[0] is not str:
        raise ToolError(f"{where} is a dict whose keys are no strings, which JSON does not have.")
    item = kind_of(arguments[1], where) if arguments else kind_of(Any, where)

    def read(value: Any, place: str) -> Any:
        if not isinstance(value, dict):
            raise _unlike(place, "an object", value)
        return {key: item.read(each, f"{place}.{key}") for key, each in value.items()}

    schema = {"additionalProperties": item.schema} if item.schema else {}
    return Kind({"type": "object", **schema}, read)


def object_kind(kinds: Mapping[str, Kind], required: Sequence[str], make: Callable[..., Any]) -> Kind:
    """An object with these properties and no others; `make` gets those that are there as keywords."""

    def read(value: Any, place: str) -> Any:
        if not isinstance(value, dict):
            raise _unlike(place or "The arguments", "an object", value)
        begin = f"{place}." if place else ""
        if missing := [name for name in required if name not in value]:
            raise ArgumentError(f"{begin}{missing[0]} is missing.")
        if unknown := [name for name in value if name not in kinds]:
            known = ", ".join(kinds) or "no arguments"
            raise ArgumentError(f"{begin}{unknown[0]} is unknown; there are {known}.")
        return make(**{name: kinds[name].read(each, f"{begin}{name}") for name, each in value.items()})

    properties = {name: kind.schema for name, kind in kinds.items()}
    needs = {"required": list(required)} if required else {}
    return Kind({"type": "object", "properties": properties, **needs, "additionalProperties": False}, read)


def _typed_dict(hint: Any, where: str) -> Kind:
    hints = typing.get_type_hints(hint, include_extras=True)
    kinds = {name: kind_of(_unwrapped(each), f"{where}.{name}") for name, each in hints.items()}
    # Python does not see a NotRequired in annotations that are strings (PEP 563), so `__required_keys__` may have it.
    marks = {name: typing.get_origin(each) for name, each in hints.items()}
    may_miss = {name for name in hints if name not in hint.__required_keys__ and marks[name] is not typing.Required}
    may_miss |= {name for name, mark in marks.items() if mark is typing.NotRequired}
    return object_kind(kinds, [name for name in kinds if name not in may_miss], dict)


def _unwrapped(hint: Any) -> Any:
    """The type inside Required or NotRequired."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) in (typing.Required, typing.NotRequired) else hint


def _dataclass(hint: Any, where: str) -> Kind:
    hints = typing.get_type_hints(hint, include_extras=True)
    fields = [field for field in dataclasses.fields(hint) if field.init]
    kinds = {field.name: kind_of(hints[field.name], f"{where}.{field.name}") for field in fields}
    missing = dataclasses.MISSING
    required = [f.name for f in fields if f.default is missing and f.default_factory is missing]
    return object_kind(kinds, required, hint)


def _unlike(place: str, words: str, value: Any) -> ArgumentError:
    return ArgumentError(f"{place} must be {words}, not {value!r:.200}.")
