"""A grammar is tried out in a process of its own before it may enter this one.

llguidance has limits for nearly everything, and is fast on what people write. But a chain of some thousand rules
overflows the stack, which no program survives, and thirty patterns that must all match keep it busy for minutes, in a
call that cannot be interrupted. A process can be ended. It costs some 30 ms for each grammar that is new.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ostro.engine.guided import refusal

MAX_SECONDS = 3
"""Of computing."""
MAX_WAIT = 120
"""Seconds altogether, on a machine that has other things to do."""
MAX_MEMORY = 2 << 30
MAX_AT_ONCE = 2

_CHILD = Path(__file__).with_name("grammar_child.py")
_AT_ONCE = threading.BoundedSemaphore(MAX_AT_ONCE)
_TOO_COMPLEX = "is too complex: bound its repetitions, or make it smaller"


def trial(grammar: str, *, limits: Mapping[str, Any], num_tokens: int, special: Mapping[str, int]) -> str | None:
    """What speaks against a grammar in llguidance's JSON, to be `explained`; None where it compiles in its bounds.

    `special` are control tokens below `num_tokens` that it may name. RequestError where no process can be started.
    """
    from llguidance import _lib

    request = {
        "module": _lib.__file__, "grammar": grammar, "limits": dict(limits), "num_tokens": num_tokens,
        "special": dict(special), "seconds": MAX_SECONDS, "memory": MAX_MEMORY,
    }  # fmt: skip
    with _AT_ONCE:
        return _run(json.dumps(request))


def _run(request: str) -> str | None:
    """What the child says; how it ended, where it could say nothing."""
    command = [sys.executable, "-I", "-S", str(_CHILD)]
    try:
        done = subprocess.run(
            command,
            input=request.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=MAX_WAIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "TIME"
    except OSError as failure:
        raise refusal(
            f"Structured output tries grammars out in a process of its own, and {command[0]!r} cannot be started: "
            f"{failure.strerror}."
        ) from None
    if done.returncode == 0:
        error: str | None = json.loads(done.stdout)["error"]
        return error
    return "CRASH"


def explained(error: str) -> str:
    """llguidance's words, or ours, as the end of a sentence that begins with what was given."""
    text = error.split("<state>")[0].split("<non-verbose/>")[0].strip()
    if text in _ENDS:
        return _ENDS[text]
    if text.startswith("panic") or any(limit in text for limit in _LIMITS):
        return _TOO_COMPLEX
    if text.startswith("Unsatisfiable schema: "):
        return "cannot be satisfied: " + " ".join(text.removeprefix("Unsatisfiable schema: ").split())[:400]
    if text.startswith("oneOf"):
        return (
            "has a oneOf whose cases may overlap: use anyOf, or give each case a required property with its own const"
        )
    return "cannot be compiled: " + " ".join(_reason(text).split())[:400].rstrip(".")


def _reason(text: str) -> str:
    """What is wrong, without the source around it; in a grammar with line and column."""
    _, found, rest = text.partition("error: ")
    if found:
        return rest.splitlines()[0]
    at = re.match(r"(?:at )?(\d+)\((\d+)\): (.*)", text)
    return f"line {at[1]}, column {at[2]}: {at[3]}" if at else text.splitlines()[0]


_ENDS = {
    "TIME": f"takes more than {MAX_SECONDS} s to compile, and {_TOO_COMPLEX}",
    "CRASH": f"takes more than {MAX_SECONDS} s or {MAX_MEMORY >> 30} GiB, or is nested too deeply: make it simpler",
    "EMPTY": "allows nothing but the empty text: let it allow more",
    "IMPOSSIBLE": "allows no text at all, or refers to itself without end",
    "NoExtension": "allows no text at all, or refers to itself without end",
    "NoExtensionBias": "allows no text at all, or refers to itself without end",
}
_LIMITS = (
    "(grammar) too big", "schema too large", "too many expressions", "Too many items", "fuel", "items; max is",
    "stack level", "recursion limit", "too deeply nested", "Unable to determine if regex is empty",
)  # fmt: skip
