"""One value of a data file with its place, and what may be asked of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ostro.errors import DataError


@dataclass(frozen=True)
class Source:
    """What stands at one place of a file; `place` says where, and is asked only when something must be said."""

    value: Any
    place: Callable[[], str]

    def error(self, what: str) -> DataError:
        """An error that begins with the place."""
        return DataError(f"{self.place()}: {what}.")

    def take(self, names: Sequence[str]) -> tuple[str, Any]:
        """The first of some keys that the record has, and its value; DataError where it has none of them."""
        for name in names:
            if self.value.get(name) is not None:
                return name, self.value[name]
        keys = ", ".join(map(repr, self.value)) or "none"
        raise self.error(f"the field {' or '.join(map(repr, names))} is missing; the record has the keys {keys}")

    def text(self, names: Sequence[str]) -> str:
        """A field that is a string."""
        name, value = self.take(names)
        return self.checked(name, value)

    def checked(self, name: str, value: Any) -> str:
        """The value of a field, if it is a string that can be encoded."""
        if not isinstance(value, str):
            raise self.error(f"the field {name!r} is {shown(value)}; it must be a string")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.error(f"the field {name!r} holds a lone surrogate (half a character); write it anew") from None
        return value


def shown(value: Any) -> str:
    """A value as JSON, cut where it is long, for messages."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
