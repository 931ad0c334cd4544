"""@tool: what a model is told of a function, and what the function gets of a call."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostro.errors import ToolError
from ostro.tools import tool
from ostro.tools.hints import ArgumentError, kind_of


class Unit(enum.Enum):
    C = "celsius"
    F = "fahrenheit"


class Place(TypedDict):
    city: str
    zip: NotRequired[str]


@dataclass
class Range:
    low: float
    high: float = 1.0
    names: list[str] = field(default_factory=list)


def test_a_function_is_described() -> None:
    @tool
    def look_up(city: str, days: int = 3, unit: Unit = Unit.C, note: Annotated[str | None, "Anything."] = None) -> str:
        """Look the weather up.

        It takes a while.

        Args:
            city: The name of a city,
                in English.
            days (int): How many days.
              extra: not an argument.

        Returns:
            city: A text.
        """
        return f"{city} {days} {unit} {note}"

    definition = look_up.definition
    assert (definition.name, definition.strict) == ("look_up", False)
    assert definition.description == "Look the weather up.\n\nIt takes a while."
    assert definition.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "The name of a city, in English."},
            "days": {"type": "integer", "description": "How many days. extra: not an argument."},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "note": {"type": ["string", "null"], "description": "Anything."},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert look_up("Oslo", 2) == "Oslo 2 Unit.C None"
    assert look_up.read({"city": "Oslo", "unit": "fahrenheit"}, "") == {"city": "Oslo", "unit": Unit.F}
    assert look_up.__doc__ is not None


def test_fields_of_sphinx_and_options() -> None:
    @tool(name="other", policy="deny", timeout=2, strict=True)
    def function(a: int) -> int:
        """Do it.

        :param a: the first
        :param int a: a number
        :returns: it
        """
        return a

    assert (function.name, function.policy, function.timeout, function.definition.strict) == ("other", "deny", 2, True)
    assert function.definition.description == "Do it."
    assert function.definition.parameters is not None
    assert function.definition.parameters["properties"]["a"]["description"] == "the first"


KINDS: list[tuple[Any, Any, Any, list[Any]]] = [
    (str, "a", "a", [1, None]),
    (int, 3.0, 3, [True, 1.5, "1"]),
    (float, 3, 3.0, [False, "x"]),
    (bool, True, True, [1, "true"]),
    (Any, {"a": 1}, {"a": 1}, []),
    (list[int], [1, 2], [1, 2], [[1, "a"], {"a": 1}]),
    (list, [1, "a"], [1, "a"], ["a"]),
    (Sequence[str], ["a"], ["a"], ["a", [1]]),
    (set[str], ["a", "b"], {"a", "b"}, [[1]]),
    (tuple[int, str], [1, "a"], (1, "a"), [[1], [1, 2]]),
    (tuple[int, ...], [1, 2, 3], (1, 2, 3), [["a"]]),
    (dict[str, int], {"a": 1}, {"a": 1}, [{"a": "b"}, []]),
    (Mapping[str, Any], {"a": None}, {"a": None}, [3]),
    (Literal["a", 1], 1, 1, ["b", True]),
    (Unit, "celsius", Unit.C, ["C", None]),
    (Optional[int], None, None, ["a"]),  # noqa: UP045 - people write it
    (int | list[str], ["a"], ["a"], [[1], "a"]),
    (Place, {"city": "Oslo"}, {"city": "Oslo"}, [{}, {"city": "a", "x": 1}, {"city": "a", "zip": 1}]),
    (Range, {"low": 0}, Range(0.0), [{"low": "a"}, {}, {"low": 1, "names": [1]}]),
    (Annotated[int, {"minimum": 1}], 2, 2, []),
]


@pytest.mark.parametrize(("hint", "value", "meant", "refused"), KINDS, ids=lambda each: str(each)[:30])
def test_hints(hint: Any, value: Any, meant: Any, refused: list[Any]) -> None:
    kind = kind_of(hint, "It")
    jsonschema.Draft202012Validator.check_schema(kind.schema)
    jsonschema.validate(value, kind.schema)
    assert kind.read(value, "it") == meant
    for wrong in refused:
        with pytest.raises(ArgumentError, match="it"):
            kind.read(wrong, "it")
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, kind.schema)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda s: st.lists(s) | st.dictionaries(st.text(max_size=3), s),
    )
)
def test_any_value_is_read_or_refused(value: Any) -> None:
    for hint, *_ in KINDS:
        kind = kind_of(hint, "It")
        try:
            kind.read(value, "it")
        except ArgumentError:
            continue
        jsonschema.validate(
            value, {key: part for key, part in kind.schema.items() if key not in ("minimum", "uniqueItems")}
        )


def no_hint(a) -> None: ...  # type: ignore[no-untyped-def]


def many(*a: int) -> None: ...


def by_position(a: int, /) -> None: ...


def of_bytes(a: bytes) -> None: ...


def of_keys(a: dict[int, str]) -> None: ...


def of_choices(a: Literal[b"x"]) -> None: ...


def of_nothing(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (no_hint, "The argument a of no_hint has no type hint"),
        (many, "cannot be given by name"),
        (by_position, "cannot be given by name"),
        (of_bytes, "which JSON does not have"),
        (of_keys, "whose keys are no strings"),
        (of_choices, "that JSON does not have"),
        (of_nothing, "The signature of of_nothing cannot be read"),
        (lambda: None, "cannot be called '<lambda>'"),
    ],
)
def test_what_cannot_be_described(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(ToolError, match=words):
        tool(function)


def test_wrong_options() -> None:
    with pytest.raises(ToolError, match="there are ask, allow, deny"):
        tool(policy="sometimes")(test_wrong_options)  # type: ignore[call-overload]
    with pytest.raises(ToolError, match="greater than 0"):
        tool(timeout=0)(test_wrong_options)
