"""What becomes of every field of every request: the table of `ostro serve --capabilities` and of docs/dialects.md.

It is made from the forms that are enforced, and a test sends every field of it to a server.

`python -m ostro.server.capabilities docs/dialects.md` writes it into the page, between its marks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ostro.server.chat_fields import MESSAGE_FIELDS, TOOL_FIELDS
from ostro.server.fields import Body, Honoured, Mark, Refused, mark_of, nested_form, wire_name
from ostro.server.routes import ROUTES, Route

BEGIN, END = "<!-- capabilities: begin -->", "<!-- capabilities: end -->"
_NAMES = {"openai": "OpenAI", "mistral": "Mistral", "azure": "Azure", "anthropic": "Anthropic"}


@dataclass(frozen=True, slots=True)
class Capability:
    """One field of a route. `documented_by` are the dialects that have it; none: it is ostro's own.

    A refused field is let pass with null, or with one of its `neutral` values, which ask for nothing.
    """

    route: str
    field: str
    required: bool
    documented_by: tuple[str, ...]
    status: Literal["honoured", "refused"]
    note: str
    neutral: tuple[Any, ...] = ()


def capabilities() -> list[Capability]:
    """Every field, nested ones with dots, in the order of the routes and of their forms."""
    return [each for route in ROUTES if route.form is not None for each in _of_route(route, route.form)]


def table() -> str:
    """The table as `ostro serve --capabilities` prints it."""
    return f"{as_markdown()}\n"


def as_json() -> dict[str, Any]:
    """The table, and the paths under which each route is found."""
    routes = [
        {"method": route.method, "paths": list(route.paths()), "dialects": list(route.dialects)} for route in ROUTES
    ]
    return {"routes": routes, "fields": [asdict(each) for each in capabilities()]}


def as_markdown() -> str:
    """The table for readers, one part a route."""
    parts = []
    rows = capabilities()
    for route in ROUTES:
        own = [each for each in rows if each.route == _title(route)]
        if own and route.path != "/render":  # which takes the fields of chat
            parts.append(f"### `{_title(route)}`\n\n{_markdown_table(route, own)}")
    return "\n\n".join(parts)


def write_into(page: Path) -> None:
    """Replace what stands between the marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{as_markdown()}\n\n{END}{after}", encoding="utf-8")


def _title(route: Route) -> str:
    return f"{route.method} {route.canonical}"


def _of_route(route: Route, form: type[Body]) -> Iterator[Capability]:
    """What is needed, then what dialects document, then what is ostro's own; at the end, what is refused."""
    names = sorted(form.model_fields, key=lambda name: _order(route, form, name))
    for name in names:
        yield from _of_field(route, form, name, "", _documented_by(route, name))


def _order(route: Route, form: type[Body], name: str) -> tuple[bool, bool, bool]:
    field = form.model_fields[name]
    return not field.is_required(), isinstance(mark_of(field), Refused), not _documented_by(route, name)


def _of_field(
    route: Route, form: type[Body], name: str, path: str, documented_by: tuple[str, ...]
) -> Iterator[Capability]:
    """A field, and those of the objects that it holds."""
    field = form.model_fields[name]
    wire = f"{path}{wire_name(name, field)}"
    yield _row(route, wire, field.is_required(), documented_by, mark_of(field))
    nested = nested_form(field)
    for inner in nested.model_fields if nested is not None else ():
        assert nested is not None
        yield from _of_field(route, nested, inner, f"{wire}.", documented_by)
    for inner, mark in _ITEMS.get(name, {}).items() if route.canonical in _CHAT_LIKE else ():
        yield _row(route, f"{wire}[].{inner}", inner in _NEEDED, documented_by, mark)


_ITEMS: Mapping[str, Mapping[str, Mark]] = {"messages": MESSAGE_FIELDS, "tools": TOOL_FIELDS}
_CHAT_LIKE = frozenset({"/v1/chat/completions"})
_NEEDED = frozenset({"role", "function.name"})


def _row(route: Route, field: str, required: bool, documented_by: tuple[str, ...], mark: Mark) -> Capability:
    if isinstance(mark, Honoured):
        return Capability(_title(route), field, required, documented_by, "honoured", mark.note)
    return Capability(_title(route), field, required, documented_by, "refused", mark.why, mark.neutral)


def _documented_by(route: Route, name: str) -> tuple[str, ...]:
    if not route.documented:
        return route.dialects
    return tuple(
        dialect for dialect, form in route.documented.items() if dialect != "common" and name in form.model_fields
    )


def _markdown_table(route: Route, rows: list[Capability]) -> str:
    dialects = [dialect for dialect in route.dialects if dialect in _NAMES] if route.documented else []
    names = [_NAMES[dialect] for dialect in dialects]
    lines = [_line("field", *names, "what becomes of it"), _line(*["---"] * (len(names) + 2))]
    for each in rows:
        marks = ["x" if dialect in each.documented_by else "" for dialect in dialects]
        lines.append(_line(f"`{each.field}`", *marks, _said(each)))
    return "\n".join(lines)


def _said(row: Capability) -> str:
    if row.status == "honoured":
        return f"{'Required. ' if row.required else ''}{row.note}"
    neutral = ", ".join(f"`{json.dumps(value)}`" for value in row.neutral)
    return f"**Refused**{f' but for {neutral}' if neutral else ''}: {row.note}"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write_into(Path(argument))
