"""The model in the tree does what its card says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ostro import LLM, SamplingParams
from ostro.checkpoint.bundled import require_bundled_model
from ostro.checkpoint.open import open_checkpoint
from recipes.ostro_mini import evaluate, export

LEAST = 0.75
"""Of a dozen cases: the card's shares, less what so few cases and another processor's rounding may change."""


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM()


def test_it_is_small_enough() -> None:
    assert sum(path.stat().st_size for path in require_bundled_model().iterdir()) < export.MAX_BYTES


def test_its_card_is_its_own() -> None:
    folder = require_bundled_model()
    card = (folder / "README.md").read_text(encoding="utf-8")
    millions = re.search(r"([0-9.]+) M parameters", card)
    assert millions is not None
    assert float(millions[1]) == pytest.approx(open_checkpoint(folder).config.num_parameters() / 1e6, abs=0.05)


@pytest.mark.parametrize("task", sorted(evaluate.REQUIRED))
def test_its_tasks(llm: LLM, task: str) -> None:
    results = list(evaluate.evaluate_tasks(llm, [task], count=12, seed=1))
    right, cases = sum(r.right for r in results), sum(r.cases for r in results)
    assert right >= LEAST * cases, [failure for result in results for failure in result.failures]


def test_it_finds_a_pass_key_in_a_long_text(llm: LLM) -> None:
    cells = list(evaluate.evaluate_passkey(llm, lengths=(2048,), depths=(0.0, 0.5), count=1))
    assert sum(cell.right for cell in cells) >= len(cells) - 1


def test_a_greeting_is_answered(llm: LLM) -> None:
    output = llm.chat([{"role": "user", "content": "Hello!"}], SamplingParams(max_tokens=100))[0].outputs[0]
    assert output.finish_reason == "stop"
    assert output.text.strip()


def test_the_wheel_takes_it_along() -> None:
    """What pyproject includes by pattern; the folder lies in the package."""
    assert require_bundled_model().parent == Path(evaluate.__file__).parents[2] / "src" / "ostro" / "bundled"
