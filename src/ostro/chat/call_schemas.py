"""JSON schemas of calls and their arguments, made ready for a grammar."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ostro.chat.messages import Tool
from ostro.errors import PromptError
from ostro.json_schema import cleaned

MAX_CHARACTERS = 60_000
"""Schemas of all tools together, as JSON without their annotations, that a grammar can hold and be made of at once."""

_ANY_OBJECT = {"type": "object"}
_ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema"}
)
_MAPS_OF_SCHEMAS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_VALUES = frozenset({"const", "enum"})


def with_bounded_schemas(tools: Sequence[Tool]) -> list[Tool]:
    """The tools with schemas without annotations, which only the prompt needs.

    Where they are larger together than MAX_CHARACTERS, arguments of the tools that are not strict may be any object.
    """
    try:
        bare = [_bare_tool(tool) for tool in tools]
        size = sum(len(json.dumps(tool.parameters)) for tool in bare)
    except (TypeError, ValueError, RecursionError) as error:
        raise PromptError(f"The schema of a tool cannot be written as JSON: {error}.") from None
    if size > MAX_CHARACTERS:
        bare = [tool if tool.strict or not tool.parameters else replace(tool, parameters=_ANY_OBJECT) for tool in bare]
    return [enforceable(tool) if tool.strict else tool for tool in bare]


def enforceable(tool: Tool) -> Tool:
    """The tool, if all of its schema can be enforced; RequestError names the keyword that cannot."""
    if tool.parameters is None:
        return tool
    schema = cleaned(tool.parameters, name=f"The parameters of the tool {tool.name!r}", param="tools")
    return replace(tool, parameters={key: value for key, value in schema.items() if key != "x-guidance"})


def _bare_tool(tool: Tool) -> Tool:
    return tool if tool.parameters is None else replace(tool, parameters=_bare(tool.parameters))


def _bare(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_bare(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _MAPS_OF_SCHEMAS and isinstance(value, Mapping):
            kept[key] = {name: _bare(each) for name, each in value.items()}
        elif key in _VALUES:
            kept[key] = value
        elif key not in _ANNOTATIONS:
            kept[key] = _bare(value)
    return kept


def arguments_schema(tool: Tool) -> Mapping[str, Any]:
    """The schema of a tool's arguments: an object, and an empty one where the tool states no parameters."""
    if tool.parameters is None:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    kind = tool.parameters.get("type", "object")
    if kind != "object":
        raise PromptError(
            f"The tool {tool.name!r} has parameters of type {kind!r}; the arguments of a call are an object, so the "
            "schema must have the type 'object'."
        )
    return {**tool.parameters, "type": "object"}


def either_schema(first: Sequence[Mapping[str, Any]], second: Mapping[str, Any]) -> dict[str, Any]:
    """JSON of one of several schemas, whose references to themselves still hold."""
    schemas = [*first, second]
    return {"anyOf": [_relocated(schema, f"/anyOf/{number}") for number, schema in enumerate(schemas)]}


def call_schema(tool: Tool, key: str, *, typed: bool) -> dict[str, Any]:
    """A call as an object with the name, and the arguments under `key`."""
    properties: dict[str, Any] = {"type": {"const": "function"}} if typed else {}
    properties |= {"name": {"const": tool.name}, key: _relocated(arguments_schema(tool), f"/properties/{key}")}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _relocated(value: Any, pointer: str) -> Any:
    """A schema that has become the part of another at `pointer`: its references to "#" lead there."""
    if isinstance(value, Mapping):
        return {
            key: f"#{pointer}{item[1:]}"
            if key == "$ref" and isinstance(item, str) and (item == "#" or item.startswith("#/"))
            else item
            if key in _VALUES
            else _relocated(item, pointer)
            for key, item in value.items()
        }
    return [_relocated(item, pointer) for item in value] if isinstance(value, list) else value
