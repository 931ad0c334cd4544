"""Large arrays in pages of the size that suits them.

Looking up pages of 4 KiB cost a tenth to a quarter of the time that a matrix takes to be read from end to end (on a
virtual machine; no other was tried), so weights lie in huge pages of 2 MiB. The K/V cache does not: each layer has a
part of its own, and in huge pages the first token of a text of 32 layers takes 128 MiB.
"""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

HUGE_PAGE = 1 << 21


def in_huge_pages(size: int) -> Bytes:
    """`size` bytes to be written, from the beginning of a huge page on; of small pages where there are no huge ones."""
    if size < HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(size, np.uint8)
    area = _area(size + HUGE_PAGE)
    memory = np.frombuffer(area, np.uint8)
    skipped = -memory.ctypes.data % HUGE_PAGE  # never touched, so no memory of it is taken
    # Whole pages only: the last would take more than is needed of it.
    _advise(area, mmap.MADV_HUGEPAGE, skipped, size // HUGE_PAGE * HUGE_PAGE)
    return memory[skipped : skipped + size]


def in_small_pages(size: int) -> Bytes:
    """`size` zeros that take memory page by page, as they are first written."""
    if size < HUGE_PAGE or not hasattr(mmap, "MADV_NOHUGEPAGE"):
        return np.zeros(size, np.uint8)
    area = _area(size)
    _advise(area, mmap.MADV_NOHUGEPAGE, 0, size)
    return np.frombuffer(area, np.uint8)


def _area(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _advise(area: mmap.mmap, advice: int, start: int, size: int) -> None:
    try:
        area.madvise(advice, start, size)
    except OSError:  # a kernel without huge pages
        pass
