"""Where the words of a rendered template came from.

The template is run once more with a mark in front of every text of the caller, one behind it, and nothing else changed.
If what it writes is the same without the marks, they say whose each character is; if not (a template may compare, cut
or count), nothing is said at all. The prompt itself is always made of the rendering without marks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ostro.chat.segments import Segment
from ostro.tokenizer.base import Tokenizer

UNKNOWN = "template"
"""The origin of what the template writes by itself, and of what cannot be told from it."""

# Templates compare these with words of their own.
_UNMARKED = frozenset({"role", "type", "id", "tool_call_id"})


class Marks:
    """One opening mark for each origin and a closing one, private characters from `first` on.

    `inside`: a mark stands within the spaces at the ends of a text, so that the template may strip them.
    """

    def __init__(self, origins: Sequence[str], first: int, *, inside: bool) -> None:
        self._close = chr(first)
        self._origins = {chr(first + 1 + n): origin for n, origin in enumerate(origins)}
        self._openings = [*self._origins]
        self.private = frozenset((self._close, *self._openings))
        self._inside = inside
        self._pattern = re.compile(f"([{chr(first)}-{chr(first + len(origins))}])")

    def tree(self, value: Any, number: int, key: object = None) -> Any:
        """The value with marks of the origin of this number around all its strings, keys left as they are."""
        if isinstance(value, str):
            return value if key in _UNMARKED else self._around(value, self._openings[number])
        if isinstance(value, Mapping):
            return {name: self.tree(item, number, name) for name, item in value.items()}
        return [self.tree(item, number, key) for item in value] if isinstance(value, list) else value

    def gathered(self, json: str) -> str:
        """JSON with the words of one origin as that origin's as a whole; of several, as it is."""
        openings = set(self._pattern.findall(json)) - {self._close}
        return openings.pop() + self._pattern.sub("", json) + self._close if len(openings) == 1 else json

    def owners(self, marked: str, rendered: str) -> list[str] | None:
        """The origin of every character of `rendered`; None if `marked` is another text or has lost a mark."""
        owner, owners, plain = UNKNOWN, [], []
        for part in self._pattern.split(marked):
            if part == self._close or part in self._origins:
                if (owner == UNKNOWN) == (part == self._close):
                    return None
                owner = self._origins.get(part, UNKNOWN)
            else:
                owners += [owner] * len(part)
                plain.append(part)
        return owners if owner == UNKNOWN and "".join(plain) == rendered else None

    def _around(self, text: str, opening: str) -> str:
        words = text.strip() if self._inside else text
        head, _, tail = text.partition(words) if words else (text, "", "")
        return f"{head}{opening}{words}{self._close}{tail}" if words else text


def split_by_owner(tokenizer: Tokenizer, ids: Sequence[int], text: str, owners: Sequence[str]) -> list[Segment]:
    """The ids of a text, one segment for each stretch of one owner.

    A token with characters of several has all of them ("template+user[0]"); so have tokens that share a character.
    Where the tokens do not spell the text, the whole is of unknown origin.
    """
    shown = text.replace("▁", " ") if tokenizer.kind == "spm" else text
    spelt = b"".join(map(tokenizer.token_bytes, ids))
    padding = len(spelt) - len(shown.encode())
    if padding not in (0, 1) or spelt != b" " * padding + shown.encode():
        return [Segment("text", tuple(ids), text, UNKNOWN)]
    stretches: list[tuple[str, list[int], list[str]]] = []
    waiting: list[int] = []
    start = end = 0
    num_bytes, covered = -padding, 0
    for token_id in ids:
        waiting.append(token_id)
        num_bytes += len(tokenizer.token_bytes(token_id))
        while covered < num_bytes:
            covered += len(shown[end].encode())
            end += 1
        if covered > num_bytes or start == end:
            continue
        owner = "+".join(dict.fromkeys(owners[start:end]))
        if not stretches or stretches[-1][0] != owner:
            stretches.append((owner, [], []))
        stretches[-1][1].extend(waiting)
        stretches[-1][2].append(text[start:end])
        waiting, start = [], end
    stretches[-1][1].extend(waiting)  # what stands for nothing, behind the last character
    return [Segment("template" if o == UNKNOWN else "text", tuple(i), "".join(t), o) for o, i, t in stretches]
