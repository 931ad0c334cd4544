"""Ids of tool calls: whatever a client uses, against the nine letters and digits that Mistral's prompts know."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterable

_NINE = re.compile(r"[a-zA-Z0-9]{9}")
ALPHABET = string.ascii_letters + string.digits
"""What ids of Mistral are made of."""


def is_mistral_id(call_id: str) -> bool:
    """Whether an id is exactly nine ASCII letters and digits."""
    return _NINE.fullmatch(call_id) is not None


class ToolCallIds:
    """A one-to-one map between foreign ids and ids of nine letters and digits, the same in every process.

    An id that already has nine stays as it is. Another's is taken from its SHA-256, and from that of the id with a
    counter where another id has it already. `known` are ids that keep their place before any other is mapped.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._inward: dict[str, str] = {}
        self._outward: dict[str, str] = {}
        for call_id in known:
            if is_mistral_id(call_id):
                self.inward(call_id)

    def inward(self, call_id: str) -> str:
        """The nine characters that stand for a client's id in the prompt."""
        if call_id in self._inward:
            return self._inward[call_id]
        attempt = 0
        nine = call_id if is_mistral_id(call_id) else _digest(call_id)
        while nine in self._outward:
            attempt += 1
            nine = _digest(f"{call_id}\0{attempt}")
        self._inward[call_id] = nine
        self._outward[nine] = call_id
        return nine

    def outward(self, nine: str) -> str:
        """The client's id of one in the prompt; an id that no client gave (the model's own) is itself."""
        return self._outward.get(nine, nine)


def _digest(text: str) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    characters = []
    for _ in range(9):
        number, rest = divmod(number, len(ALPHABET))
        characters.append(ALPHABET[rest])
    return "".join(characters)
