"""The benchmark of training: both libraries train the same, and the page says what was measured."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import finetune_speed


@pytest.fixture
def options() -> argparse.Namespace:
    return finetune_speed.arguments(
        ["--hidden", "128", "--layers", "2", "--vocab", "64", "--length", "48", "--sequence", "12", "--steps", "2"]
    )


def test_rows_are_packed_and_a_third_is_trained(options: argparse.Namespace) -> None:
    made = list(finetune_speed.rows(options))
    assert len(made) == 3
    for ids, positions, weights in made:
        assert ids.shape == positions.shape == weights.shape == (1, 48)
        assert (positions == 0).sum() > 1
        assert not weights[positions == 0].any()
        assert 0.2 < weights.mean() < 0.5
    assert all(
        np.array_equal(a, b) for a, b in zip(made[1], list(finetune_speed.rows(options))[1], strict=True)
    )  # fmt: skip


def test_both_libraries_train_the_same(tmp_path: Path, options: argparse.Namespace) -> None:
    finetune_speed.save_model(options, tmp_path)
    ours = list(finetune_speed.train_ostro(options, "full", tmp_path))
    theirs = list(finetune_speed.train_transformers(options, "full", tmp_path))
    assert ours == pytest.approx(theirs, rel=0.01)


def runs(speed: float, loss: float) -> dict[tuple[str, str], list[dict[str, Any]]]:
    factors = {"ostro": speed, "transformers": 1.0}
    return {
        (library, method): [
            {"tokens_per_s": 10.0 * factors[library], "tokens_per_cpu_s": 5.0 * factors[library], "peak": 3e8,
             "losses": [loss if library == "ostro" else 2.0]}
        ]
        for library, method in finetune_speed.ARMS
    }  # fmt: skip


def test_the_page_says_what_was_measured(options: argparse.Namespace) -> None:
    text = finetune_speed.page(options, runs(1.5, 2.0), load=0.25)
    assert "| full | ostro | 15 (15 to 15) | 8 (8 to 8) | 300 (300 to 300) MB |" in text
    assert "- lora: 1.50 x the tokens per core-second of transformers" in text
    assert "load average before the start 0.25" in text


def test_a_comparison_of_unlike_trainings_is_refused() -> None:
    finetune_speed.check_losses(runs(1.0, 2.01))
    with pytest.raises(AssertionError, match="full"):
        finetune_speed.check_losses(runs(1.0, 2.2))
