"""What is known of a request for the log, kept with it while it is worked on."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

NOTES = (
    "dialect", "model", "stream", "prompt_tokens", "cached_tokens", "completion_tokens", "finish_reason", "error",
)  # fmt: skip
"""What the application may add to the line of its request."""


def note(scope: MutableMapping[str, Any], **facts: str | int | float | bool | None) -> None:
    """Add facts, named in `NOTES`, to the line of the request; None adds nothing. May be called until it has ended."""
    assert set(facts) <= set(NOTES), f"the access log has no place for {set(facts) - set(NOTES)}"
    kept = scope.setdefault("state", {}).setdefault("access_log", {})
    kept.update({name: value for name, value in facts.items() if value is not None})


def noted(scope: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that were added."""
    return dict(scope.get("state", {}).get("access_log", {}))
