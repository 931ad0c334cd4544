"""The model that recites a given answer, and the texts that it recites."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pytest

import prompt_lookup
from ostro.bench import find_shape
from ostro.config.model import ModelConfig
from ostro.engine import EngineCore
from ostro.ops import get_ops

VOCAB = 4096


def tiny() -> ModelConfig:
    whole = find_shape("mistral-7b-v0.3", 2)
    return replace(
        whole, vocab_size=VOCAB, hidden_size=256, intermediate_size=512, num_attention_heads=4, num_key_value_heads=2,
        head_dim=64,
    )  # fmt: skip


def test_tokens_of_a_text_differ_but_for_what_is_copied() -> None:
    for task in prompt_lookup.tasks(VOCAB):
        assert len(set(task.prompt)) == len(task.prompt)
        assert len(set(task.answer)) == len(task.answer)
        assert 95 <= len(task.answer) <= 105


def test_how_much_is_copied() -> None:
    copied = {task.name: task.copied for task in prompt_lookup.tasks(VOCAB)}
    assert copied["extraction"] == copied["quotation"] == 1.0
    assert copied["extraction, keys not given"] == pytest.approx(73 / 101)
    assert copied["nothing repeated"] == 0.0


def test_passages_are_of_the_document_and_in_order() -> None:
    task = prompt_lookup.tasks(VOCAB)[1]
    place = 0
    for length in prompt_lookup.VALUES:
        passage = task.answer[place + prompt_lookup.KEY : place + prompt_lookup.KEY + length]
        begin = task.prompt.index(passage[0])
        assert task.prompt[begin : begin + length] == passage
        place += prompt_lookup.KEY + length
    assert place == len(task.answer)


def test_successors_are_a_permutation_that_leads_through_every_answer() -> None:
    tasks = prompt_lookup.tasks(VOCAB)
    following = prompt_lookup.successors(tasks, VOCAB)
    assert sorted(following.tolist()) == list(range(VOCAB))
    for task in tasks:
        token, said = task.prompt[-1], []
        for _ in task.answer:
            token = int(following[token])
            said.append(token)
        assert tuple(said) == task.answer


def test_the_model_recites_with_and_without_lookup() -> None:
    config, ops = tiny(), get_ops("cpu", num_threads=1)
    tasks = prompt_lookup.tasks(VOCAB)
    weights = prompt_lookup.reciting_weights(ops, config, prompt_lookup.successors(tasks, VOCAB), threads=1)
    for mode in ("off", "prompt-lookup"):
        engine = EngineCore(ops, config, weights, engine_config=prompt_lookup.engine_config(mode))
        per_step = {task.name: prompt_lookup.decode(engine, task).per_step for task in tasks}
        assert per_step.pop("nothing repeated") == 1.0
        assert all((steps > 1.5) is (mode != "off") for steps in per_step.values()), per_step
        with pytest.raises(SystemExit, match="not the one that was built in"):
            prompt_lookup.decode(engine, replace(tasks[0], answer=tasks[1].answer))


def test_the_page_shows_gains_and_judges() -> None:
    runs = {
        "off": [prompt_lookup.Run(rate, 1.0) for rate in (4.0, 5.0, 6.0)],
        "auto": [prompt_lookup.Run(rate, 2.5) for rate in (10.0, 9.0, 11.0)],
    }
    found = {task.name: runs for task in prompt_lookup.tasks(32768)}
    options = argparse.Namespace(shape="mistral-7b-v0.3", layers=2, threads=2, repeats=3)
    text = prompt_lookup.page(options, found, load=0.0)
    assert "| extraction | 100 % | 5.00 | 10.00 | 2.00 x | 2.5 |" in text
    assert "| nothing repeated | 0 % | 5.00 | 10.00 | 2.00 x | 2.5 |" in text
    assert "Target for extraction: 1.8 x: reached; aim 3 x: not reached." in text


def test_a_head_row_is_the_embedding_of_the_token_before() -> None:
    following = np.array([2, 0, 1])
    embedding = np.arange(6.0).reshape(3, 2)
    head = prompt_lookup.head_of(embedding, following)
    for token in range(3):
        assert (head[following[token]] == embedding[token]).all()
