"""JSON schemas as constraints on what a model may write: what is honoured, and the refusal of everything else.

A keyword is enforced, or is a mere note (`title`, `description`, ...) and left out, or is refused by its name and
place. There is no fourth case, so an answer that is made by a cleaned schema satisfies the schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from ostro.errors import RequestError

MAX_DEPTH = 48
"""Of schemas in schemas."""
MAX_SCHEMAS = 20_000
"""All of them in one, each `true` and `{}` counted."""
MAX_COUNT = 2**31 - 1
"""The highest `maxLength` and the like."""
MAX_NUMBER = 2**53
"""Numbers beyond it are not exact in double precision."""
LEAST_NUMBER = 1e-30
"""Digits behind the point are spelt out, one rule inside the other."""

NOTES = frozenset(
    {
        "$comment", "contentEncoding", "contentMediaType", "default", "deprecated", "description", "discriminator",
        "example", "examples", "externalDocs", "readOnly", "title", "writeOnly",
    }
)  # fmt: skip
"""Keywords that say nothing about what is valid."""

FORMATS = ("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid")
TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")

LAYOUT: Mapping[str, Any] = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""JSON on one line: no whitespace but a space after a comma or a colon, if the model likes one.

Where whitespace is free, a small model may write nothing else until its tokens are spent.
"""


def cleaned(schema: Any, *, name: str = "The JSON schema", param: str = "response_format") -> dict[str, Any]:
    """The schema with nothing in it but what llguidance enforces as the standard says; it is told `LAYOUT`, too.

    RequestError (of `param`) names the keyword that is wrong or cannot be enforced, and its place in the schema, which
    `name` introduces.

    >>> cleaned({"type": "integer", "title": "Age", "minimum": 0})["minimum"]
    0
    >>> cleaned({"properties": {"a": {"type": "array", "uniqueItems": True}}})
    Traceback (most recent call last):
    ...
    ostro.errors.RequestError: The JSON schema, at #/properties/a: the keyword 'uniqueItems' cannot be enforced...
    """
    walk = _Walk(schema, name, param)
    result = walk.schema(schema, "#", 0)
    if result is False:
        raise walk.refusal("#", "nothing satisfies the schema false; give one that allows something")
    return {**(result if isinstance(result, dict) else {}), "x-guidance": dict(LAYOUT)}


def pattern_place(schema: Any, message: str, at: str = "#") -> str | None:
    """The place of the first `pattern` that a message about a regex quotes; None if it is about something else."""
    if "regex" not in message or not isinstance(schema, Mapping | list):
        return None
    parts = schema.items() if isinstance(schema, Mapping) else enumerate(schema)
    for name, part in parts:
        here = f"{at}/{escaped(name)}"
        if name == "pattern" and isinstance(part, str) and (part in message or without_nul(part) in message):
            return here
        if (found := pattern_place(part, message, here)) is not None:
            return found
    return None


class _Walk:
    """One pass over a schema. `at` is the place, as a JSON pointer."""

    def __init__(self, root: Any, name: str, param: str) -> None:
        self._root = root
        self._name = name
        self._param = param
        self._num_schemas = 0

    def refusal(self, at: str, reason: str) -> RequestError:
        return RequestError(f"{self._name}, at {at}: {reason}.", param=self._param)

    def schema(self, value: Any, at: str, depth: int) -> dict[str, Any] | bool:
        """A schema: an object of keywords, or true or false."""
        self._num_schemas += 1
        if self._num_schemas > MAX_SCHEMAS:
            raise self.refusal(at, f"there are more than {MAX_SCHEMAS} schemas in it; make it smaller")
        if depth > MAX_DEPTH:
            raise self.refusal(at, f"it is nested more than {MAX_DEPTH} schemas deep; make it flatter")
        if isinstance(value, bool):
            return value
        if not isinstance(value, Mapping):
            raise self.refusal(at, f"a schema is an object, true or false, not {value!r:.80}")
        result: dict[str, Any] = {}
        for keyword, content in value.items():
            if self._is_note(keyword, content, at):
                continue
            check = _KEYWORDS.get(keyword)
            if check is None:
                raise self._unknown(keyword, at)
            result[keyword] = check(self, content, f"{at}/{escaped(keyword)}", depth)
        self._check_properties(result, at)
        return result

    def _is_note(self, keyword: Any, content: Any, at: str) -> bool:
        """Whether the keyword may be left out because it, or its value, demands nothing."""
        if keyword in ("$schema", "$id", "id") and at == "#":
            return True
        if keyword in _NEUTRAL and any(content is value or content == value for value in _NEUTRAL[keyword]):
            return True
        return keyword in NOTES or (str(keyword).startswith("x-") and keyword != "x-guidance")

    def _unknown(self, keyword: Any, at: str) -> RequestError:
        remedy = _REMEDIES.get(keyword, "leave it out, or say the same with others")
        known = keyword in _REMEDIES or keyword in _STANDARD
        return self.refusal(
            at, f"the keyword {keyword!r} {'cannot be enforced' if known else 'is not known'}; {remedy}"
        )

    def _check_properties(self, result: dict[str, Any], at: str) -> None:
        """Names that a model makes up may repeat, and a repeated name is one property only."""
        least = result.get("minProperties", 0)
        if least > max(1, len(result.get("required", ()))):
            raise self.refusal(
                f"{at}/minProperties", f"{least} cannot be enforced beyond the names in 'required'; name them there"
            )

    def schemas(self, value: Any, at: str, depth: int) -> list[Any]:
        """A list of schemas that is not empty."""
        if not isinstance(value, list) or not value:
            raise self.refusal(at, f"it must be a list of schemas, not {value!r:.80}")
        return [self.schema(each, f"{at}/{i}", depth + 1) for i, each in enumerate(value)]

    def named_schemas(self, value: Any, at: str, depth: int) -> dict[str, Any]:
        """Schemas by names."""
        if not isinstance(value, Mapping):
            raise self.refusal(at, f"it must be an object of schemas, not {value!r:.80}")
        return {name: self.schema(each, f"{at}/{escaped(name)}", depth + 1) for name, each in value.items()}

    def subschema(self, value: Any, at: str, depth: int) -> Any:
        return self.schema(value, at, depth + 1)

    def items(self, value: Any, at: str, depth: int) -> Any:
        """One schema, or, as before draft 2020-12, a list of them by position."""
        return self.schemas(value, at, depth) if isinstance(value, list) else self.schema(value, at, depth + 1)

    def reference(self, value: Any, at: str, _depth: int) -> str:
        """A pointer into this schema that leads somewhere."""
        if not isinstance(value, str) or not (value == "#" or value.startswith("#/")):
            raise self.refusal(at, f"only references into the schema itself (#/...) are followed, not {value!r:.80}")
        target = self._root
        for part in unquote(value).split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(target, Mapping) and part in target:
                target = target[part]
            elif isinstance(target, list) and part.isdigit() and int(part) < len(target):
                target = target[int(part)]
            else:
                raise self.refusal(at, f"{value!r:.80} leads nowhere")
        if not isinstance(target, Mapping | bool):
            raise self.refusal(at, f"{value!r:.80} leads to no schema")
        return value

    def types(self, value: Any, at: str, _depth: int) -> Any:
        names = value if isinstance(value, list) else [value]
        if not names or not all(isinstance(name, str) and name in TYPES for name in names):
            raise self.refusal(at, f"it must be one of {', '.join(TYPES)}, or a list of them, not {value!r:.80}")
        return value

    def values(self, value: Any, at: str, _depth: int) -> Any:
        if not isinstance(value, list) or not value:
            raise self.refusal(at, f"it must be a list of values that is not empty, not {value!r:.80}")
        return [self.value(each, f"{at}/{i}", 0) for i, each in enumerate(value)]

    def value(self, value: Any, at: str, depth: int) -> Any:
        """A JSON value that is meant as it stands."""
        if depth > MAX_DEPTH:
            raise self.refusal(at, f"it is nested more than {MAX_DEPTH} values deep; make it flatter")
        if isinstance(value, Mapping):
            return {name: self.value(each, f"{at}/{escaped(name)}", depth + 1) for name, each in value.items()}
        if isinstance(value, list):
            return [self.value(each, f"{at}/{i}", depth + 1) for i, each in enumerate(value)]
        return value if value is None or isinstance(value, bool | str) else self.number(value, at, depth)

    def number(self, value: Any, at: str, _depth: int) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise self.refusal(at, f"it must be a number, not {value!r:.80}")
        if abs(value) > MAX_NUMBER:
            shown = f"{value!r:.80}" if abs(value) < 10**80 else "far more"
            raise self.refusal(at, f"numbers beyond 2^53 = {MAX_NUMBER} cannot be kept to, and this is {shown}")
        if 0 < abs(value) < LEAST_NUMBER:
            raise self.refusal(at, f"numbers below {LEAST_NUMBER} cannot be kept to, and this is {value!r}")
        return value

    def bound(self, value: Any, at: str, depth: int) -> Any:
        """Of exclusiveMinimum and its like: a number, or true or false as in draft 4."""
        return value if isinstance(value, bool) else self.number(value, at, depth)

    def divisor(self, value: Any, at: str, depth: int) -> Any:
        if self.number(value, at, depth) <= 0:
            raise self.refusal(at, f"it must be greater than 0, not {value!r}")
        return value

    def count(self, value: Any, at: str, _depth: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
            raise self.refusal(at, f"it must be a whole number of at least 0, not {value!r:.80}")
        if not 0 <= value <= MAX_COUNT:
            raise self.refusal(at, f"it must be from 0 to {MAX_COUNT}")
        return int(value)

    def text(self, value: Any, at: str, _depth: int) -> str:
        if not isinstance(value, str):
            raise self.refusal(at, f"it must be a text, not {value!r:.80}")
        return value

    def pattern(self, value: Any, at: str, depth: int) -> str:
        """A regex. See `without_nul`."""
        text = self.text(value, at, depth)
        for found in _NUL_CLASSES.finditer(text):
            if found[1]:
                raise self.refusal(at, f"{found[1]} cannot be enforced exactly; name the characters that are allowed")
        return without_nul(text)

    def texts(self, value: Any, at: str, _depth: int) -> list[str]:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self.refusal(at, f"it must be a list of texts, not {value!r:.80}")
        return list(value)

    def format(self, value: Any, at: str, _depth: int) -> str:
        if value not in FORMATS:
            raise self.refusal(at, f"{value!r:.80} is not enforced; known are {', '.join(FORMATS)}")
        return str(value)


_NUL_CLASSES = re.compile(
    r"\\\\|(\\P|\\p\{\^|\\p\{?C|\[:\^|\[:cntrl|\\x(?:00|\{0+\})|\\u(?:0000|\{0+\})|\\0|\[[^\]]*(?:&&|--|~~))"
)
"""Classes that may hold all control characters but no quote; see `without_nul`."""


def without_nul(pattern: str) -> str:
    r"""A regex whose negated classes leave NUL out too, which no model has a use for.

    llguidance 1.9 escapes classes for JSON. One that has all control characters gets all short escapes with them, so
    that `[^"]` would match a quote after all. Without NUL it is escaped character by character, and exactly.

    >>> print(without_nul(r'^[^"]+\[^[^]a]]$'))
    ^[^\x00"]+\[^[^\x00\]a]]$
    """
    return _NEGATED.sub(lambda found: _INSTEAD.get(found[0], found[0]), pattern)


_NEGATED = re.compile(r"\\.|\[\^\]?", re.DOTALL)
_INSTEAD = {"[^": r"[^\x00", "[^]": r"[^\x00\]"}


def escaped(name: object) -> str:
    """A name as a part of a JSON pointer."""
    return str(name).replace("~", "~0").replace("/", "~1")


_Check = Callable[[_Walk, Any, str, int], Any]

_KEYWORDS: dict[str, _Check] = {
    "type": _Walk.types, "enum": _Walk.values, "const": _Walk.value,
    "anyOf": _Walk.schemas, "oneOf": _Walk.schemas, "allOf": _Walk.schemas,
    "$ref": _Walk.reference, "$defs": _Walk.named_schemas, "definitions": _Walk.named_schemas,
    "properties": _Walk.named_schemas, "additionalProperties": _Walk.subschema, "required": _Walk.texts,
    "minProperties": _Walk.count, "maxProperties": _Walk.count,
    "items": _Walk.items, "prefixItems": _Walk.schemas, "additionalItems": _Walk.subschema,
    "minItems": _Walk.count, "maxItems": _Walk.count,
    "minLength": _Walk.count, "maxLength": _Walk.count, "pattern": _Walk.pattern, "format": _Walk.format,
    "minimum": _Walk.number, "maximum": _Walk.number, "multipleOf": _Walk.divisor,
    "exclusiveMinimum": _Walk.bound, "exclusiveMaximum": _Walk.bound,
}  # fmt: skip

KEYWORDS = tuple(sorted(_KEYWORDS))
"""What is enforced."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "uniqueItems": (False,), "nullable": (False,), "minProperties": (0,), "unevaluatedProperties": (True, {}),
    "unevaluatedItems": (True, {}), "patternProperties": ({},), "dependentRequired": ({},), "dependentSchemas": ({},),
    "propertyNames": (True, {}),
}  # fmt: skip
"""Values of keywords that demand nothing."""

_REMEDIES = {
    "nullable": 'it is no JSON schema: put "null" into the list of types',
    "patternProperties": "name the properties, or use additionalProperties",
    "uniqueItems": "use an enum of lists, or check the answer yourself",
    "not": "say what is allowed",
    "if": "use anyOf with the cases",
    "then": "use anyOf with the cases",
    "else": "use anyOf with the cases",
    "unevaluatedProperties": "use additionalProperties",
    "$id": "only the outermost schema may have one",
    "id": "only the outermost schema may have one",
    "$schema": "only the outermost schema may have one",
    "x-guidance": "whitespace and escapes are not for the schema to choose",
}
_STANDARD = frozenset(
    {
        "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "$vocabulary", "contains",
        "contentSchema", "dependencies", "dependentRequired", "dependentSchemas", "maxContains", "minContains",
        "propertyNames", "unevaluatedItems",
    }
)  # fmt: skip
