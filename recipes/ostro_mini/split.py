"""The division of every drawn name, number and phrase into training and held-out, by the hash of its text."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, TypeVar

from recipes.ostro_mini import words

Split: TypeAlias = Literal["train", "heldout"]
Language: TypeAlias = Literal["en", "ko"]
LANGUAGES: tuple[Language, ...] = ("en", "ko")

_COMMON = frozenset(words.COMMON)
HELD_OUT_SHARE = 8
"""One of so many texts is held out."""

_T = TypeVar("_T")


@functools.lru_cache(maxsize=1 << 18)
def split_of(text: str) -> Split:
    """The side a text is on, whatever its case: the same in every process and for ever.

    Plain words of English (`words.COMMON`) are all on the side of training: questions and requests are made of them.

    >>> split_of("Seoul") == split_of("seoul")
    True
    """
    if text.lower() in _COMMON:
        return "train"
    digest = hashlib.blake2b(text.lower().encode(), digest_size=4).digest()
    return "heldout" if int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0 else "train"


def draw(rng: random.Random, split: Split, make: Callable[[random.Random], str]) -> str:
    """What `make` gives, tried until it lies on the wanted side."""
    for _ in range(2000):
        text = make(rng)
        if split_of(text) == split:
            return text
    raise AssertionError(f"{make} never gives a text of the split {split}")


def pick(rng: random.Random, split: Split, texts: Sequence[str]) -> str:
    """One of the texts that lie on the wanted side."""
    return rng.choice(_on_side(split, tuple(texts)))


@functools.lru_cache(maxsize=256)
def _on_side(split: Split, texts: tuple[str, ...]) -> tuple[str, ...]:
    kept = tuple(text for text in texts if split_of(text) == split)
    assert kept, f"none of {texts[:3]}... is on the side {split}"
    return kept


def sometimes(rng: random.Random, probability: float) -> bool:
    """True with this probability."""
    return rng.random() < probability


def several(rng: random.Random, count: int, make: Callable[[], _T], key: Callable[[_T], object] = str) -> list[_T]:
    """`count` different things that `make` gives; different means that `key` tells them apart."""
    found: dict[object, _T] = {}
    for _ in range(count * 200):
        if len(found) == count:
            break
        thing = make()
        found.setdefault(key(thing), thing)
    assert len(found) == count, f"{make} gives too few different things"
    things = list(found.values())
    rng.shuffle(things)
    return things
