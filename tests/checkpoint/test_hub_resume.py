"""Half-finished large files are continued: after a kill, an interrupt, a dropped connection; and only where it is safe.

The server's record proves what was asked for.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
from fake_hub import FakeHub, serve

from ostro.checkpoint import hub_resume
from ostro.checkpoint.hub import resolve
from ostro.errors import CheckpointError, ModelNotFoundError

NAME = "model.safetensors"
SMALL = {"config.json": b"{}", "tokenizer.json": b"{ }"}
DATA = random.Random(1).randbytes(50_000)  # large by the limit that the tests in this process set
HUGE = random.Random(2).randbytes(12 << 20)
HELD = 6 << 20
SHA = hashlib.sha256(DATA).hexdigest()
STORAGE = "models--acme--big"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serve(FakeHub({"acme/big": {**SMALL, NAME: DATA}}, lfs={NAME: SHA})) as fake:
        monkeypatch.setenv("HF_ENDPOINT", fake.endpoint)
        yield fake
        fake.release.set()


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_resume, "LARGE", 10_000)
    monkeypatch.setattr(hub_resume, "_CHUNK", 1000)
    monkeypatch.setattr(hub_resume, "_WAIT", 0.01)


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    """Where the beginning of the large file lies: its first 20 000 bytes."""
    path = tmp_path / STORAGE / "blobs" / f"{SHA}.ostro-partial"
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA[:20_000])
    return path


def fetch(cache: Path) -> bytes:
    return (resolve("acme/big", cache_dir=cache, progress=False) / NAME).read_bytes()


def bodies(hub: FakeHub, name: str = NAME) -> list[str]:
    """The ranges in which a file was asked for, "" for the whole."""
    return [asked for method, file, asked, _ in hub.requests if (method, file) == ("GET", name)]


def partials(cache: Path) -> list[Path]:
    return list((cache / STORAGE / "blobs").glob("*.ostro-partial"))


# --- processes that end


@pytest.fixture
def command(hub: FakeHub, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """`ostro pull acme/big`, started as a process of its own, with a file of 12 MiB that stops coming after 6 MiB."""
    hub.repos["acme/big"] = {**SMALL, NAME: HUGE}
    hub.lfs[NAME] = hashlib.sha256(HUGE).hexdigest()
    hub.hold_at[NAME] = HELD
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from ostro.cli.app import run; sys.exit(run(['pull', 'acme/big', '--quiet']))"
    )
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    home = {"HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": hub.endpoint, "LANG": "C.UTF-8"}
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=kept | home | {"HF_HUB_DOWNLOAD_TIMEOUT": "60", "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for_bytes(cache: Path, size: int) -> Path:
    for _ in range(6000):
        found = [path for path in partials(cache) if path.stat().st_size >= size]
        if found:
            return found[0]
        time.sleep(0.01)
    raise AssertionError("the download did not begin")


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_ended_process_is_continued(
    hub: FakeHub, tmp_path: Path, command: Callable[[], subprocess.Popen[str]], ending: signal.Signals
) -> None:
    first = command()
    partial = wait_for_bytes(tmp_path, HELD - (1 << 20))
    first.send_signal(ending)
    out, err = first.communicate(timeout=60)
    interrupted = ending == signal.SIGINT
    assert (first.returncode, out) == (130 if interrupted else -ending, "")
    assert ("run the same command again" in err) is interrupted
    assert "Traceback" not in err
    size = partial.stat().st_size
    assert partial.read_bytes() == HUGE[:size]
    assert HELD - (1 << 20) <= size <= HELD

    second = command()
    out, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (0, "")
    assert bodies(hub) == ["", f"bytes={size}-"]
    assert (Path(out.strip()) / NAME).read_bytes() == HUGE
    assert partials(tmp_path) == []
    assert (Path(out.strip()) / NAME).resolve() == partial.with_name(hub.lfs[NAME])


def test_two_processes_fetch_a_file_once(
    hub: FakeHub, tmp_path: Path, command: Callable[[], subprocess.Popen[str]]
) -> None:
    first = command()
    wait_for_bytes(tmp_path, 1 << 20)
    second = command()
    assert second.stderr is not None
    assert "is being fetched already; waiting for that" in second.stderr.readline()
    hub.release.set()
    paths = [Path(process.communicate(timeout=60)[0].strip()) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert paths[0] == paths[1]
    assert (paths[0] / NAME).read_bytes() == HUGE
    assert bodies(hub) == [""]


def test_a_killed_process_leaves_its_work_to_the_one_that_waits(
    hub: FakeHub, tmp_path: Path, command: Callable[[], subprocess.Popen[str]]
) -> None:
    first = command()
    partial = wait_for_bytes(tmp_path, HELD - (1 << 20))
    second = command()
    assert second.stderr is not None
    assert "waiting" in second.stderr.readline()
    first.kill()
    first.wait()
    size = partial.stat().st_size
    path = Path(second.communicate(timeout=60)[0].strip())
    assert (path / NAME).read_bytes() == HUGE
    assert bodies(hub) == ["", f"bytes={size}-"]


# --- what is asked for


def test_only_the_rest_is_asked_for(hub: FakeHub, tmp_path: Path, partial: Path) -> None:
    assert fetch(tmp_path) == DATA
    assert bodies(hub) == ["bytes=20000-"]
    assert partials(tmp_path) == []
    hub.requests.clear()
    assert fetch(tmp_path) == DATA
    assert hub.requests == []


def test_what_was_complete_is_only_checked(hub: FakeHub, tmp_path: Path, partial: Path) -> None:
    partial.write_bytes(DATA)
    assert fetch(tmp_path) == DATA
    assert bodies(hub) == []


def test_a_server_that_knows_no_ranges(hub: FakeHub, tmp_path: Path, partial: Path) -> None:
    hub.honours_range = False
    assert fetch(tmp_path) == DATA
    assert bodies(hub) == ["bytes=20000-"]


@pytest.mark.parametrize(("size", "lfs"), [(10_000, True), (50_000, False)])
def test_small_files_and_what_cannot_be_checked_are_left_to_the_client(
    hub: FakeHub, tmp_path: Path, size: int, lfs: bool
) -> None:
    data = DATA[:size]
    hub.repos["acme/big"] = {**SMALL, NAME: data}
    hub.lfs = {NAME: hashlib.sha256(data).hexdigest()} if lfs else {}
    partial = tmp_path / STORAGE / "blobs" / f"{hub.lfs.get(NAME, hashlib.sha1(data).hexdigest())}.ostro-partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"wrong")
    assert fetch(tmp_path) == data
    assert bodies(hub) == [""]


def test_without_symlinks_the_client_does_it_all(
    hub: FakeHub, tmp_path: Path, partial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_SYMLINKS", True)
    assert fetch(tmp_path) == DATA
    assert bodies(hub) == [""]


def test_the_blob_of_another_revision_is_only_linked(hub: FakeHub, tmp_path: Path, partial: Path) -> None:
    partial.with_name(SHA).write_bytes(DATA)
    assert fetch(tmp_path) == DATA
    assert bodies(hub) == []
    assert partials(tmp_path) == []


def test_a_file_of_the_store_that_all_repositories_share(hub: FakeHub, tmp_path: Path) -> None:
    hub.xet = True
    store = tmp_path / "blobs" / "ab"
    store.mkdir(parents=True)
    (store.parent / ".huggingface-shared-blobs").write_text("1\n")
    (store / ("ab" * 32)).write_bytes(DATA)
    assert fetch(tmp_path) == DATA
    assert bodies(hub) == []


# --- what breaks


def test_a_dropped_connection_is_resumed(hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hub.cut_at[NAME] = 30_000
    with caplog.at_level(logging.WARNING, logger="ostro"):
        assert fetch(tmp_path) == DATA
    assert bodies(hub) == ["", "bytes=30000-"]
    assert f"{NAME}: the connection broke" in caplog.text


def test_each_attempt_asks_for_a_link_that_has_not_expired(hub: FakeHub, tmp_path: Path) -> None:
    with serve(FakeHub(hub.repos, lfs=hub.lfs, cut_at={NAME: 30_000})) as cdn:
        hub.cdn = cdn.endpoint
        assert fetch(tmp_path) == DATA
        assert bodies(cdn) == ["", "bytes=30000-"]
    asked = [method for method, file, *_ in hub.requests if file == NAME]
    assert asked == ["HEAD", "HEAD", "HEAD"]  # two attempts of ours, and the client that links the blob


def test_a_refusal_from_the_start_is_one(hub: FakeHub, tmp_path: Path, partial: Path) -> None:
    hub.refusals = [403]
    with pytest.raises(ModelNotFoundError, match="acme/big: access to this model is restricted"):
        fetch(tmp_path)
    assert partial.stat().st_size == 20_000


def test_a_hub_that_stays_in_trouble(hub: FakeHub, tmp_path: Path, partial: Path) -> None:
    hub.refusals = [503] * 50
    with pytest.raises(
        ModelNotFoundError, match=r"acme/big: the hub answered with status 503.*what was fetched is kept"
    ):
        fetch(tmp_path)
    assert len(bodies(hub)) == hub_resume._RETRIES + 1
    hub.refusals = []
    assert fetch(tmp_path) == DATA
    assert bodies(hub)[-1] == "bytes=20000-"


def test_offline_a_half_finished_file_is_none(hub: FakeHub, tmp_path: Path, partial: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"acme/big is not in the local cache.*Run `ostro pull acme/big` once"):
        resolve("acme/big", offline=True, cache_dir=tmp_path)
    assert partial.exists()
    assert hub.requests == []


def test_a_wrong_sum_is_named_and_nothing_of_it_kept(hub: FakeHub, tmp_path: Path) -> None:
    hub.lfs[NAME] = "0" * 64
    with pytest.raises(
        CheckpointError, match=rf"acme/big: model\.safetensors arrived damaged: its sha256 is {SHA}, not 0+\."
    ):
        fetch(tmp_path)
    assert list((tmp_path / STORAGE / "blobs").iterdir()) == []
    hub.lfs[NAME] = SHA
    assert fetch(tmp_path) == DATA


@pytest.mark.parametrize("found", [b"\0" * 20_000, DATA + b"more"])
def test_a_damaged_beginning_is_thrown_away(hub: FakeHub, tmp_path: Path, partial: Path, found: bytes) -> None:
    partial.write_bytes(found)
    with pytest.raises(CheckpointError, match=r"arrived damaged.*It was deleted; run the command again"):
        fetch(tmp_path)
    assert partials(tmp_path) == []
    assert fetch(tmp_path) == DATA


def test_one_damaged_file_stops_the_others_and_keeps_them(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    hub.repos["acme/big"] = {**SMALL, names[0]: DATA, names[1]: DATA[::-1]}
    hub.lfs = {names[0]: "0" * 64, names[1]: hashlib.sha256(DATA[::-1]).hexdigest()}
    hub.hold_at[names[1]] = 15_000
    monkeypatch.setattr(hub_resume, "_GRACE", 0.2)  # the server is silent: the second file's thread is not waited for
    half = tmp_path / STORAGE / "blobs" / f"{hub.lfs[names[1]]}.ostro-partial"
    half.parent.mkdir(parents=True)
    half.write_bytes(DATA[::-1][:10_000])
    with pytest.raises(CheckpointError, match=r"model-00001-of-00002\.safetensors arrived damaged"):
        fetch(tmp_path)
    assert half.read_bytes()[:10_000] == DATA[::-1][:10_000]
    hub.release.set()
    hub.lfs[names[0]] = SHA
    folder = resolve("acme/big", cache_dir=tmp_path, progress=False)
    assert [(folder / name).read_bytes() for name in names] == [DATA, DATA[::-1]]
    assert "" not in bodies(hub, names[1])


def test_a_disk_that_fills_up(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub_resume._Download, "_receive", full)
    with pytest.raises(ModelNotFoundError, match=r"acme/big: the disk is full\. Make room.*goes on from there"):
        fetch(tmp_path)


# --- tokens, room, leftovers, the bar


@pytest.mark.parametrize("xet", [False, True])
def test_the_token_does_not_leave_the_hub(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partial: Path, xet: bool
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.xet = xet
    with serve(FakeHub(hub.repos, lfs=hub.lfs)) as cdn:
        hub.cdn = cdn.endpoint
        assert fetch(tmp_path) == DATA
        assert cdn.requests == [("GET", NAME, "bytes=20000-", False)]
        assert ("GET" in {method for method, file, _, _ in hub.requests if file == NAME}) is xet
        assert all(authorized for *_, authorized in hub.requests)


def test_only_what_is_missing_needs_room(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partial: Path
) -> None:
    usage = namedtuple("usage", "total used free")
    room = 30_000 + sum(map(len, SMALL.values()))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - room, room))
    assert fetch(tmp_path) == DATA
    shutil.rmtree(tmp_path / STORAGE)
    with pytest.raises(ModelNotFoundError, match=r"must be downloaded, but the disk"):
        fetch(tmp_path)


def test_leftovers_that_nobody_continues_are_removed(hub: FakeHub, tmp_path: Path, partial: Path) -> None:
    other = random.Random(3).randbytes(20_000)
    hub.repos["acme/big"] = {**hub.repos["acme/big"], "x.gguf": other}
    hub.lfs["x.gguf"] = hashlib.sha256(other).hexdigest()
    old, kept, busy = (partial.with_name(f"{sha}.ostro-partial") for sha in ("1" * 64, hub.lfs["x.gguf"], "2" * 64))
    for path in (old, kept, busy):
        path.write_bytes(other[:1])
    lock = tmp_path / ".locks" / STORAGE / f"{'2' * 64}.lock"
    lock.parent.mkdir(parents=True)
    with huggingface_hub.utils.WeakFileLock(lock):  # type: ignore[attr-defined]
        assert fetch(tmp_path) == DATA
    assert set(partials(tmp_path)) == {kept, busy}
    fetch(tmp_path)
    assert partials(tmp_path) == [kept]
    assert resolve("acme/big:x", cache_dir=tmp_path, progress=False).read_bytes() == other
    assert bodies(hub, "x.gguf") == ["bytes=1-"]


@pytest.mark.parametrize("progress", [True, False])
def test_the_bar_starts_where_the_file_does(
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    partial: Path,
    progress: bool,
) -> None:
    monkeypatch.setenv("TQDM_POSITION", "-1")  # huggingface_hub then draws its bars without a terminal, too
    resolve("acme/big", cache_dir=tmp_path, progress=progress)
    out, err = capfd.readouterr()
    assert out == ""
    assert bool(err) is progress
    if progress:
        assert err.lstrip("\r").startswith(f"{NAME}:  40%|")
        assert f"{NAME}: 100%|" in err
