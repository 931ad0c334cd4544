"""Memory in huge and small pages: it is there, it is one's own, and small pages are taken one by one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from ostro.pages import HUGE_PAGE, in_huge_pages, in_small_pages


@pytest.mark.parametrize("size", [0, 1, HUGE_PAGE - 1, HUGE_PAGE, 3 * HUGE_PAGE + 5])
def test_all_of_it_can_be_written(size: int) -> None:
    for make in (in_huge_pages, in_small_pages):
        first, second = make(size), make(size)
        assert first.shape == (size,)
        first[:] = 7
        second[:] = 9
        assert (first == 7).all()
        assert (second == 9).all()


def test_large_memory_begins_with_a_huge_page() -> None:
    memory = in_huge_pages(2 * HUGE_PAGE + 1)
    if sys.platform == "linux":
        assert memory.ctypes.data % HUGE_PAGE == 0


def test_small_pages_are_zero_and_are_not_taken_before_they_are_written() -> None:
    memory = in_small_pages(64 * HUGE_PAGE)
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    before = _resident()
    memory[:: 4 * HUGE_PAGE] = 1
    assert _resident() - before < HUGE_PAGE  # huge pages would be 16 of them
    assert not np.delete(memory[:HUGE_PAGE], 0).any()


def _resident() -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
