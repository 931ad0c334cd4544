"""A Jinja environment for templates that came with a model: no side effects, and work that is bounded by counting.

jinja2's own sandbox keeps a template from the machine. It does not keep it from looping for ever or from filling the
memory, so here every loop, macro call and growing value is charged, without a clock: the same template with the same
messages always gives the same outcome.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import chain
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_STEPS = 1_000_000
"""Rounds of all loops and calls together, in one rendering."""

MAX_SIZE = 8_000_000
"""Characters of any text, items of any list, and characters of the output."""

MAX_NUMBER = 1 << 63
_WIDE_FORMAT = re.compile(r"\d{5,}")


class Generation(Extension):
    """`{% generation %}`, with which some templates mark what the model writes; its body is written as it stands."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body of the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Renders one template once: the steps are counted from the environment's making."""

    intercepted_binops = frozenset({"+", "*", "**", "%", "//", "/", "-"})

    def __init__(self) -> None:
        loop_controls = "jinja2.ext.loopcontrols"
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loop_controls])
        self._steps_left = MAX_STEPS
        for name, function in list(self.filters.items()):
            self.filters[name] = _Checked(self, function)
        self.filters["_charged"] = self.charged
        self.filters["_sized"] = self.sized

    def charge(self, steps: int) -> None:
        """Take steps from the budget."""
        self._steps_left -= steps
        if self._steps_left < 0:
            raise SecurityError(f"it takes more than {MAX_STEPS:,} steps")

    def sized(self, value: Any) -> Any:
        """The value, if it is not too large."""
        if isinstance(value, int):
            if abs(value) > MAX_NUMBER:
                raise SecurityError("it makes a number of more than 64 bits")
        elif isinstance(value, Sized) and len(value) > MAX_SIZE:
            raise SecurityError(f"it makes a value of more than {MAX_SIZE:,} characters or items")
        return value

    def charged(self, iterable: Any) -> Any:
        """What a loop goes over: sized things are charged at once, others as they go."""
        if isinstance(iterable, Sized):
            self.charge(1 + len(iterable))
            return iterable
        return self._metered(iterable)

    def _metered(self, iterable: Iterable[Any]) -> Iterator[Any]:
        for item in iterable:
            self.charge(1)
            yield item

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic whose operands are small enough for it to be quick."""
        if operator == "**" and not (abs(left) <= 1024 and abs(right) <= 16):
            raise SecurityError("it raises a number to a large power")
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, Sized) and isinstance(times, int) and len(value) * times > MAX_SIZE:
                    raise SecurityError(f"it makes a value of more than {MAX_SIZE:,} characters or items")
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        return self.sized(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Any call in a template: charged, with arguments and a result of bounded size."""
        self.charge(1)
        _check_arguments(args, kwargs)
        receiver = getattr(function, "__self__", None)
        if isinstance(receiver, str):
            _check_growth(function.__name__, receiver, args)
        return self.sized(super().call(context, function, *args, **kwargs))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        for loop in template.find_all(nodes.For):
            loop.iter = _filter(loop.iter, "_charged")
        for block in template.find_all(nodes.AssignBlock):
            block.filter = _filter(block.filter, "_sized")
        for joined in list(template.find_all(nodes.Concat)):
            joined.nodes = [_filter(node, "_sized") for node in joined.nodes]
        for setter in template.find_all(nodes.Assign):
            setter.node = _filter(setter.node, "_sized")
        return template


class _Checked:
    """A filter that charges a step and bounds its arguments and result; jinja2's marks on the function are kept."""

    def __init__(self, environment: BoundedEnvironment, function: Callable[..., Any]) -> None:
        self._environment = environment
        self._function = function
        mark = getattr(function, "jinja_pass_arg", None)
        if mark is not None:
            self.jinja_pass_arg = mark
        self._passed = 1 if mark is not None else 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._environment.charge(1)
        own = args[self._passed :]
        _check_arguments(own[1:], kwargs)
        if own and isinstance(own[0], str):
            _check_growth(getattr(self._function, "__name__", "").removeprefix("do_"), own[0], own[1:])
        result = self._function(*args, **kwargs)
        if isinstance(result, Iterator):
            return self._environment.charged(result)
        return self._environment.sized(result)


def _check_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for value in chain(args, kwargs.values()):
        if isinstance(value, int) and abs(value) > 100_000:
            raise SecurityError("it calls something with a number above 100,000")


def _check_growth(name: str, text: str, args: tuple[Any, ...]) -> None:
    """Refuse what makes a large text out of small ones in a single step."""
    if name in ("format", "format_map"):
        _check_format(text)
    if name in ("replace", "join") and args:
        grown = max((len(a) for a in args if isinstance(a, (str, list, tuple))), default=0)
        if (len(text) + 1) * (grown + 1) > 64 * MAX_SIZE:
            raise SecurityError(f"its {name} could make a very large value")


def _check_format(text: str) -> None:
    if _WIDE_FORMAT.search(text):
        raise SecurityError("it pads a text to a great width")


def _filter(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None)
