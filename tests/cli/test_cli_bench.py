"""`ostro bench` as a user runs it, on a tiny shape and a tiny model."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_bench import PUBLISHED, quick_ceilings

Run = Callable[..., Any]
QUICK = ("--prefill", "4,30", "--batch", "1,2", "--context", "8", "--seconds", "1e-6")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_ceilings(monkeypatch)
    monkeypatch.setattr("ostro.bench.shapes.PUBLISHED", (PUBLISHED,))


def test_json_of_a_shape(run: Run) -> None:
    result = run("bench", "--shape", "tiny-1", "--layers", "2", "--threads", "1", "--json", *QUICK)
    assert result.code == 0
    found = result.json
    assert set(found["prefill_tokens_per_s"]) == {"4", "30"}
    assert set(found["decode_tokens_per_s"]) == {"1", "2"}
    assert (found["model"], found["num_layers"], found["bits"], found["codebook"]) == ("tiny-1", 2, 4, "int4")
    for name in ("weight_bytes", "peak_rss_bytes", "dram_gb_per_s", "int8_gops"):
        assert found[name] is None or found[name] > 0
    assert "Decode, batch 2" in result.err


def test_a_table_for_people(run: Run) -> None:
    result = run("bench", "--shape", "tiny-1", "--bits", "8", "--kv-dtype", "float32", *QUICK)
    assert result.code == 0
    for words in ("tiny-1, 3 layers, 8 bits: ", "PREFILL TOKENS", "DECODE BATCH", "K/V float32", "beyond weights"):
        assert words in result.out
    if "cpu backend" in result.out:
        assert "SHARE OF int8" in result.out
        assert "SHARE OF DRAM" in result.out


@pytest.mark.parametrize("looks", [(100.0, 90.0, 95.0, 95.0), (100.0, 70.0, 95.0, 70.0)])
def test_a_busy_machine_is_told(looks: tuple[float, ...], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ostro._native")
    values = itertools.cycle(looks)
    names = ("dram_gb_per_s", "int8_gops", "fma_gflops")
    monkeypatch.setattr("ostro.ops.cpu.ceilings", lambda *_, **__: dict.fromkeys(names, next(values)))
    result = run("bench", "--shape", "tiny-1", *QUICK)
    assert result.code == 0
    assert ("changed by more than a fifth" in result.err) is (min(looks) < 80)


def test_a_model(run: Run, chat_model: Path) -> None:
    result = run("bench", chat_model, "--prefill", "none", "--batch", "1", "--context", "8", "--seconds", "1e-6")
    assert result.code == 0
    assert str(chat_model) in result.out
    assert "PREFILL" not in result.out
    assert "loaded in" in result.out


def test_defaults_are_cut_to_a_short_context(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what was asked for nothing is cut."""
    monkeypatch.setattr("ostro.bench.shapes.PUBLISHED", (replace(PUBLISHED, context=200),))
    command = ("bench", "--shape", "tiny-1", "--batch", "1,2", "--seconds", "1e-6", "--json")
    found = run(*command).json
    assert set(found["prefill_tokens_per_s"]) == {"128", "199"}
    assert found["decode_context"] == 95
    assert set(run(*command, "--context", "10").json["prefill_tokens_per_s"]) == {"128", "199"}
    assert run(*command, "--prefill", "50").json["decode_context"] == 95
    refused = run(*command, "--context", "128")
    assert refused.code == 1
    assert "context of tiny-1, 200 tokens: give --context 95 or less." in refused.err
    monkeypatch.setattr("ostro.bench.shapes.PUBLISHED", (replace(PUBLISHED, context=100),))
    short = run(*command)
    assert short.code == 1
    assert "give --batch none, for which it is too short." in short.err
    assert set(run(*command, "--batch", "none").json["prefill_tokens_per_s"]) == {"99"}


def test_the_model_of_the_variable(run: Run, chat_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRO_MODEL", str(chat_model))
    found = run("bench", "--json", *QUICK).json
    assert (found["model"], found["bits"], found["num_layers"]) == (str(chat_model), None, 2)


def test_without_the_kernels_there_is_no_share(run: Run) -> None:
    result = run("bench", "--shape", "tiny-1", "--backend", "reference", *QUICK)
    assert result.code == 0
    assert "SHARE" not in result.out
    assert "this machine" not in result.out


def test_a_plot(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bench.svg"
    result = run("bench", "--shape", "tiny-1", "--plot", path, *QUICK)
    assert result.code == 0
    assert "<svg" in path.read_text(encoding="utf-8")
    assert f"The plot is in {path}." in result.err


def test_a_plot_without_matplotlib_is_refused_before_anything_runs(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("bench", "--shape", "tiny-1", "--plot", tmp_path / "a.svg", *QUICK)
    assert result.code == 1
    assert "ostro[plot]" in result.err
    assert "weights" not in result.err


def test_memory_is_refused_in_the_words_of_the_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ostro.bench.subject.available_memory", lambda: 1000)
    result = run("bench", "--shape", "tiny-1", *QUICK)
    assert result.code == 1
    assert "0.3 GB to work with, but 0.0 GB of memory are available: give a smaller shape." in result.err


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--shape", "gpt-2"), 1, "error: There is no shape 'gpt-2'. Choose one of tiny-1"),
        (("--shape", "tiny-1", "--layers", "4"), 1, "--layers must be a whole number from 1 to 3"),
        (("--shape", "tiny-1", "--layers", "0"), 2, "'0' is too small"),
        (("--shape", "tiny-1", "--bits", "5"), 2, "'5' is none of 4, 8, 16"),
        (("--shape", "tiny-1", "--codebook", "nf5"), 2, "'nf5' is none of int4, nf4"),
        (("--shape", "tiny-1", "--bits", "8", "--codebook", "int4"), 1, "leave it out at 8"),
        (("--shape", "tiny-1", "--prefill", "1,x"), 2, "'1,x' is no list"),
        (("--shape", "tiny-1", "--batch", "0"), 2, "'0' is no list"),
        (("--shape", "tiny-1", "--seconds", "-1"), 2, "not a number greater than 0"),
        (("--shape", "tiny-1", "--prefill", "none", "--batch", "none"), 1, "Nothing is to be measured"),
        (
            ("--shape", "tiny-1", "--prefill", "600", "--context", "500"),
            1,
            "context of tiny-1, 512 tokens: give --prefill 511 or less and --context 401 or less.",
        ),
        (("--shape", "tiny-1", "--offline"), 2, "Give either a model, or --shape"),
        (("model", "--shape", "tiny-1"), 2, "Give either a model, or --shape"),
        (("model", "--bits", "4", "--layers", "2"), 2, "--layers, --bits can be given with --shape only"),
        (("--shape", "tiny-1", "--plot", "a.gif"), 1, "ends in .svg or .png"),
        (("--shape", "tiny-1", "--backend", "gpu"), 2, "'gpu' is none of"),
        (("--shape", "tiny-1", "--backend", "reference", "--threads", "2"), 1, "no option num_threads"),
        ((), 2, "No model was given"),
    ],
)
def test_wrong_usage(args: tuple[str, ...], code: int, message: str, run: Run) -> None:
    result = run("bench", *args)
    assert result.code == code
    assert message in " ".join(result.err.replace("│", " ").split())
    assert "Traceback" not in result.err
