"""The embedders that the server offers, by the names that clients use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ostro.embeddings import Embedder
from ostro.errors import ModelNotFoundError

AT_ONCE = 2
"""Requests whose vectors are computed side by side."""


class Embedders:
    """Embedders by name; the first is the default. `aliases` are other names of theirs, "*" any name that is left.

    `threads` are for their work, which may take minutes: it would leave other requests without a thread of theirs.

    >>> len(Embedders({}))
    0
    """

    def __init__(self, embedders: Mapping[str, Embedder], aliases: Mapping[str, str] | None = None) -> None:
        self._embedders = dict(embedders)
        self.threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="ostro-embed")
        self._names = {name.casefold(): name for name in self._embedders}
        self._names |= {alias.casefold(): name for alias, name in (aliases or {}).items()}

    def __len__(self) -> int:
        return len(self._embedders)

    @property
    def names(self) -> Sequence[str]:
        """The embedders' own names."""
        return list(self._embedders)

    def get(self, name: str | None) -> Embedder:
        """The embedder of a name or alias, in whatever case, None: the default; ModelNotFoundError if there is none."""
        if not self._embedders:
            raise ModelNotFoundError(
                "This server has no embedding model: start it with one (ostro serve --embedding-model)."
            )
        wanted = next(iter(self._embedders)) if name is None else name
        found = self._names.get(wanted.casefold()) or self._names.get("*")
        if found is None:
            raise ModelNotFoundError(
                f"There is no embedding model {wanted!r} here. This server has {', '.join(self._embedders)}."
            )
        return self._embedders[found]
