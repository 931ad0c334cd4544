"""Values of options: what a word on the command line means, or in plain words why it means nothing.

They are the `parser` of an option, so that what is said of a wrong value is said here and not by a library.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence

import typer


def number(text: str) -> float:
    """A number, such as 0.7 or 1e-3."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number.") from None


def whole_number(text: str) -> int:
    """A whole number, such as 12 or -1."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number.") from None


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = whole_number(text)
    if value < 1:
        raise typer.BadParameter(f"{text!r} is too small; a whole number of at least 1 is allowed.")
    return value


def positive_number(text: str) -> float:
    """A number greater than 0."""
    value = number(text)
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"{text!r} is not a number greater than 0.")
    return value


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size(text: str) -> int:
    """A number of bytes, such as 4096, 32MiB or 12.5GB.

    >>> size("1.5 GB"), size("2KiB"), size("300")
    (1500000000, 2048, 300)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if not found or (found[3] and not found[2]):
        raise typer.BadParameter(f"{text!r} is no size; write bytes, or such as 512MiB or 12.5GB.")
    units = _BINARY_UNITS if found[3] else _UNITS
    return int(float(found[1]) * units[found[2]])


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """A parser that takes the words of `allowed` and nothing else."""

    def word(text: str) -> str:
        if text not in allowed:
            raise typer.BadParameter(f"{text!r} is none of {', '.join(allowed)}.")
        return text

    return word


def date(text: str) -> datetime.date:
    """A day as YYYY-MM-DD."""
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date of the form YYYY-MM-DD, such as 2026-03-31.") from None
