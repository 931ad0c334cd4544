"""`ostro quantize`, `--quantize`, and what `info` and `list` say of packed models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pexpect
import pytest
from packed_models import add_vocabulary, copy_of, write_packed, write_source

from ostro.checkpoint.open import open_checkpoint

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of experts with a vocabulary of bytes."""
    return add_vocabulary(write_source(tmp_path_factory.mktemp("source") / "tiny-moe", "moe"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OSTRO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "packed"


def test_a_table(run: Run, source: Path, tmp_path: Path) -> None:
    done = run("quantize", source, "--bits", 4, "--codebook", "nf4", "--out", tmp_path / "p", "--max-tokens", 50)
    assert done.code == 0
    lines = done.out.splitlines()
    facts = {line[:22].strip(): line[22:].strip() for line in lines[: lines.index("")]}
    assert facts["source"].startswith("tiny-moe (hf, ")
    assert facts["packed"].startswith("4 bits, nf4, ")
    assert facts["compared on"] == "a built-in text, 51 tokens, backend cpu"
    assert {"KL divergence", "same first choice", "perplexity", "tokens an expert saw"} <= set(facts)
    table = [line.split() for line in lines[lines.index("") + 1 :]]
    assert table[0] == ["TENSORS", "WEIGHTS", "BITS", "A", "WEIGHT", "ERROR", "MADE"]
    assert [row[0] for row in table[1:]] == [
        "embeddings", "attention", "experts", "routers", "norms", "head", "all",
    ]  # fmt: skip
    assert f"`ostro chat {tmp_path / 'p'}` talks with it" in done.err
    assert "%" not in done.err  # no bar where there is no terminal


def test_json(run: Run, source: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The ferry left the island at six.")
    done = run("quantize", source, "--bits", 8, "--out", tmp_path / "p", "--text", text, "--threads", 1, "--json")
    assert done.code == 0
    found = done.json
    assert found["path"] == str(tmp_path / "p")
    assert (found["bits"], found["codebook"], found["text"]) == (8, None, "text.txt")
    assert found["comparison"]["num_tokens"] == 34
    assert [len(layer) for layer in found["comparison"]["expert_tokens"]] == [3, 3]
    stored = json.loads((tmp_path / "p" / "packed.json").read_text())["report"]
    assert {**found, "path": None} == {**stored, "path": None}


def test_without_a_comparison(run: Run, source: Path, tmp_path: Path) -> None:
    done = run("quantize", source, "--bits", 4, "--out", tmp_path / "p", "--no-report")
    assert done.code == 0
    assert "no: no report was asked for" in done.out
    assert (tmp_path / "p" / "report.md").is_file()


def test_errors_name_options(run: Run, source: Path, tmp_path: Path) -> None:
    def refused(match: str, *args: object, code: int = 1) -> None:
        done = run("quantize", *args)
        assert done.code == code
        assert match in " ".join(done.err.replace("\u2502", " ").split())
        assert done.out == ""

    out = tmp_path / "p"
    refused("Missing option '--bits'", source, "--out", out, code=2)
    refused("Missing option '--out'", source, "--bits", 4, code=2)
    refused("'3' is none of 4, 8", source, "--bits", 3, "--out", out, code=2)
    refused("'int8' is none of int4, nf4", source, "--bits", 4, "--codebook", "int8", "--out", out, code=2)
    refused("--codebook is 'nf4', but 8-bit weights have none", source, "--bits", 8, "--codebook", "nf4", "--out", out)
    refused("--max-tokens is given, but nothing", source, "--bits", 4, "--out", out, "--no-report", "--max-tokens", 9)
    refused("error: " + str(tmp_path / "none"), tmp_path / "none", "--bits", 4, "--out", out)
    refused("has no weights", tmp_path, "--bits", 4, "--out", out)
    refused(f"{source} has other content (config.json, ", source, "--bits", 4, "--out", source, "--overwrite")
    bare = write_source(tmp_path / "bare")
    refused("leave the comparison out (--no-report).", bare, "--bits", 4, "--out", out)
    assert not out.exists()


def test_overwriting(run: Run, source: Path, tmp_path: Path) -> None:
    def quantize(*args: object) -> Any:
        return run("quantize", source, "--out", tmp_path / "p", "--no-report", *args)

    assert quantize("--bits", 4).code == 0
    refused = quantize("--bits", 8)
    assert refused.code == 1
    assert "Give another folder, or --overwrite to replace it." in refused.err
    assert quantize("--bits", 8, "--overwrite").code == 0
    assert run("info", tmp_path / "p", "--json").json["quantization"]["bits"] == 8
    again = run("quantize", tmp_path / "p", "--bits", 4, "--out", tmp_path / "q")
    assert again.code == 1
    assert "packed at 8 bits already" in again.err


SLOW = """
import sys, time
from ostro.models import convert
pack_rows = convert.pack_rows
def slow(*args):
    time.sleep(0.2)
    return pack_rows(*args)
convert.pack_rows = slow
from ostro.cli.app import run
sys.exit(run(sys.argv[1:]))
"""


def test_an_interrupt_leaves_what_can_be_completed(
    source: Path, tmp_path: Path, environment: dict[str, str], run: Run
) -> None:
    command = [sys.executable, "-c", SLOW, "quantize", str(source), "--bits", "4", "--out", str(tmp_path / "p")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        first, second = (tmp_path / "p" / f"model-0000{number}-of-00003.safetensors" for number in (1, 2))
        deadline = time.monotonic() + 60
        while not second.exists() and time.monotonic() < deadline:  # then the first is written down as complete
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted. The layers that are complete are kept" in err
    assert "run the same command again" in err
    before = first.stat().st_mtime_ns
    assert run("quantize", source, "--bits", 4, "--out", tmp_path / "p", "--no-report").code == 0
    assert first.stat().st_mtime_ns == before


def test_a_bar_on_a_terminal(source: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "ostro", "quantize", str(source), "--bits", "4", "--out", str(tmp_path / "p")]
    terminal = pexpect.spawn(
        command[0], command[1:], env=environment, encoding="utf-8", timeout=60, dimensions=(40, 160)
    )
    terminal.expect("packing")
    terminal.expect("verifying")
    terminal.expect("comparing")
    terminal.expect("100 %")
    terminal.expect("TENSORS")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_info_of_a_packed_model(run: Run, source: Path, tmp_path: Path) -> None:
    assert run("quantize", source, "--bits", 4, "--out", tmp_path / "p", "--no-report").code == 0
    shown = run("info", tmp_path / "p")
    assert shown.code == 0
    packed = next(line for line in shown.out.splitlines() if line.startswith("packed"))
    found = run("info", tmp_path / "p", "--json").json
    assert found["form"] == "packed"
    assert found["problems"] == []
    assert (found["quantization"]["bits"], found["quantization"]["codebook"]) == (4, "int4")
    assert packed.split(None, 1)[1] == f"4 bits, int4: {found['quantization']['bits_per_weight']:.2f} bits a weight"
    assert 4 < found["quantization"]["bits_per_weight"] < 8
    assert sum(found["num_stored"].values()) == found["num_parameters"]["total"]
    assert set(found["num_stored"]) > {"float32"}
    damaged = copy_of(tmp_path / "p", tmp_path / "damaged")
    (damaged / "packed.json").unlink()
    broken = run("info", damaged)
    assert broken.code == 1
    assert "packed.json is missing" in broken.err


@pytest.mark.parametrize("kind", ["dense", "tied", "moe"])
@pytest.mark.parametrize("bits", [4, 8])
def test_info_knows_what_packing_will_give(run: Run, tmp_path: Path, kind: str, bits: int) -> None:
    """To the byte but for norms and routers, which `info` counts in 2 bytes and these sources have in 4."""
    model = write_source(tmp_path / "s", kind)
    said = run("info", model, "--json").json["weight_bytes"][str(bits)]
    write_packed(tmp_path / "p", model, bits)
    packed = open_checkpoint(tmp_path / "p").tensors
    plain = sum(tensor.nbytes for tensor in packed.values() if isinstance(tensor, np.ndarray))
    assert said == sum(tensor.nbytes for tensor in packed.values()) - plain // 2


def test_quantize_when_loading(run: Run, source: Path, cache: Path) -> None:
    """The first load packs, says where and how much; the second finds it; `ostro list` shows it."""

    def generate(*args: object) -> Any:
        return run(
            "generate",
            "-m",
            source,
            "--temperature",
            0,
            "--max-tokens",
            5,
            "--ids",
            "256,5,6",
            "--ignore-eos",
            "--json",
            *args,
        )

    first = generate("--quantize", 4, "--threads", 1)
    assert first.code == 0
    folder = next(cache.iterdir())
    assert folder.name.startswith("tiny-moe-4bit-")
    assert "Packed at 4 bits: " in first.err
    assert f"bits a weight, kept in {folder}" in first.err
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    second = generate("--quantize", 4)
    assert [o["token_ids"] for o in second.json["outputs"]] == [o["token_ids"] for o in first.json["outputs"]]
    assert second.err == ""
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    direct = run(
        "generate", "-m", folder, "--temperature", 0, "--max-tokens", 5, "--ids", "256,5,6", "--ignore-eos", "--json"
    )
    assert [o["token_ids"] for o in direct.json["outputs"]] == [o["token_ids"] for o in second.json["outputs"]]
    assert generate("--quantize", 8).code == 0
    assert len(list(cache.iterdir())) == 2
    listed = run("list", "--json").json["packed"]
    assert [(entry["path"], entry["bits"]) for entry in listed] == [
        (str(path), int(path.name.split("-")[2][0])) for path in sorted(cache.iterdir())
    ]
    assert all(4 < entry["bits_per_weight"] < 14 for entry in listed)
    assert str(folder) in run("list").out


def test_a_copy_that_was_not_completed_is(run: Run, source: Path, cache: Path) -> None:
    assert run("generate", "-m", source, "--quantize", 4, "--ids", "5", "--max-tokens", 1).code == 0
    folder = next(cache.iterdir())
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    manifest = json.loads(whole["packed.json"])
    (folder / "config.json").unlink()
    (folder / "packed.json").unlink()
    (folder / "model-00003-of-00003.safetensors").unlink()
    shards = {
        name: {**entry, "tensors": {t: e for t, e in manifest["tensors"].items() if _shard(whole, t) == name}}
        for name, entry in manifest["files"].items()
        if "00003-of" not in name
    }
    request = {key: manifest[key] for key in ("source", "quantization", "ostro")}
    (folder / ".ostro-convert.json").write_text(json.dumps({"request": request, "shards": shards}))
    assert run("list", "--json").json["packed"] == []
    done = run("generate", "-m", source, "--quantize", 4, "--ids", "5", "--max-tokens", 1)
    assert done.code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole


def _shard(files: dict[str, bytes], name: str) -> str:
    found: str = json.loads(files["model.safetensors.index.json"])["weight_map"][f"{name}.codes"]
    return found


def test_a_changed_source_is_packed_anew(run: Run, source: Path, tmp_path: Path, cache: Path) -> None:
    copy = copy_of(source, tmp_path / "tiny-moe")
    for _ in range(2):
        assert run("generate", "-m", copy, "--quantize", 8, "--ids", "5", "--max-tokens", 1).code == 0
        os.utime(copy / "model.safetensors", ns=(1, 1))
    assert len(list(cache.iterdir())) == 2


def test_what_cannot_be_packed_when_loading(run: Run, source: Path, tmp_path: Path, cache: Path) -> None:
    def refused(model: Path, *args: object) -> str:
        done = run("generate", "-m", model, "--ids", "5", "--max-tokens", 1, *args)
        assert done.code in (1, 2)
        return " ".join(done.err.split())

    assert run("quantize", source, "--bits", 4, "--out", tmp_path / "p", "--no-report").code == 0
    for bits in (4, 8):
        message = refused(tmp_path / "p", "--quantize", bits)
        assert f"--quantize: {tmp_path / 'p'} is packed at 4 bits already. Leave quantize out." in message
    assert "packed weights have no other type" in refused(source, "--quantize", 4, "--dtype", "float16")
    assert "'5' is none of 4, 8" in refused(source, "--quantize", 5)
    assert not cache.exists()


@pytest.mark.parametrize("name", ["model-00002-of-00003.safetensors", "packed.json"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_copy_is_made_again(run: Run, source: Path, cache: Path, name: str, cut: bool) -> None:
    def load() -> Any:
        return run("generate", "-m", source, "--quantize", 4, "--ids", "5", "--max-tokens", 1)

    assert load().code == 0
    folder = next(cache.iterdir())
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    if cut:
        (folder / name).write_bytes(whole[name][:-50])
    else:
        (folder / name).unlink()
    done = load()
    assert done.code == 0
    assert f"{folder} is damaged and is m" in done.err  # made again, or mended
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert "damaged" not in load().err


def test_a_damaged_folder_is_mended_by_the_same_command(run: Run, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    command = ("quantize", source, "--bits", 4, "--out", out, "--no-report")
    assert run(*command).code == 0
    shard = out / "model-00002-of-00003.safetensors"
    good = shard.read_bytes()
    shard.write_bytes(good[:-1])
    for reading in (("generate", "-m", out, "--ids", "5"), ("info", out)):
        read = run(*reading)
        assert read.code == 1
        assert f"`ostro quantize MODEL --bits 4 --out {out} --overwrite`" in read.err
        assert "download" not in read.err
    done = run(*command)
    assert done.code == 0
    assert f"{out} is damaged and is mended from the source. {shard.name} has " in done.err
    assert shard.read_bytes() == good


def test_an_unfinished_folder_says_so(run: Run, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    assert run("quantize", source, "--bits", 4, "--out", out, "--no-report").code == 0
    (out / "config.json").unlink()
    (out / ".ostro-convert.json").write_text("{}")
    for reading in (("generate", "-m", out, "--ids", "5"), ("info", out)):
        read = run(*reading)
        assert read.code == 1
        assert f"{out} is unfinished" in read.err
        assert "The same `ostro quantize` command goes on with it" in read.err


def test_what_cannot_be_written_is_no_fault_of_ostro(
    run: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("OSTRO_CACHE", str(tmp_path / "file"))
    packing = run("quantize", source, "--bits", 4, "--out", tmp_path / "file" / "p")
    loading = run("generate", "-m", source, "--quantize", 4, "--ids", "5")
    assert packing.code == loading.code == 1
    for err in (packing.err, loading.err):
        assert "Not a directory. Give an output folder that can be written." in err
        assert "fault" not in err
    assert "OSTRO_CACHE moves the cache" in loading.err
