"""Conversions that end early, are found again, or meet what is not theirs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packed_models import STORIES, copy_of, write_packed, write_source

from ostro.checkpoint.open import open_checkpoint, read_config
from ostro.checkpoint.packed_folder import STATE
from ostro.errors import CheckpointError, DamagedError, RequestError
from ostro.log import logger
from ostro.models.convert import Progress, convert, quantization_of

needs_stories = pytest.mark.skipif(
    not STORIES.exists(), reason="the stories260K checkpoint is not beside this checkout"
)


class EndedError(Exception):
    """Stands for whatever ends a process."""


def convert_until(source: Path, out: Path, shard: int, at: int = 3) -> list[Progress]:
    """Begin a conversion and end it in the middle of a shard."""
    steps: list[Progress] = []
    boundaries = [0]

    def progress(step: Progress) -> None:
        steps.append(step)
        layer = step.name.split(".")[2] if step.name.startswith("model.layers.") else "-1"
        if int(layer) + 1 == shard:
            boundaries[0] += 1
            if boundaries[0] == at:
                raise EndedError

    with pytest.raises(EndedError):
        convert(open_checkpoint(source), out, quantization_of(4), progress=progress)
    return steps


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_ended_conversion_goes_on(tmp_path: Path) -> None:
    source = write_source(tmp_path / "s", "moe")
    write_packed(tmp_path / "whole", source)
    convert_until(source, tmp_path / "p", shard=2)
    with pytest.raises(CheckpointError):
        open_checkpoint(tmp_path / "p")  # what is not complete is no model
    first = tmp_path / "p" / "model-00001-of-00003.safetensors"
    before = first.stat().st_mtime_ns
    steps: list[Progress] = []
    convert(open_checkpoint(source), tmp_path / "p", quantization_of(4), progress=steps.append)
    assert first.stat().st_mtime_ns == before
    assert steps[0].resumed > 0
    assert steps[0].done > steps[0].resumed
    assert steps[-1].done == steps[-1].total
    assert {step.name.split(".")[2] for step in steps} == {"1"}  # the second layer alone was packed
    assert contents(tmp_path / "p") == contents(tmp_path / "whole")


def test_a_damaged_shard_is_written_again(tmp_path: Path) -> None:
    source = write_source(tmp_path / "s")
    write_packed(tmp_path / "whole", source)
    convert_until(source, tmp_path / "p", shard=2)
    path = tmp_path / "p" / "model-00002-of-00003.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    write_packed(tmp_path / "p", source)
    assert contents(tmp_path / "p") == contents(tmp_path / "whole")


@pytest.mark.parametrize("state", [b"", b"[]", b'{"request": 3, "shards": {}}', b'{"request": {}, "shards": {"a": 3}}'])
def test_a_damaged_state_begins_anew(tmp_path: Path, state: bytes) -> None:
    source = write_source(tmp_path / "s")
    write_packed(tmp_path / "whole", source)
    convert_until(source, tmp_path / "p", shard=2)
    (tmp_path / "p" / STATE).write_bytes(state)
    write_packed(tmp_path / "p", source)
    assert contents(tmp_path / "p") == contents(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from ostro.checkpoint.open import open_checkpoint
from ostro.models.convert import convert, quantization_of
steps = []
def progress(step):
    steps.append(step)
    if len(steps) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
convert(open_checkpoint(Path(sys.argv[1])), Path(sys.argv[2]), quantization_of(4), progress=progress)
"""


@pytest.mark.parametrize("steps", [2, 14])
def test_a_killed_process_leaves_what_can_be_completed(tmp_path: Path, steps: int) -> None:
    source = write_source(tmp_path / "s", "moe")
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "p"), str(steps)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert any(path.name.endswith(".part") for path in (tmp_path / "p").iterdir())
    write_packed(tmp_path / "p", source)
    write_packed(tmp_path / "whole", source)
    assert contents(tmp_path / "p") == contents(tmp_path / "whole")


def test_a_complete_folder_is_left_as_it_is(tmp_path: Path) -> None:
    source = write_source(tmp_path / "s")
    first = write_packed(tmp_path / "p", source)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "p").iterdir()}
    assert write_packed(tmp_path / "p", source) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "p").iterdir()} == times


def cut_shard(folder: Path) -> None:
    path = folder / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


DAMAGES: list[Callable[[Path], object]] = [
    cut_shard,
    lambda folder: (folder / "model-00003-of-00003.safetensors").unlink(),
    lambda folder: (folder / "model.safetensors.index.json").unlink(),
    lambda folder: (folder / "config.json").write_text("{"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_mended(
    tmp_path: Path, damage: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The same conversion finds the damage by sizes and headers, and packs only what is damaged."""
    monkeypatch.setattr(logger, "propagate", True)
    source, out = write_source(tmp_path / "s"), tmp_path / "p"
    write_packed(out, source)
    good = contents(out)
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    damage(out)
    damaged = {path.name for path in out.glob("*.safetensors") if path.read_bytes() == good[path.name]}
    write_packed(out, source)
    assert contents(out) == good
    assert all((out / name).stat().st_mtime_ns == times[name] for name in damaged)
    assert f"{out} is damaged and is mended from the source." in caplog.text


def test_an_ended_mending_goes_on(tmp_path: Path) -> None:
    source, out = write_source(tmp_path / "s"), tmp_path / "p"
    write_packed(out, source)
    good = contents(out)
    cut_shard(out)
    convert_until(source, out, shard=1)
    with pytest.raises(CheckpointError, match="is unfinished"):
        open_checkpoint(out)
    write_packed(out, source)
    assert contents(out) == good


def test_an_unfinished_folder_says_so(tmp_path: Path) -> None:
    """Before the first shard, after it, and where only the configuration is wanted."""
    source = write_source(tmp_path / "s")
    for shard in (0, 2):
        out = tmp_path / str(shard)
        convert_until(source, out, shard=shard)
        for read in (open_checkpoint, read_config):
            with pytest.raises(CheckpointError, match=rf"{out} is unfinished.*same `ostro quantize` command goes on"):
                read(out)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_damaged_folder_says_how_to_make_it_again(tmp_path: Path, bits: int) -> None:
    source, whole = write_source(tmp_path / "s"), tmp_path / "whole"
    write_packed(whole, source, bits=bits)

    def damaged(number: int) -> Path:
        return copy_of(whole, tmp_path / f"p{number}")

    cut_shard(damaged(0))
    (damaged(1) / "model-00003-of-00003.safetensors").unlink()
    (damaged(2) / "packed.json").unlink()
    (damaged(3) / "model.safetensors.index.json").unlink()
    (damaged(4) / "packed.json").write_text("{")
    for number in range(5):
        out = tmp_path / f"p{number}"
        with pytest.raises(DamagedError) as caught:
            open_checkpoint(out)
        assert f"`ostro quantize MODEL --bits {bits} --out {out} --overwrite`" in str(caught.value)
        assert "ownload" not in str(caught.value)
        convert(open_checkpoint(source), out, quantization_of(bits), overwrite=True)  # which is true
        assert contents(out) == contents(whole)


def test_codebook_and_lost_settings_in_the_advice(tmp_path: Path) -> None:
    source, out = write_source(tmp_path / "s"), tmp_path / "p"
    write_packed(out, source, codebook="nf4")
    cut_shard(out)
    with pytest.raises(DamagedError, match="--bits 4 --codebook nf4 --out"):
        open_checkpoint(out)
    (out / "config.json").write_text("{")
    with pytest.raises(DamagedError, match="--bits N --out"):
        open_checkpoint(out)


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    source = write_source(tmp_path / "s")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match=r"Not a directory.*Give an output folder that can be written") as caught:
        write_packed(tmp_path / "file" / "p", source)
    assert caught.value.param == "out"


@pytest.mark.parametrize("finished", [True, False])
def test_another_conversion_is_not_taken_away_unasked(tmp_path: Path, finished: bool) -> None:
    source, out = write_source(tmp_path / "s"), tmp_path / "p"
    if finished:
        write_packed(out, source)
    else:
        convert_until(source, out, shard=1)
    what = "a finished model" if finished else "the beginning of one"
    with pytest.raises(RequestError, match=f"{what} of another source.*overwrite") as caught:
        write_packed(out, source, bits=8)
    assert caught.value.param == "overwrite"
    os.utime(source / "model.safetensors", ns=(1, 1))  # a changed source
    with pytest.raises(RequestError, match=f"{what} of another source"):
        write_packed(out, source)
    (out / "mine.txt").write_text("kept")
    convert(open_checkpoint(source), out, quantization_of(8), overwrite=True)
    assert (out / "mine.txt").read_text() == "kept"
    (out / "mine.txt").unlink()
    convert(open_checkpoint(source), tmp_path / "new", quantization_of(8))
    assert contents(out) == contents(tmp_path / "new")


def test_overwriting_repairs(tmp_path: Path) -> None:
    source, out = write_source(tmp_path / "s"), tmp_path / "p"
    write_packed(out, source)
    good = contents(out)
    (out / "model-00002-of-00003.safetensors").write_bytes(b"")
    (out / "packed.json").write_text("{")
    convert(open_checkpoint(source), out, quantization_of(4), overwrite=True)
    assert contents(out) == good


def test_other_content_is_never_touched(tmp_path: Path) -> None:
    source = write_source(tmp_path / "s")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match="is a file"):
        write_packed(tmp_path / "file", source)
    before = contents(source)
    for out in (source, tmp_path):
        with pytest.raises(RequestError, match="has other content"):
            convert(open_checkpoint(source), out, quantization_of(4), overwrite=True)
    assert contents(source) == before
