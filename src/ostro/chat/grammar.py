"""Pieces of llguidance's Lark grammars: strings, patterns, control tokens, JSON of a schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ostro.errors import PromptError

ANY_TEXT = "/(?s:.+)/"
_JSON_FORM = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as Python's json.dumps writes it, as in training; free whitespace could be endless."""


class Grammar:
    """Rules by their names, in the order in which they were added."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}

    def add(self, name: str, body: str) -> str:
        """Define a rule (or, in capitals, a terminal; `[lazy]` behind the name is an option); gives the plain name."""
        assert name not in self._rules, name
        self._rules[name] = body
        return name.split("[")[0]

    def __contains__(self, name: str) -> bool:
        return name in self._rules

    def text(self, start: str) -> str:
        """The whole grammar; `start` is the body of its first rule."""
        return "".join(f"{name}: {body}\n" for name, body in {"start": start, **self._rules}.items())


def literal(text: str) -> str:
    """The text itself."""
    return json.dumps(text, ensure_ascii=False)


def pattern(regex: str) -> str:
    """A terminal of a regular expression: it stands between slashes, on one line."""
    escaped = re.sub(r"\\.|/", lambda match: r"\/" if match[0] == "/" else match[0], regex, flags=re.DOTALL)
    return f"/{escaped}/".replace("\n", r"\n")


def token(token_id: int) -> str:
    """A control token."""
    return f"<[{token_id}]>"


def any_of(bodies: Sequence[str]) -> str:
    """One of them."""
    return f"({' | '.join(bodies)})"


def json_of(schema: Mapping[str, Any], *, lenient: bool) -> str:
    """JSON text of a schema; if `lenient`, keywords that llguidance does not know are left aside."""
    try:
        return f"%json {json.dumps({**schema, 'x-guidance': {**_JSON_FORM, 'lenient': lenient}})}"
    except (TypeError, ValueError, RecursionError) as error:
        raise PromptError(f"A JSON schema cannot be written as JSON: {error}.") from None
