"""Schemas as the engine takes them: everything is enforced, a note, or refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostro.errors import RequestError
from ostro.json_schema import KEYWORDS, LAYOUT, MAX_DEPTH, MAX_NUMBER, MAX_SCHEMAS, cleaned, pattern_place


def test_notes_are_left_out_and_names_are_kept() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.com/a",
        "title": "A",
        "x-order": 3,
        "properties": {"title": {"type": "string", "description": "?"}, "x-y": {"const": {"title": 1, "not": 2}}},
        "default": {"not": 1},
        "uniqueItems": False,
        "required": ["title"],
    }
    assert cleaned(schema) == {
        "properties": {"title": {"type": "string"}, "x-y": {"const": {"title": 1, "not": 2}}},
        "required": ["title"],
        "x-guidance": LAYOUT,
    }
    assert cleaned(True) == {"x-guidance": LAYOUT}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "place", "words"),
    [
        (False, "#", "nothing satisfies"),
        ([], "#", "a schema is an object, true or false"),
        ({"typ": "string"}, "#", "'typ' is not known"),
        ({"properties": {"a/b": {"items": {"not": {}}}}}, "#/properties/a~1b/items", "'not' cannot be enforced"),
        ({"type": "array", "uniqueItems": True}, "#", "'uniqueItems' cannot be enforced"),
        ({"patternProperties": {"a": {}}}, "#", "'patternProperties' cannot be enforced"),
        ({"allOf": [{}, {"if": {}}]}, "#/allOf/1", "'if' cannot be enforced; use anyOf"),
        ({"nullable": True}, "#", 'put "null" into'),
        ({"x-guidance": {"lenient": True}}, "#", "'x-guidance'"),
        ({"items": {"$id": "b"}}, "#/items", "only the outermost"),
        ({"type": "strin"}, "#/type", "not 'strin'"),
        ({"type": []}, "#/type", "one of array"),
        ({"enum": []}, "#/enum", "not empty"),
        ({"enum": [1, {"a": [MAX_NUMBER + 2]}]}, "#/enum/1/a/0", "2\\^53"),
        ({"anyOf": []}, "#/anyOf", "list of schemas"),
        ({"anyOf": {}}, "#/anyOf", "list of schemas"),
        ({"properties": []}, "#/properties", "object of schemas"),
        ({"required": "a"}, "#/required", "list of texts"),
        ({"required": [1]}, "#/required", "list of texts"),
        ({"minLength": -1}, "#/minLength", "from 0 to"),
        ({"maxLength": 1.5}, "#/maxLength", "whole number"),
        ({"maxItems": True}, "#/maxItems", "whole number"),
        ({"maxItems": 10**10}, "#/maxItems", "from 0 to"),
        ({"minimum": "1"}, "#/minimum", "must be a number"),
        ({"maximum": 1e300}, "#/maximum", "2\\^53"),
        ({"minimum": 10**400}, "#/minimum", "2\\^53"),
        ({"exclusiveMinimum": 1e-200}, "#/exclusiveMinimum", "below 1e-30"),
        ({"multipleOf": 0}, "#/multipleOf", "greater than 0"),
        ({"pattern": 1}, "#/pattern", "must be a text"),
        ({"pattern": r"^\P{L}$"}, "#/pattern", r"\\P cannot be enforced exactly"),
        ({"pattern": r"[a&&b]"}, "#/pattern", "cannot be enforced exactly"),
        ({"pattern": r"[\x00-\x1f]"}, "#/pattern", "cannot be enforced exactly"),
        ({"format": "iri"}, "#/format", "'iri' is not enforced; known are date"),
        ({"minProperties": 2, "required": ["a"]}, "#/minProperties", "2 cannot be enforced beyond"),
        ({"$ref": "https://example.com/x"}, "#/\\$ref", "into the schema itself"),
        ({"$ref": "file:///etc/passwd"}, "#/\\$ref", "into the schema itself"),
        ({"$ref": "#anchor"}, "#/\\$ref", "into the schema itself"),
        ({"$ref": "#/$defs/a"}, "#/\\$ref", "leads nowhere"),
        ({"$ref": "#/enum/0", "enum": [1]}, "#/\\$ref", "leads to no schema"),
        (nested(MAX_DEPTH + 1), "#/items/items", "nested more than 48 schemas deep"),
        ({"const": {"a": nested(MAX_DEPTH + 1)}}, "#/const/a/items", "nested more than 48 values deep"),
        ({"anyOf": [{}] * (MAX_SCHEMAS + 1)}, "#/anyOf/19999", "more than 20000 schemas"),
    ],
)
def test_what_is_refused_is_named_with_its_place(schema: Any, place: str, words: str) -> None:
    with pytest.raises(RequestError, match=f"^The JSON schema, at {place}.*{words}") as caught:
        cleaned(schema)
    assert caught.value.param == "response_format"


_JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from([*KEYWORDS, "not", "title", "x-guidance"]), st.text()), inner),
    ),
    max_leaves=12,
)


@given(schema=_JUNK)
def test_whatever_comes_is_cleaned_or_refused(schema: Any) -> None:
    try:
        result = cleaned(schema)
    except RequestError as error:
        assert error.param == "response_format"  # noqa: PT017 - either is right
        return
    assert set(result) <= {*KEYWORDS, "x-guidance"}


def test_references_are_followed_by_their_names() -> None:
    schema = {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "null"}}, "anyOf": [{"$ref": "#/anyOf/1"}, {}]}
    assert cleaned(schema)["$ref"] == "#/$defs/a~1b%20c"


def test_the_caller_says_what_it_is() -> None:
    with pytest.raises(RequestError, match="The parameters of tool 'f', at #") as caught:
        cleaned({"no": 1}, name="The parameters of tool 'f'", param="tools")
    assert caught.value.param == "tools"


def test_every_keyword_is_in_the_documentation() -> None:
    from pathlib import Path

    page = (Path(__file__).parents[1] / "docs" / "structured-output.md").read_text(encoding="utf-8")
    assert [keyword for keyword in KEYWORDS if f"`{keyword}`" not in page] == []


def test_a_pattern_is_found_by_what_is_said_of_it() -> None:
    schema = {"properties": {"a": {"pattern": "x+"}, "pattern": {"pattern": "(?=y)"}}}
    assert pattern_place(schema, "regex parse error: (?=y)") == "#/properties/pattern/pattern"
    assert pattern_place(schema, "something else: (?=y)") is None
