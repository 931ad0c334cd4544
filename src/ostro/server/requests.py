"""From an HTTP request to fields that are read and checked, whatever its dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from starlette.requests import Request

from ostro.log import logger
from ostro.server.apart import apart
from ostro.server.dialect import Dialect, dialect_of
from ostro.server.errors import FieldError
from ostro.server.fields import Body, parse_json, read, shown, unknown_fields, wire_name
from ostro.server.notes import note
from ostro.server.settings import ServerSettings

IGNORED_HEADER = "x-ostro-ignored-fields"
"""Names in the answer the fields of the request that nobody documents and nothing was done about."""

_EXTRAS = {"error": "error", "drop": "drop", "ignore": "drop", "pass-through": "pass", "allow": "pass"}

_MOST_NAMED = 20

B = TypeVar("B", bound=Body)


@dataclass(frozen=True, slots=True)
class Asked(Generic[B]):
    """A body that was read, in whose words it is, and the names of fields that are not known; it had `size` bytes."""

    body: B
    dialect: Dialect
    ignored: tuple[str, ...] = ()
    size: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """What the answer's head says of the request."""
        return {IGNORED_HEADER: ", ".join(map(_printable, self.ignored[:_MOST_NAMED]))} if self.ignored else {}

    def given(self) -> dict[str, Any]:
        """The fields that hold something, by the names of the form."""
        fields = type(self.body).model_fields
        return {name: value for name in fields if (value := getattr(self.body, name)) is not None}


async def ask(
    request: Request,
    form: type[B],
    settings: ServerSettings,
    documented: Mapping[Dialect, type[Body]] | None = None,
) -> Asked[B]:
    """The body of a request in its form.

    `documented` are the fields that a dialect has of its own, where the form has those of several. FieldError names
    what is wrong; an unknown field is one too where the server is strict or Azure's header `extra-parameters` says so.
    """
    raw = await request.body()
    given = await apart(len(raw), parse_json, raw)
    dialect = dialect_of(request.scope)
    note(request.scope, dialect=dialect)
    extras = _extras(request) if dialect == "azure" else "pass"
    dropped: list[str] = []
    if extras != "pass":
        own = _wire_names((documented or {}).get(dialect, form))
        dropped = [name for name in given if name not in own and given[name] is not None]
        given = {name: value for name, value in given.items() if name in own}
        if dropped and extras == "error":
            raise FieldError(
                f"Extra parameters {', '.join(dropped[:20])} are not allowed with the header extra-parameters: error. "
                "Send extra-parameters: pass-through to have them honoured.",
                param=dropped[0],
                code="unknown_parameter",
            )
    body = await apart(len(raw), read, form, given)
    unknown = unknown_fields(body)
    if unknown and settings.strict:
        raise FieldError(
            f"{unknown[0]} is no field of this request, and the server is strict: leave it out.",
            param=unknown[0],
            code="unknown_parameter",
        )
    ignored = (*dropped, *unknown)
    if ignored:
        logger.warning(
            "fields that nobody documents were ignored: %s", ", ".join(map(_printable, ignored[:_MOST_NAMED]))
        )
    return Asked(body, dialect, ignored, len(raw))


def _extras(request: Request) -> str:
    value = request.headers.get("extra-parameters", "pass-through")
    if value.lower() not in _EXTRAS:
        raise FieldError(
            f"The header extra-parameters is error, drop or pass-through, not {shown(value)}.", param="extra-parameters"
        )
    return _EXTRAS[value.lower()]


def _wire_names(form: type[Body]) -> set[str]:
    return {wire_name(name, field) for name, field in form.model_fields.items()}


def _printable(name: str) -> str:
    """A name as a header may hold it: HTTP knows no value with a space at its end, and here none that is empty."""
    return "".join(c if c.isascii() and c.isprintable() and c != "," else "?" for c in name[:60]).strip() or "?"
