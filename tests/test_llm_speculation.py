"""`LLM(speculation=..., draft_model=...)`: the same answers in fewer steps, and clear words where it cannot be had."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import save_tiny

from ostro import LLM, SamplingParams
from ostro.errors import ModelNotFoundError, RequestError

RNG = np.random.default_rng(5)
PROMPTS = [[1, 20, 21, 22, 23, 20, 21, 22, 23, 20, 21], *([1, *RNG.integers(3, 101, n).tolist()] for n in (1, 9, 40))]
GREEDY = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True, logprobs=2)
DRAWN = SamplingParams(temperature=0.7, seed=2, n=2, max_tokens=40, repetition_penalty=0.7, logprobs=2, min_tokens=5)


@pytest.fixture(scope="module", params=["mistral-7b-v0.1", "mixtral", "llama-3.2"])
def folder(request: pytest.FixtureRequest, tiny_checkpoint: Callable[[str], Path]) -> Path:
    return tiny_checkpoint(request.param)


def load(folder: Path, **options: Any) -> LLM:
    return LLM(folder, **{"backend": "cpu", "num_threads": 1, **options})


def test_the_same_answers_in_any_mode(folder: Path, tiny_checkpoint: Callable[[str], Path]) -> None:
    plain = load(folder, speculation="off")
    other = tiny_checkpoint("mistral-7b-v0.3")
    modes: list[dict[str, Any]] = [
        {},
        {"speculation": "prompt-lookup"},
        {"speculation": "prompt-lookup", "max_draft_tokens": 3, "num_threads": 2, "max_num_seqs": 2},
        {"speculation": "draft-model", "draft_model": folder},
        {"draft_model": other, "kv_cache_bytes": 400_000},
    ]
    for params in (GREEDY, DRAWN):
        expected = [output.outputs for output in plain.generate(PROMPTS, params)]
        for options in modes:
            outputs = load(folder, **options).generate(PROMPTS, params)
            assert [output.outputs for output in outputs] == expected, options
            accepted = sum(output.num_accepted_tokens for output in outputs)
            assert accepted <= sum(output.num_draft_tokens for output in outputs)
            assert accepted > 0 or options.get("speculation") in (None, "prompt-lookup")


def test_the_bound_of_the_cache_is_for_both_models(folder: Path, tiny_checkpoint: Callable[[str], Path]) -> None:
    other = tiny_checkpoint("mistral-7b-v0.3")
    for bound in (150_000, 400_000):
        alone, both = load(folder, kv_cache_bytes=bound), load(folder, kv_cache_bytes=bound, draft_model=other)
        assert 0.8 * bound < both.kv_cache_bytes <= bound
        assert both.shared.engine.sizes.num_blocks < alone.shared.engine.sizes.num_blocks


def test_a_stream_of_drafts_joins_to_the_answer(tiny_checkpoint: Callable[[str], Path]) -> None:
    folder = tiny_checkpoint("mistral-7b-v0.3")
    expected = load(folder, speculation="off").generate(PROMPTS[0], GREEDY)[0].outputs[0]
    llm = load(folder, speculation="draft-model", draft_model=folder)
    with llm.stream(PROMPTS[0], GREEDY) as stream:
        chunks = list(stream)
    assert [i for chunk in chunks for i in chunk.token_ids] == expected.token_ids
    assert len(chunks) < 10
    assert stream.output is not None
    assert stream.output.outputs == [expected]
    assert stream.output.num_accepted_tokens == 40 - len(chunks)


def test_what_cannot_be_had_is_refused(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_checkpoint("mistral-7b-v0.3")
    other = save_tiny("mistral-7b-v0.3", tmp_path / "other", vocab_size=128)
    for options, words in (
        ({"draft_model": other}, "128 tokens and the model one of 101"),
        ({"draft_model": folder, "speculation": "off"}, "leave draft_model out"),
        ({"speculation": "draft-model"}, "name one with draft_model"),
        ({"speculation": "sometimes"}, "speculation must be one of auto, off, prompt-lookup, draft-model"),
        ({"speculation": "prompt-lookup", "backend": "torch", "num_threads": None}, "torch does not promise"),
        ({"draft_model": folder, "backend": "reference", "num_threads": None}, "choose the backend cpu"),
        ({"max_draft_tokens": 0}, "max_draft_tokens"),
    ):
        with pytest.raises(RequestError, match=words):
            load(folder, **options)
    with pytest.raises(ModelNotFoundError, match="nowhere"):
        load(folder, draft_model=tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match="not 7"):
        load(folder, draft_model=7)


def test_other_backends_run_without_it(tiny_checkpoint: Callable[[str], Path]) -> None:
    folder = tiny_checkpoint("mistral-7b-v0.3")
    for backend in ("reference", "torch"):
        output = LLM(folder, backend=backend).generate(PROMPTS[0], GREEDY)[0]
        assert output.num_draft_tokens == 0


def test_the_tokenizers_must_be_the_same(tmp_path: Path) -> None:
    from ostro.tokenizer.mistral import bundled

    for name, version in (("one", "v3"), ("two", "v2")):
        save_tiny("mistral-7b-v0.3", tmp_path / name, vocab_size=32768)
        shutil.copy(bundled(version).source, tmp_path / name / f"tokenizer.model.{version}")
    assert load(tmp_path / "one", draft_model=tmp_path / "one").max_model_len == 256
    with pytest.raises(RequestError, match=r"is not the model's .* their control tokens are not the same"):
        load(tmp_path / "one", draft_model=tmp_path / "two")
