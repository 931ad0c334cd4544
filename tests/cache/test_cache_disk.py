"""Blocks on disk: what is given out is what was put, whatever became of the files; and the bound holds."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostro.cache import DiskCache
from ostro.cache.disk import SUFFIX
from ostro.cache.prefix import Node, PrefixIndex, digest, packed
from ostro.errors import RequestError

SIZE = 3000  # with its head a file of one page
PAGE = 4096
ROOT = b"r" * 20


def chain(count: int, first: int = 0) -> list[tuple[bytes, bytes, bytes, bytes]]:
    """Key, parent, tokens and content of blocks that follow each other."""
    blocks, parent = [], ROOT
    for i in range(first, first + count):
        tokens = packed([i, i + 1])
        key = digest(parent, tokens)
        blocks.append((key, parent, tokens, bytes([i % 251]) * SIZE))
        parent = key
    return blocks


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[DiskCache]:
    cache = DiskCache(tmp_path, "name", block_bytes=SIZE, max_bytes=100 * PAGE)
    yield cache
    cache.close()


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{SUFFIX}"))


def put(disk: DiskCache, blocks: list[tuple[bytes, bytes, bytes, bytes]]) -> None:
    for block in blocks:
        assert disk.put(*block, is_first=block[1] == ROOT)
    disk.flush()


def there(disk: DiskCache, blocks: list[tuple[bytes, bytes, bytes, bytes]]) -> list[bool]:
    return [disk.read(*block[:3]) == block[3] for block in blocks]


def test_what_was_put_is_read_also_by_the_next_process(disk: DiskCache, tmp_path: Path) -> None:
    blocks = chain(5)
    assert disk.read(*blocks[0][:3]) is None
    put(disk, blocks)
    assert there(disk, blocks) == [True] * 5
    assert disk.has(blocks[4][0])
    other = DiskCache(tmp_path, "name", block_bytes=SIZE, max_bytes=100 * PAGE)
    assert there(other, blocks) == [True] * 5
    other.close()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != SUFFIX]
    assert all(path.stat().st_mode & 0o077 == 0 for path in files(tmp_path))


def test_nothing_is_shared_between_namespaces(disk: DiskCache, tmp_path: Path) -> None:
    blocks = chain(2)
    put(disk, blocks)
    other = DiskCache(tmp_path, "other", block_bytes=SIZE, max_bytes=100 * PAGE)
    assert there(other, blocks) == [False, False]
    other.close()
    assert there(disk, blocks) == [True, True]


def test_tokens_and_predecessor_are_compared_and_not_only_the_name(disk: DiskCache) -> None:
    (key, parent, tokens, data), second = chain(2)
    put(disk, [(key, parent, tokens, data)])
    assert disk.read(key, parent, packed([9, 9])) is None
    assert not disk.has(key)  # the file is not what its name says
    put(disk, [(key, parent, tokens, data)])
    assert disk.read(key, second[0], tokens) is None


@settings(max_examples=60)
@given(damage=st.data())
def test_damage_is_seen_and_the_file_deleted(tmp_path_factory: pytest.TempPathFactory, damage: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damage")
    disk = DiskCache(folder, "name", block_bytes=SIZE, max_bytes=100 * PAGE)
    [block] = chain(1)
    put(disk, [block])
    [path] = files(folder)
    content = bytearray(path.read_bytes())
    kind = damage.draw(st.sampled_from(["bit", "cut", "longer", "zeros", "empty"]))
    if kind == "bit":
        at = damage.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << damage.draw(st.integers(0, 7))
    elif kind == "cut":
        content = content[: damage.draw(st.integers(0, len(content) - 1))]
    elif kind == "longer":
        content += damage.draw(st.binary(min_size=1, max_size=9))
    else:
        content = bytearray(len(content) if kind == "zeros" else 0)
    path.write_bytes(content)
    assert disk.read(*block[:3]) is None
    assert not path.exists()
    put(disk, [block])
    disk.close()


def test_a_damaged_block_is_written_again(disk: DiskCache, tmp_path: Path) -> None:
    [block] = chain(1)
    put(disk, [block])
    files(tmp_path)[0].write_bytes(b"")
    assert there(disk, [block]) == [False]
    put(disk, [block])
    assert there(disk, [block]) == [True]


def test_the_bound_holds_and_of_one_text_the_last_blocks_go_first(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, "name", block_bytes=SIZE, max_bytes=6 * PAGE)
    blocks = chain(10)
    put(disk, blocks)
    assert there(disk, blocks) == [True] * 6 + [False] * 4
    assert len(files(tmp_path)) == 6
    disk.close()


def test_what_follows_nothing_is_not_written(disk: DiskCache) -> None:
    blocks = chain(3)
    put(disk, blocks[1:])
    assert there(disk, blocks) == [False] * 3


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, "name", block_bytes=SIZE, max_bytes=6 * PAGE)
    old, middle, new = chain(3), chain(3, first=50), chain(2, first=100)
    put(disk, old)
    put(disk, middle)
    disk.touch([block[0] for block in old])
    put(disk, new)
    assert there(disk, old) == [True] * 3
    assert there(disk, middle) == [True, False, False]
    assert there(disk, new) == [True] * 2
    disk.close()


def test_the_next_process_knows_what_was_used_last(tmp_path: Path) -> None:
    old, new = chain(3), chain(3, first=50)
    disk = DiskCache(tmp_path, "name", block_bytes=SIZE, max_bytes=100 * PAGE)
    put(disk, old)
    put(disk, new)
    disk.close()
    for path in files(tmp_path):  # as if an hour ago, order kept
        past = path.stat().st_mtime_ns - 3600 * 10**9
        os.utime(path, ns=(past, past))
    disk = DiskCache(tmp_path, "name", block_bytes=SIZE, max_bytes=100 * PAGE)
    disk.touch([block[0] for block in old])
    disk.flush()
    disk.close()
    disk = DiskCache(tmp_path, "name", block_bytes=SIZE, max_bytes=4 * PAGE)
    disk.flush()
    assert there(disk, old) == [True] * 3
    assert there(disk, new) == [True, False, False]
    disk.close()


def test_the_bound_is_for_all_namespaces_and_what_others_wrote_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_RESCAN_SECONDS", "_SCAN_SHARE"):
        monkeypatch.setattr(f"ostro.cache.disk.{name}", 0.0)
    one, two = (DiskCache(tmp_path, name, block_bytes=SIZE, max_bytes=5 * PAGE) for name in ("one", "two"))
    first, second = chain(4), chain(4, first=50)
    put(one, first)
    put(two, second)
    assert len(files(tmp_path)) == 5
    assert there(two, second) == [True] * 4
    assert there(one, first) == [True, False, False, False]
    one.close()
    two.close()


def test_parts_of_processes_that_ended_are_taken_away(tmp_path: Path) -> None:
    folder = tmp_path / "name" / "ab"
    folder.mkdir(parents=True)
    old, new = folder / "x-1-1.part", folder / "y-1-1.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 3600,) * 2)
    disk = DiskCache(tmp_path, "name", block_bytes=SIZE, max_bytes=5 * PAGE)
    disk.flush()
    assert (old.exists(), new.exists()) == (False, True)
    disk.close()


def test_a_full_disk_ends_writing_and_nothing_else(
    disk: DiskCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = chain(4)
    put(disk, blocks[:2])

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ostro.cache.disk.os.utime", full)
    put(disk, blocks[2:3])
    assert not disk.is_writable
    assert not disk.put(*blocks[3])
    assert there(disk, blocks) == [True, True, False, False]
    assert [record.getMessage() for record in caplog.records] == [
        f"The prefix cache in {tmp_path} is not written any more: [Errno 28] No space left on device"
    ]
    assert not list(tmp_path.rglob("*.part"))


def test_what_waits_to_be_written_is_bounded(disk: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostro.cache.disk._MAX_QUEUED", 1)
    monkeypatch.setattr(disk._writer, "_make", lambda *_: time.sleep(0.05))
    blocks = chain(50)
    taken = [disk.put(*block, is_first=True) for block in blocks]
    assert not all(taken)
    disk.flush()
    assert disk.has_room


def test_clear_deletes_the_namespace(disk: DiskCache, tmp_path: Path) -> None:
    other = DiskCache(tmp_path, "other", block_bytes=SIZE, max_bytes=100 * PAGE)
    put(disk, chain(3))
    put(other, chain(2))
    disk.clear()
    assert there(disk, chain(3)) == [False] * 3
    assert there(other, chain(2)) == [True] * 2
    put(disk, chain(3))
    assert there(disk, chain(3)) == [True] * 3
    other.close()


def test_closing_writes_what_was_put(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, "name", block_bytes=SIZE, max_bytes=100 * PAGE)
    for block in chain(8):
        disk.put(*block, is_first=block[1] == ROOT)
    disk.close()
    disk.close()
    disk.flush()
    assert len(files(tmp_path)) == 8


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match=r"prefix_cache_dir: .* cannot be written") as caught:
        DiskCache(tmp_path / "file", "name", block_bytes=SIZE, max_bytes=PAGE)
    assert caught.value.param == "prefix_cache_dir"


def test_digests_tell_salts_and_texts_apart() -> None:
    index = PrefixIndex(block_size=2)

    def last(salt: Any, *blocks: list[int]) -> Node:
        node = index.root(salt)
        for number, tokens in enumerate(blocks):
            child = index.insert(node, tokens, block=len(index) * 10 + number)
            assert child is not None
            node = child
        return node

    nodes = [last("a", [1, 2]), last("a", [1, 2], [3, 4]), last("b", [1, 2]), last("a", [3, 4]), last("", [1, 2])]
    assert len({node.digest for node in nodes}) == 5
    twin = PrefixIndex(block_size=2)
    again = twin.insert(twin.root("a"), [1, 2], block=0)
    assert again is not None
    assert again.digest == nodes[0].digest
    assert last(object(), [1, 2]).digest is None
    assert [node.parent is None for node in nodes[1].path] == [False, False, True]
