"""What a search finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk of a document that a search found.

    `document` is the path or address, `start` and `end` are offsets in its text, `page` counts from 1 (None: no pages),
    `heading` are the sections around it. `score` is that of the ranking, comparable within one search; `similarity` is
    the cosine to the question; `has_words` says whether it has words of the question. `also_in` are further documents
    that hold the same text.
    """

    id: int
    text: str
    document: str
    title: str
    start: int
    end: int
    page: int | None
    heading: str
    score: float
    similarity: float
    has_words: bool
    also_in: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where it stands, for a person: "Manual, page 3, Cats > Food"."""
        parts = (f"page {self.page}" if self.page else "", self.heading)
        return ", ".join([self.title, *(part for part in parts if part and part != self.title)])

    def to_dict(self) -> dict[str, Any]:
        """Its fields, for JSON."""
        return asdict(self)
