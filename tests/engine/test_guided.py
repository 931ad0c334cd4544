"""`Guided`: one form, checked and kept."""

from __future__ import annotations

from typing import Any

import pytest

from ostro import Guided, SamplingParams
from ostro.engine.guided import MAX_CHARACTERS
from ostro.errors import RequestError


def test_equal_contents_are_equal_and_order_counts() -> None:
    schema = {"properties": {"a": {}, "b": {}}}
    same = Guided(json_schema={"properties": {"a": {}, "b": {}}})
    other = Guided(json_schema={"properties": {"b": {}, "a": {}}})  # the order in which a model writes
    assert Guided(json_schema=schema) == same
    assert hash(Guided(json_schema=schema)) == hash(same)
    assert same != other
    assert Guided(choice=["a", "b"]) == Guided(choice=("a", "b"))
    assert Guided(regex="a") != Guided(grammar="a")
    assert Guided(json_schema=True) != Guided(json_object=True)


def test_a_schema_is_copied() -> None:
    schema: dict[str, Any] = {"enum": [1]}
    guided = Guided(json_schema=schema)
    schema["enum"].append(2)
    assert guided.json_schema == {"enum": [1]}
    assert guided.text == '{"enum": [1]}'


def itself() -> dict[str, Any]:
    schema: dict[str, Any] = {}
    schema["not"] = schema
    return schema


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "none of them"),
        ({"regex": "a", "choice": ["b"]}, "regex and choice"),
        ({"json_object": 1}, "json_object must be true or false, not 1"),
        ({"json_schema": False}, "nothing satisfies"),
        ({"json_schema": "{}"}, "is an object, or true, not '{}'"),
        ({"json_schema": {"a": float("nan")}}, "no JSON"),
        ({"json_schema": {"a": {1, 2}}}, "no JSON: it has a set"),
        ({"json_schema": {"a": "\ud800"}}, "no JSON"),
        ({"json_schema": itself()}, "no JSON|nested too deeply"),
        ({"json_schema": deep(100_000)}, "nested too deeply"),
        ({"regex": ""}, "regex must be a text that is not empty"),
        ({"regex": 5}, "regex must be a text that is not empty, not 5"),
        ({"regex": "a\0"}, "NUL character at 1"),
        ({"grammar": "\udc00"}, "lone surrogate at character 0"),
        ({"regex": "a" * (MAX_CHARACTERS + 1)}, "200001 characters, and at most 200000"),
        ({"choice": "yes"}, "list of texts"),
        ({"choice": []}, "list of texts"),
        ({"choice": ["a", ""]}, "not empty"),
        ({"choice": [1]}, "not empty, not 1"),
        ({"choice": ["a"] * 10_001}, "at most 10000"),
    ],
)
def test_what_is_no_form_is_refused(form: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words) as caught:
        Guided(**form)
    assert caught.value.param == "response_format"


def test_params_take_a_form_and_nothing_else() -> None:
    assert SamplingParams(guided=Guided(regex="a")).guided == Guided(regex="a")
    with pytest.raises(RequestError, match="guided must be a Guided"):
        SamplingParams(guided={"regex": "a"})  # type: ignore[arg-type]
