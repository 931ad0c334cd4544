"""JSON schemas for tests: some that people write, and any number that hypothesis makes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "born": {"type": "string", "format": "date"},
        "height": {"type": "number", "minimum": 0.3, "maximum": 2.5},
        "mood": {"enum": ["glad", "sad", None, 3]},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{1,8}$"}, "maxItems": 3},
        "friend": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "required": ["name", "born", "mood"],
    "additionalProperties": False,
}
SCHEMAS: dict[str, Any] = {
    "person": PERSON,
    "tree": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer", "minimum": -5, "maximum": 5},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
                },
                "required": ["value", "children"],
                "additionalProperties": False,
            }
        },
    },
    "korean": {
        "type": "object",
        "properties": {"이름": {"type": "string", "pattern": "^[가-힣]{2,4}$"}, "나이": {"const": 37}, 'a"\\\n': {}},
        "required": ["이름", "나이", 'a"\\\n'],
        "additionalProperties": {"type": "boolean"},
        "maxProperties": 4,
    },
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "boolean"}, {"type": "integer", "multipleOf": 5, "minimum": 5, "maximum": 500}],
        "items": {"enum": ["x", [1, {"y": '\u20ac\t"'}], 1.5, -0.25]},
        "minItems": 3,
        "maxItems": 5,
    },
    "tagged": {
        "oneOf": [
            {
                "type": "object",
                "properties": {
                    "kind": {"const": kind},
                    "size": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9},
                },
                "required": ["kind", "size"],
                "additionalProperties": False,
            }
            for kind in ("cat", "dog")
        ]
    },
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "number", "maximum": 3}}, "required": ["a"]},
            {"properties": {"a": {"minimum": 1}, "b": {"type": ["null", "boolean"]}}, "required": ["b"]},
        ],
        "additionalProperties": False,
        "properties": {"a": {}, "b": {}},
    },
    "uuid": {"type": "string", "format": "uuid"},
    "moment": {"type": "string", "format": "date-time"},
    "address": {"type": "string", "format": "ipv4"},
    "lengths": {"type": "string", "minLength": 3, "maxLength": 5},
    "sixteenths": {"type": "number", "multipleOf": 0.0625, "minimum": -2, "maximum": 2},
    "old draft": {"type": "array", "items": [{"type": "null"}], "additionalItems": {"type": "boolean"}, "maxItems": 3},
    "one of each": {"type": ["null", "boolean", "integer", "array"], "minimum": 7, "maximum": 77, "maxItems": 0},
}

_NUMBERS = st.one_of(st.integers(-200, 200), st.integers(-800, 800).map(lambda n: n / 16))
_NAMES = st.sampled_from(["a", "b", "name", "키", "x y", 'q"'])
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1000, 1000), st.text(max_size=5), _NUMBERS),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(_NAMES, inner, max_size=2)),
    max_leaves=4,
)


def _some(**keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name.replace("_", "$"): each for name, each in keywords.items()})


def _typed(kind: str, keywords: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return keywords.map(lambda found: {"type": kind, **found})


def _bounds(low: str, high: str, most: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(st.integers(0, most), st.integers(0, most)).map(lambda n: {low: min(n), high: max(n)})


def _merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {name: value for part in found for name, value in part.items()})


_NUMERIC = _some(
    minimum=_NUMBERS, maximum=_NUMBERS, exclusiveMinimum=_NUMBERS, exclusiveMaximum=_NUMBERS,
    multipleOf=st.sampled_from([1, 2, 7, 12, 0.5, 0.25, 1.5]),
)  # fmt: skip
_PATTERNS = st.sampled_from(
    ["^[a-c]{1,3}$", "^\\d+$", "b", "^x.*y$", "^(ab|cd)?$", '^[^"]{1,3}$', '^[^"\\\\]$', "[가-힣]$", "\\w\\s"]
)
_LEAVES = st.one_of(
    st.just({"type": "null"}),
    st.just({"type": "boolean"}),
    _typed("integer", _NUMERIC),
    _typed("number", _NUMERIC),
    _typed("string", _merged(_some(pattern=_PATTERNS), _bounds("minLength", "maxLength", 9))),
    _typed("string", _some(pattern=_PATTERNS)),
    _typed("string", _some(format=st.sampled_from(["date", "time", "ipv4", "uuid", "date-time"]))),
    st.lists(_VALUES, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    _VALUES.map(lambda value: {"const": value}),
)


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    properties = _some(properties=st.dictionaries(_NAMES, inner, max_size=3), additionalProperties=inner)
    closed = _some(required=st.lists(_NAMES, max_size=2, unique=True), additionalProperties=st.just(False))
    return st.one_of(
        _typed("object", _merged(properties, closed)),
        _typed("object", _merged(_some(additionalProperties=inner), _some(maxProperties=st.integers(0, 3)))),
        _typed("array", _merged(_some(items=inner), _bounds("minItems", "maxItems", 4))),
        _typed("array", _merged(_some(items=inner), _some(prefixItems=st.lists(inner, min_size=1, max_size=3)))),
        st.lists(inner, min_size=1, max_size=3).map(lambda cases: {"anyOf": cases}),
        st.lists(inner, min_size=1, max_size=2).map(lambda cases: {"oneOf": cases}),
        st.lists(inner, min_size=1, max_size=2).map(lambda parts: {"allOf": parts}),
        _merged(inner, st.lists(inner, min_size=1, max_size=2).map(lambda cases: {"anyOf": cases})),
        inner.map(lambda each: {"$ref": "#/$defs/it", "$defs": {"it": each}}),
    )


def _outermost(schema: Any) -> Any:
    """References are written from the root: definitions that ended up further inside are put in their place."""
    if isinstance(schema, dict) and "$ref" in schema and "$defs" in schema:
        return _outermost(schema["$defs"]["it"])
    if isinstance(schema, dict):
        return {name: _outermost(part) for name, part in schema.items()}
    return [_outermost(part) for part in schema] if isinstance(schema, list) else schema


schemas: st.SearchStrategy[Any] = st.recursive(_LEAVES, _larger, max_leaves=6).map(
    lambda schema: {"$ref": "#/$defs/it", "$defs": {"it": _outermost(schema)}}
)
"""Any schema of the keywords that are enforced, behind a reference; it may be one that nothing satisfies."""
