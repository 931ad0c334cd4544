"""What a client's program tells of its scenarios: one JSON object on stdout, a scenario's value or what it raised."""

from __future__ import annotations

import functools
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
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
WRONG = {"temperature": 9.0}

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


def reason(choice: Any) -> str:
    """The word; some clients have an enum."""
    return str(getattr(choice.finish_reason, "value", choice.finish_reason))


def told(answer: Any) -> dict[str, Any]:
    """What a whole answer says, by the names that all clients have for it."""
    return {
        "content": answer.choices[0].message.content,
        "finish_reason": reason(answer.choices[0]),
        "completion_tokens": answer.usage.completion_tokens,
        "prompt_tokens": answer.usage.prompt_tokens,
    }


def streamed(chunks: Iterable[Any]) -> dict[str, Any]:
    """The same put together from a stream."""
    pieces, reasons, usage = [], [], None
    for chunk in chunks:
        usage = getattr(chunk, "usage", None) or usage
        for choice in chunk.choices:
            pieces.append((choice.delta and choice.delta.content) or "")
            if choice.finish_reason:
                reasons.append(reason(choice))
    return {
        "content": "".join(pieces),
        "finish_reason": reasons,
        "completion_tokens": None if usage is None else usage.completion_tokens,
    }


def embedded(found: Any) -> dict[str, Any]:
    """Vectors, their places and the count of tokens."""
    return {
        "vectors": [item.embedding for item in found.data],
        "indexes": [item.index for item in found.data],
        "prompt_tokens": found.usage.prompt_tokens,
    }


def refusals(ask: Callable[..., Any], stream: Callable[[], Any], wrong: Mapping[str, Any] = WRONG) -> dict[str, Any]:
    """What becomes of each kind of failure: `ask` takes text, key, path and model, and `wrong` is a field's bad value.

    `stream` reads an answer that breaks off.
    """
    asked: dict[str, dict[str, Any]] = {
        "400": {**wrong},
        "401": {"key": "wrong"},
        "404": {"model": "no-such-model"},
        "413": {"text": TOO_LARGE},
        "422": {"path": "/mistral", **wrong},
        "429": {"model": "fails-429"},
        "503": {"model": "fails-503"},
        "context": {"text": TOO_LONG},
    }
    found = {kind: refused(functools.partial(ask, **options)) for kind, options in asked.items()}
    return found | {"midstream": refused(stream)}


def run(**scenarios: Callable[[], Any]) -> None:
    """Run all of them and print what they found."""
    found: dict[str, Any] = {}
    for name, scenario in scenarios.items():
        try:
            found[name] = scenario()
        except Exception as error:
            found[name] = {"raised": f"{type(error).__name__}: {error}", "where": traceback.format_exc(limit=-6)}
    print(json.dumps(found))
