"""Two processes of torchrun train as one does: the same losses, norms and weights from the same global batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import train_in_group
from tiny import save_tiny

from ostro.errors import BackendError
from ostro.finetune.distributed import Group, join, share_like, whole

WORKER = Path(train_in_group.__file__)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of the same runs, made by one process and by two."""
    folder = tmp_path_factory.mktemp("distributed")
    model = save_tiny("llama-3.2", folder / "model", num_hidden_layers=2, initializer_range=0.1)  # tied embeddings
    save_tiny("mixtral", folder / "model-mixture", num_hidden_layers=2, initializer_range=0.1)
    for name in ("one", "two"):
        (folder / name).mkdir()
    train_in_group.train(str(model), folder / "one", Group(0, 1, torch.device("cpu")))
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            str(WORKER), str(model), str(folder / "two"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "one", folder / "two"


def metrics(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / kind / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [("full", 2e-6), ("lora", 2e-6), ("dpo", 2e-6), ("mixture", 2e-6), ("resumed", 2e-6), ("bfloat16", 5e-3)],
)
def test_losses_and_norms_are_those_of_one_process(runs: tuple[Path, Path], kind: str, tolerance: float) -> None:
    one, two = (metrics(folder, kind) for folder in runs)
    assert [line["step"] for line in one] == [1, 2, 2, 3, 4, 4] == [line["step"] for line in two]
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key in a.keys() - {"seconds"}:
            assert b[key] == pytest.approx(a[key], rel=tolerance, abs=1e-6), (kind, a["step"], key)


@pytest.mark.parametrize("kind", ["full", "lora", "dpo", "mixture"])
def test_the_weights_put_together_are_those_of_one_process(runs: tuple[Path, Path], kind: str) -> None:
    one, two = (torch.load(folder / f"{kind}.pt") for folder in runs)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-4, atol=2e-5)


def test_each_process_holds_half(runs: tuple[Path, Path]) -> None:
    held = [json.loads((runs[1] / f"held-{rank}.json").read_text()) for rank in (0, 1)]
    assert all(0.45 * each["whole"] < each["own"] < 0.55 * each["whole"] for each in held)
    assert sum(each["own"] for each in held) == held[0]["whole"]
    alone = json.loads((runs[0] / "held-0.json").read_text())
    assert alone["own"] == alone["whole"] == held[0]["whole"]


def test_a_resumed_run_is_the_uninterrupted_one(runs: tuple[Path, Path]) -> None:
    for folder in runs:
        for a, b in zip(metrics(folder, "full"), metrics(folder, "resumed"), strict=True):
            assert a["loss" if "loss" in a else "eval_loss"] == b["loss" if "loss" in b else "eval_loss"]


def test_without_torchrun_it_is_a_group_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    group = join("cpu")
    assert (group.rank, group.size, group.is_main, group.device.type) == (0, 1, True, "cpu")
    assert group.sum(1.5, 2.0) == [1.5, 2.0]
    assert group.any(True)
    assert not group.any(False)
    group.wait()
    group.close()
    tensor = torch.arange(3.0)
    assert whole({"a": [tensor, 1]})["a"][0] is tensor
    assert torch.equal(share_like(tensor, torch.zeros(3)), tensor)


def test_variables_that_are_no_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(BackendError, match=r"WORLD_SIZE='two'.*torchrun"):
        join("cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(BackendError, match=r"RANK=''"):
        join("cpu")
