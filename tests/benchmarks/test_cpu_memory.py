"""Watching a process from the outside, and the page that is made of it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest

import cpu_memory
from ostro.bench import find_shape
from peers.process import Observed, observe, read_through, split_memory
from peers.rows import PeerError


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_the_first_byte_is_timed_and_not_the_end() -> None:
    code = "import sys, time; sys.stdout.write('x'); sys.stdout.flush(); time.sleep(0.5); print('more')"
    seen = observe(python(code))
    assert seen.first_output > 0
    assert (seen.weights, seen.other) == (0, 0)


def test_pages_of_watched_files_are_told_from_the_rest(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(range(256)) * (1 << 15))  # 8 MiB
    code = (
        "import mmap, sys, time\n"
        f"file = open({str(weights)!r}, 'rb')\n"
        "data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "own = bytearray(b'y') * (64 << 20)\n"
        "total = sum(data[place] for place in range(0, len(data), 4096))\n"
        "time.sleep(0.3)\n"
        "print(total)\n"
    )
    seen = observe(python(code), tmp_path)
    assert seen.weights == 8 << 20
    assert 64 << 20 < seen.other < 160 << 20


def test_this_process_is_split_completely(tmp_path: Path) -> None:
    text = Path("/proc/self/smaps").read_text(encoding="utf-8")
    total = sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Rss:")) * 1024
    assert split_memory(text, str(tmp_path)) == (0, total)
    inside, other = split_memory(text, "/usr")
    assert inside + other == total


def test_a_command_that_fails_or_says_nothing_is_an_error() -> None:
    with pytest.raises(PeerError, match="no such model"):
        observe(python("import sys; sys.exit('no such model')"))
    with pytest.raises(PeerError, match="printed b''"):
        observe(python("pass"))


def test_reading_a_folder_counts_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").write_bytes(b"4567")
    (tmp_path / "folder").mkdir()
    assert read_through(tmp_path) == 7


def test_the_page_takes_weights_and_cache_off_and_judges() -> None:
    config = find_shape("mistral-7b-v0.3", 4)
    cache = config.kv_bytes_per_token("float16") * 544
    options = argparse.Namespace(shape="mistral-7b-v0.3", threads=2, repeats=3)
    memory = [Observed(1.0, 4_000_000_000, cache + extra) for extra in (100_000_000, 200_000_000, 250_000_000)]
    starts = [Observed(seconds, 0, 0) for seconds in (6.5, 3.0, 5.5)]
    text = cpu_memory.page(options, config, 4_100_000_000, starts, memory, load=0.0)
    assert (
        "| peak resident memory beyond weights and K/V | 200 MB (100 to 250) | 300 MB: reached | 150 MB: not reached |"
        in text
    )
    assert "| 5.50 s (3.00 to 6.50) | 6 s: reached | 4 s: not reached |" in text
    assert "4.00 GB of the model's files were resident" in text


def test_the_command_has_a_prompt_of_the_length() -> None:
    command = cpu_memory.generate(Path("folder"), 2, 16, 1)
    ids = command[command.index("--ids") + 1].split(",")
    assert len(set(ids)) == 16
    assert command[:3] == [sys.executable, "-m", "ostro"]
    assert os.fspath(Path("folder")) in command
