"""The adapters that an engine has beside its base model, by name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from ostro.errors import RequestError
from ostro.models.llama import LlamaWeights


@dataclass(frozen=True, slots=True, eq=False)
class AdapterSet:
    """`weights` are the base's with all adapters over them (`ostro.models.adapters`), None without any.

    `digests` stand for the numbers of each adapter, by its name; the order of the names is that of `weights`.
    """

    weights: LlamaWeights | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    def number(self, name: str | None) -> int:
        """The number of an adapter, -1 for None, which is the base; RequestError for a name that none has.

        >>> AdapterSet().number(None)
        -1
        """
        if name is None:
            return -1
        if name not in self.digests:
            known = ", ".join(self.digests)
            remedy = f"it has {known}" if known else 'it was loaded without any: LLM(model, adapters={"name": folder})'
            raise RequestError(f"This model has no adapter {name!r}; {remedy}.", param="adapter")
        return list(self.digests).index(name)

    def salt(self, number: int, cache_salt: str) -> Hashable:
        """Under what K/V is kept: that of an adapter is never another one's or the base's, on disk too."""
        return cache_salt if number < 0 else (list(self.digests.values())[number], cache_salt)
