"""A Jinja environment for templates that came with a model: no side effects, and work that is bounded by counting.

jinja2's own sandbox keeps a template from the machine. It does not keep it from looping for ever or from filling the
memory. So here the template's syntax tree is changed before it runs: every round of a loop, every call and every value
that can grow is charged to one budget. No clock is read: the same template with the same messages always ends alike.
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
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_STEPS = 1_000_000
"""Steps of one rendering, which take a few seconds at worst. A round of a loop or a filter is one."""

CHARS_PER_STEP = 64
_ITEMS_PER_STEP = 8
_STEPS_PER_CALL = 5

MAX_SIZE = 4_000_000
"""Characters of any text, items of any list, and characters of the output."""

MAX_NUMBER = 1 << 63
_MAX_ARGUMENT = 10_000
_WIDE_FORMAT = re.compile(r"\d{5,}|\*|:[^{}]*\{")
_HOLDERS = (list, tuple, dict, Namespace)


class Generation(Extension):
    """`{% generation %}`, with which some templates mark what the model writes; its body is written as it stands."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body of the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Renders one template once: the steps are counted from the environment's making."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        loop_controls = "jinja2.ext.loopcontrols"
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loop_controls])
        self._steps_left = MAX_STEPS
        for name in ("lipsum", "random"):  # what differs from one rendering to the next
            self.globals.pop(name, None)
            self.filters.pop(name, None)
        tables: list[dict[str, Any]] = [self.filters, self.tests]
        for table in tables:
            for name, function in list(table.items()):
                table[name] = _Checked(self, function)
        self.filters["_rounds"] = self.rounds
        self.filters["_sized"] = self.sized

    def add_filter(self, name: str, function: Callable[..., Any]) -> None:
        """A filter of the caller's, charged as the others are."""
        self.filters[name] = _Checked(self, function)

    def charge(self, steps: int) -> None:
        """Take steps from the budget."""
        self._steps_left -= steps
        if self._steps_left < 0:
            raise SecurityError(f"it takes more than {MAX_STEPS:,} steps")

    def sized(self, value: Any) -> Any:
        """The value, if it is not too large; charged by its size."""
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise SecurityError("it makes a number of more than 64 bits")
        if isinstance(value, Sized) and len(value) > MAX_SIZE:
            raise SecurityError(f"it makes a value of more than {MAX_SIZE:,} characters or items")
        if isinstance(value, str):
            self.charge(len(value) // CHARS_PER_STEP)
        elif isinstance(value, _HOLDERS):
            self._charge_contents(value)
        return value

    def _charge_contents(self, value: Any) -> None:
        """Charge for all that a list or dict holds, at any depth: a few shared lists can stand for a giant."""
        waiting = [value]
        while waiting:
            holder = waiting.pop()
            if isinstance(holder, Namespace):
                holder = holder._Namespace__attrs
            items = [*holder.values()] if isinstance(holder, dict) else holder
            self.charge(1 + len(items) // _ITEMS_PER_STEP)
            for item in items:
                if isinstance(item, str):
                    self.charge(len(item) // CHARS_PER_STEP)
                elif isinstance(item, _HOLDERS):
                    waiting.append(item)

    def rounds(self, iterable: Any, weight: int = 1) -> Any:
        """What a loop goes over: sized things are charged at once, others as they go."""
        if isinstance(iterable, Sized):
            self.charge(1 + weight * len(iterable))
            return iterable
        return self._metered(iterable, weight)

    def _metered(self, iterable: Iterable[Any], weight: int) -> Iterator[Any]:
        for item in iterable:
            self.charge(weight)
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
        self.charge(_STEPS_PER_CALL)
        receiver = getattr(function, "__self__", None)
        if isinstance(receiver, str):
            self.sized(receiver)
            _check_arguments(args, kwargs)
            _check_growth(function.__name__, receiver, args)
        return self.sized(super().call(context, function, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """str.format, whose text may ask for a great width."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            _check_format(value.__self__)
        return wrapped

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        metered = _Meter().visit(template)
        assert isinstance(metered, nodes.Template)
        return metered


class _Meter(NodeTransformer):
    """Puts the charging filters around loops, outputs, and expressions whose cost grows with their operands."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2 calls it by the node's name
        self.generic_visit(node)
        constant = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        node.iter = _filter(node.iter, "_rounds", nodes.Const(1 + constant // CHARS_PER_STEP))
        return node

    def visit_Output(self, node: nodes.Output) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.nodes = [n if isinstance(n, nodes.TemplateData) else _filter(n, "_sized") for n in node.nodes]
        return node

    def visit_AssignBlock(self, node: nodes.AssignBlock) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.filter = _filter(node.filter, "_sized")
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _filter(node.expr, "_sized")
        for operand in node.ops:
            operand.expr = _filter(operand.expr, "_sized")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, "_sized")

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, "_sized")

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, "_sized")

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, "_sized") if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(node, "_sized") if isinstance(node.arg, nodes.Slice) else node


class _Checked:
    """A filter that charges a step and bounds its arguments and result; jinja2's marks on the function are kept."""

    def __init__(self, environment: BoundedEnvironment, function: Callable[..., Any]) -> None:
        self._environment = environment
        self._function = function
        mark = getattr(function, "jinja_pass_arg", None)
        if mark is not None:
            self.jinja_pass_arg = mark
        self._num_passed = 0 if mark is None else 1
        if getattr(function, "jinja_async_variant", False):
            self.jinja_async_variant = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._environment.charge(1)
        own = args[self._num_passed :]
        _check_arguments(own[1:], kwargs)
        if own and isinstance(own[0], Sized):
            self._environment.sized(own[0])
            _check_growth(getattr(self._function, "__name__", ""), own[0], (*own[1:], *kwargs.values()))
        result = self._function(*args, **kwargs)
        return self._environment.rounds(result) if isinstance(result, Iterator) else self._environment.sized(result)


def _check_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for value in chain(args, kwargs.values()):
        if isinstance(value, int) and abs(value) > _MAX_ARGUMENT:
            raise SecurityError(f"it calls something with a number above {_MAX_ARGUMENT:,}")


def _check_growth(name: str, value: Sized, args: tuple[Any, ...]) -> None:
    """Refuse what can make a very large text out of small ones in a single step."""
    name = name.removeprefix("do_").removeprefix("sync_")
    if name in ("format", "format_map") and isinstance(value, str):
        _check_format(value)
    if name in ("replace", "join", "indent"):
        factor = max((len(a) if isinstance(a, Sized) else a for a in args if isinstance(a, (Sized, int))), default=1)
        if (len(value) + 1) * factor > 16 * MAX_SIZE:
            raise SecurityError(f"its {name} could make a very large value")


def _check_format(text: str) -> None:
    if _WIDE_FORMAT.search(text):
        raise SecurityError("it pads a text to a great width")


def _filter(node: Any, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None)
