"""Python functions as tools: `@tool` reads their signature and docstring."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, overload

from ostro.chat.messages import Tool
from ostro.errors import ToolError
from ostro.tools.hints import Kind, kind_of, object_kind

Policy: TypeAlias = Literal["ask", "allow", "deny"]
POLICIES: tuple[Policy, ...] = typing.get_args(Policy)
"""ask: somebody is asked before each call; allow: calls run; deny: they never do, and the model is told so."""

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SECTION = re.compile(r"^\s*(Args|Arguments|Parameters|Returns?|Raises|Yields?|Examples?|Notes?):\s*$")
_ARGUMENTS = ("Args", "Arguments", "Parameters")
_ARGUMENT = re.compile(r"^\s+\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")
_FIELD = re.compile(r"^\s*:param\s+(?:[^:]*\s)?(\w+):\s*(.*)$")


@dataclass(eq=False)
class FunctionTool:
    """A function that a model may call. It is called in Python as it was before.

    `read` makes its keyword arguments of the JSON of a call. `policy` and `timeout` (in seconds) are the function's
    own; None leaves them to the `ToolBox`. `is_builtin`: Llama 3.1 knows the tool by its name, without a definition.
    """

    definition: Tool
    function: Callable[..., Any]
    read: Callable[[Any, str], dict[str, Any]] = field(repr=False)
    policy: Policy | None = None
    timeout: float | None = None
    is_builtin: bool = False

    def __post_init__(self) -> None:
        """Refuse what no request could hold."""
        if not _NAME.fullmatch(self.name):
            raise ToolError(f"A tool cannot be called {self.name!r}: a name is 1 to 64 letters, digits, _ and -.")
        check_policy(self.policy, self.name)
        check_timeout(self.timeout, self.name)
        functools.update_wrapper(self, self.function, updated=())

    @property
    def name(self) -> str:
        """What the model calls it by."""
        return self.definition.name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself."""
        return self.function(*args, **kwargs)


@overload
def tool(function: Callable[..., Any], /) -> FunctionTool: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    policy: Policy | None = None,
    timeout: float | None = None,
    strict: bool = False,
) -> Callable[[Callable[..., Any]], FunctionTool]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    policy: Policy | None = None,
    timeout: float | None = None,
    strict: bool = False,
) -> FunctionTool | Callable[[Callable[..., Any]], FunctionTool]:
    """Make a tool of a function: its name, its docstring, and the schema of its type hints.

    The docstring's first part describes the tool; arguments are described in its section "Args:" (or by `:param x:`),
    or by `Annotated[str, "what it is"]`. Every argument needs a type hint. `strict` has the engine keep the schema to
    the letter, or refuse it.

    >>> @tool
    ... def get_weather(city: str, unit: Literal["C", "F"] = "C") -> str:
    ...     '''The weather of a city.
    ...
    ...     Args:
    ...         city: Its name, in English.
    ...     '''
    ...     return f"Rain in {city}, 12 {unit}"
    >>> get_weather.definition.description
    'The weather of a city.'
    >>> get_weather.definition.parameters["properties"]["city"]
    {'type': 'string', 'description': 'Its name, in English.'}
    >>> get_weather("Oslo")
    'Rain in Oslo, 12 C'

    ToolError for a function that cannot be described.
    """
    if function is None:
        return lambda given: _make(given, name, description, policy, timeout, strict=strict)
    return _make(function, None, None, None, None, strict=False)


def as_tool(given: FunctionTool | Callable[..., Any]) -> FunctionTool:
    """A tool as it is; of a plain function one is made."""
    if isinstance(given, FunctionTool):
        return given
    if not callable(given):
        raise ToolError(f"A tool is a function, or one with @tool before it, not {given!r:.100}.")
    return tool(given)


def check_policy(policy: object, name: str) -> None:
    """ToolError for what is no policy."""
    if policy is not None and policy not in POLICIES:
        raise ToolError(f"The policy of {name} is {policy!r}; there are {', '.join(POLICIES)}.")


def check_timeout(timeout: object, name: str) -> None:
    """ToolError for what is no time."""
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (is_number and 0 < typing.cast(float, timeout) < float("inf")):
        raise ToolError(f"The timeout of {name} is {timeout!r}; it is a number of seconds greater than 0.")


def _make(
    function: Callable[..., Any],
    name: str | None,
    description: str | None,
    policy: Policy | None,
    timeout: float | None,
    *,
    strict: bool,
) -> FunctionTool:
    called = name or str(getattr(function, "__name__", type(function).__name__))
    told, arguments = _described(inspect.getdoc(function) or "")
    kind = _signature(function, called, arguments)
    definition = Tool(called, description or told or None, kind.schema, strict)
    return FunctionTool(definition, function, kind.read, policy, timeout)


def _signature(function: Callable[..., Any], name: str, described: Mapping[str, str]) -> Kind:
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(function, include_extras=True)
    except (TypeError, ValueError, NameError) as error:
        raise ToolError(f"The signature of {name} cannot be read: {error}.") from None
    kinds: dict[str, Kind] = {}
    required = []
    for parameter in signature.parameters.values():
        where = f"The argument {parameter.name} of {name}"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ToolError(f"{where} cannot be given by name, as calls give arguments; write it as an ordinary one.")
        if parameter.name not in hints:
            raise ToolError(f"{where} has no type hint; give one, such as {parameter.name}: str.")
        kind = kind_of(hints[parameter.name], where)
        if (words := described.get(parameter.name)) and "description" not in kind.schema:
            kind = Kind({**kind.schema, "description": words}, kind.read)
        kinds[parameter.name] = kind
        if parameter.default is parameter.empty:
            required.append(parameter.name)
    return object_kind(kinds, required, dict)


def _described(docstring: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function, up to its first section, and of each argument."""
    told: list[str] = []
    arguments: dict[str, list[str]] = {}
    section: str | None = ""
    current: list[str] | None = None
    margin: int | None = None
    for line in docstring.splitlines():
        indent = len(line) - len(line.lstrip())
        if match := _SECTION.match(line):
            section, current, margin = match[1], None, None
        elif match := _FIELD.match(line):
            section, current = None, arguments.setdefault(match[1], [match[2]])
        elif section in _ARGUMENTS and margin in (None, indent) and (match := _ARGUMENT.match(line)):
            margin = indent
            current = arguments.setdefault(match[1], [match[2]])
        elif current is not None and line.strip() and not line.lstrip().startswith(":"):
            current.append(line.strip())
        elif section == "":
            told.append(line)
        else:
            current = None
    return "\n".join(told).strip(), {name: " ".join(filter(None, lines)) for name, lines in arguments.items()}
