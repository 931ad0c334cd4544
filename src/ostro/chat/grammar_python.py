"""Grammar of the arguments of pythonic calls: `a=1, b="x"`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ostro.chat.call_schemas import arguments_schema
from ostro.chat.grammar import Grammar, any_of, literal
from ostro.chat.llama_tools import pythonic_literal
from ostro.chat.messages import Tool
from ostro.errors import PromptError

_PYTHON_LITERALS = {
    "PY_STRING": r'/"(\\["\\nrtbf]|\\u[0-9a-fA-F]{4}|[^"\\\x00-\x1f])*"/',
    "PY_INTEGER": "/-?(0|[1-9][0-9]{0,17})/",
    "PY_NUMBER": r"/-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?/",
    "py_value": 'PY_STRING | PY_NUMBER | "True" | "False" | "None" | py_list | py_dict',
    "py_list": '"[" (py_value (", " py_value)*)? "]"',
    "py_dict": '"{" (py_entry (", " py_entry)*)? "}"',
    "py_entry": 'PY_STRING ": " py_value',
    "py_keyword": 'PY_NAME "=" py_value',
    "PY_NAME": "/[a-zA-Z_][a-zA-Z0-9_]*/",
}
_PYTHON_TYPES = {
    "string": "PY_STRING", "integer": "PY_INTEGER", "number": "PY_NUMBER", "boolean": '("True" | "False")',
    "null": '"None"', "object": "py_dict", "array": "py_list",
}  # fmt: skip


def add_python_literals(grammar: Grammar) -> None:
    """Rules of the literals, which `python_arguments` refers to."""
    for name, body in _PYTHON_LITERALS.items():
        grammar.add(name, body)


def python_arguments(grammar: Grammar, prefix: str, tool: Tool) -> str:
    """`a=1, b="x"`: the properties in their order, those that are required in any case; returns a rule.

    Types and enums of the properties hold; what else their schemas say cannot be told in this form.
    """
    schema = arguments_schema(tool)
    properties, required = schema.get("properties") or {}, schema.get("required") or ()
    if not isinstance(properties, Mapping) or not isinstance(required, Sequence):
        raise PromptError(f"The tool {tool.name!r} has a schema whose properties are no object; correct it.")
    if not properties:
        is_closed = schema.get("additionalProperties") is False
        return '""' if is_closed else '(py_keyword (", " py_keyword)*)?'
    # more_n: what may follow an argument, from property n on; first_n: the same where none has been written yet.
    more, first = '""', '""'
    for number, (name, described) in reversed(list(enumerate(properties.items()))):
        if not name.isidentifier():
            raise PromptError(f"The tool {tool.name!r} has the parameter {name!r}, which Python cannot name.")
        value = f'"{name}=" {_python_value(described)}'
        if name in required:
            first = grammar.add(f"{prefix}_first_{number}", f"{value} {more}")
            more = grammar.add(f"{prefix}_more_{number}", f'", " {value} {more}')
        else:
            first = grammar.add(f"{prefix}_first_{number}", f"{value} {more} | {first}")
            more = grammar.add(f"{prefix}_more_{number}", f'", " {value} {more} | {more}')
    return first


def _python_value(schema: object) -> str:
    if not isinstance(schema, Mapping):
        return "py_value"
    allowed = schema.get("enum") or ([schema["const"]] if "const" in schema else None)
    if isinstance(allowed, Sequence) and not isinstance(allowed, str):
        return any_of([literal(pythonic_literal(value)) for value in allowed])
    kinds = schema.get("type")
    if kinds == "array":
        item = _python_value(schema.get("items"))
        return f'("[" ({item} (", " {item})*)? "]")'
    if isinstance(kinds, list) and kinds and all(kind in _PYTHON_TYPES for kind in kinds):
        return any_of([_PYTHON_TYPES[kind] for kind in kinds])
    return _PYTHON_TYPES.get(str(kinds), "py_value")
