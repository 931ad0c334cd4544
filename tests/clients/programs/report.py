"""What a client's program tells of its scenarios: one JSON object on stdout, a scenario's value or what it raised."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

QUESTION = "Name a colour."
MAX_TOKENS = 12
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
COLOUR = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green"]}, "dark": {"type": "boolean"}},
    "required": ["colour", "dark"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather in a city.", "parameters": WEATHER},
}
RESULT = '{"sky": "clear"}'
TOO_LONG = "word " * 9000
TOO_LARGE = "word " * 60_000

ADDRESS, KEY, MODEL = sys.argv[1:4] if len(sys.argv) > 3 else ("", "", "")


def refused(call: Callable[[], Any]) -> dict[str, Any]:
    """The classes of the exception that a call raises, the innermost first, its text, and the status it knows."""
    try:
        call()
    except Exception as error:
        status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
        names = [each.__name__ for each in type(error).__mro__ if each.__module__ != "builtins"]
        return {"types": names, "message": str(error), "status": status}
    return {"types": [], "message": "nothing was raised", "status": None}


def run(**scenarios: Callable[[], Any]) -> None:
    """Run all of them and print what they found."""
    found: dict[str, Any] = {}
    for name, scenario in scenarios.items():
        try:
            found[name] = scenario()
        except Exception as error:
            found[name] = {"raised": f"{type(error).__name__}: {error}", "where": traceback.format_exc(limit=-6)}
    print(json.dumps(found))
