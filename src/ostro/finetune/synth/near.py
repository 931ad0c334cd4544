"""Texts that are the same but for spelling, and texts that are nearly the same.

Two texts are compared by their sets of character 5-grams, which works in any language. MinHash finds candidates among
all texts so far: for two sets of Jaccard similarity s, one hash of each agrees with probability s (Broder 1997, "On the
resemblance and containment of documents"). 64 hashes in 32 bands of 2 leave one pair with s = 0.7 in 10^9 unfound.
Candidates are then compared exactly, so no two texts count as alike by chance.
"""

from __future__ import annotations

import unicodedata
import zlib

import numpy as np
import numpy.typing as npt

_GRAM, _BANDS, _PER_BAND = 5, 32, 2
Hashes = npt.NDArray[np.uint64]
_RNG = np.random.default_rng(7)
_FACTORS = _RNG.integers(1, 2**63, _BANDS * _PER_BAND, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_TERMS = _RNG.integers(0, 2**63, _BANDS * _PER_BAND, dtype=np.uint64)


def plain(text: str) -> str:
    """The text without case, punctuation and differences of whitespace.

    >>> plain("  What's   UP? ")
    'what s up'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())


class NearIndex:
    """Texts that have been taken, by which others are judged."""

    def __init__(self, similarity: float) -> None:
        self._similarity = similarity
        self._exact: set[str] = set()
        self._shingles: list[Hashes] = []
        self._bands: dict[tuple[int, bytes], list[int]] = {}

    def verdict(self, text: str) -> str | None:
        """ "duplicate" or "near duplicate" of a text that was added, else None."""
        words = plain(text)
        if words in self._exact:
            return "duplicate"
        shingles = _shingles(words)
        candidates = {number for key in _keys(shingles) for number in self._bands.get(key, ())}
        if any(_jaccard(shingles, self._shingles[number]) >= self._similarity for number in candidates):
            return "near duplicate"
        return None

    def add(self, text: str) -> None:
        """Take a text in."""
        words = plain(text)
        shingles = _shingles(words)
        self._exact.add(words)
        for key in _keys(shingles):
            self._bands.setdefault(key, []).append(len(self._shingles))
        self._shingles.append(shingles)


def _shingles(words: str) -> Hashes:
    """Hashes of the different 5-grams, sorted."""
    grams = {words[i : i + _GRAM].encode("utf-8", "surrogatepass") for i in range(max(1, len(words) - _GRAM + 1))}
    return np.unique(np.array([zlib.crc32(gram) for gram in grams], np.uint64))


def _keys(shingles: Hashes) -> list[tuple[int, bytes]]:
    """The bands of the MinHash signature."""
    mixed = shingles[:, None] * _FACTORS + _TERMS  # modulo 2^64
    least = (mixed ^ (mixed >> np.uint64(29))).min(axis=0).reshape(_BANDS, _PER_BAND)
    return [(number, band.tobytes()) for number, band in enumerate(least)]


def _jaccard(one: Hashes, other: Hashes) -> float:
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)
