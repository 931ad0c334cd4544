"""The evaluation of ostro-mini: answers are read as a client's would be, counted, and told in the card."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tiny_chat import save_chat_model

from ostro import LLM
from ostro.checkpoint.open import open_checkpoint
from recipes.ostro_mini import evaluate, model_card
from recipes.ostro_mini.data import heldout_samples
from recipes.ostro_mini.sample import Answer, Sample
from recipes.ostro_mini.tasks import TASKS


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    return LLM(save_chat_model(tmp_path_factory.mktemp("chat") / "tiny"))


@pytest.mark.parametrize("task", ["parallel_tools", "json"])
def test_an_answer_that_the_model_would_write_is_read_as_it_was_meant(llm: LLM, task: str) -> None:
    """The wanted answer, as training writes it behind the prompt, is right; the same one cut short is not."""
    for sample in heldout_samples(task, 5):
        rendered = evaluate.render(llm, sample)
        told = [*sample.prompt(), sample.answer.message()]
        whole = llm.render(told, tools=sample.tools or None, add_generation_prompt=False)
        ids = whole.token_ids[len(rendered) : -1]
        for cut, is_right in ((ids, True), (ids[: len(ids) // 2], False)):
            text = llm.tokenizer.decode([i for i in cut if not llm.tokenizer.is_control(i)]).strip()
            assert TASKS[task].check(sample, evaluate._read(llm, sample, rendered, cut, text)) == is_right


def test_a_model_that_talks_nonsense(llm: LLM) -> None:
    results = list(evaluate.evaluate_tasks(llm, ["json", "tool"], count=3))
    assert sum(result.cases for result in results) == 6
    assert all(result.right == 0 for result in results)
    assert all(failure.asked and failure.wanted for result in results for failure in result.failures)


def test_passkeys_fill_the_length(llm: LLM) -> None:
    for depth in (0.0, 1.0):
        sample = evaluate.filled(llm, random.Random(1), "en", 512, depth)
        assert 440 < len(evaluate.render(llm, sample)) <= 480
        assert sample.facts["depth"] == depth
    with pytest.raises(ValueError, match="more than 40 tokens"):
        evaluate.filled(llm, random.Random(1), "en", 40, 0.5)
    cells = list(evaluate.evaluate_passkey(llm, lengths=(256, 1 << 20), depths=(0.5,), count=1))
    assert [(cell.language, cell.length, cell.cases) for cell in cells] == [("en", 256, 1), ("ko", 256, 1)]


def report(right: int) -> dict[str, Any]:
    results = [evaluate.Result("json", "en", 50, right), evaluate.Result("name", "ko", 10, 9)]
    cells = [{"language": "en", "length": 256, "depth": 0.5, "tokens": 250.0, "cases": 4, "right": 4}]
    tasks = [{"task": r.task, "language": r.language, "cases": r.cases, "right": r.right} for r in results]
    return {"seed": 0, "tasks": tasks, "passkey": cells}


def test_what_is_short_of_the_aim_is_said() -> None:
    assert evaluate.short_of(report(49)) == []
    assert evaluate.short_of(report(48)) == ["json: 48 of 50 (96.0%), 98% are asked"]


def test_counting() -> None:
    result = evaluate.Result("json", "en")
    sample = Sample("json", "en", ({"role": "user", "content": "a: 1"},), Answer('{"a": 1}'))
    for is_right in (True, False, False):
        result.add(sample, Answer("{}"), is_right=is_right, keep=1)
    assert (result.cases, result.right, len(result.failures)) == (3, 1, 1)


def test_the_card(llm: LLM) -> None:
    training = {
        "machine": "Trained on two cores.",
        "stages": [{"name": "sft", "tokens": 2e6, "steps": 9, "seconds": 5400}],
    }
    text = model_card.card(open_checkpoint(Path(llm.path)).config, report(48), training, 12_300_000)
    for told in (
        "12.3 MB in all", "| `json` | a JSON object of `key: value` lines, exact | 48 of 50 |  | 96.0% | 98% |",
        "json: 48 of 50 (96.0%)", "| 256 | 4 of 4 |", "| sft | 2.0 M | 9 | 1.50 |", "It knows only the tasks below",
    ):  # fmt: skip
        assert told in text


def test_every_task_is_described() -> None:
    assert set(model_card._WHAT) == set(TASKS)
    assert set(evaluate.REQUIRED) <= set(TASKS)


def test_the_command_writes_json(llm: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "evaluate", lambda *_, **__: report(48))
    evaluate.main([str(llm.path), "--out", str(tmp_path / "report.json")])
    assert json.loads((tmp_path / "report.json").read_text()) == report(48)
