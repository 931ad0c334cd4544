"""Adapters per request: the right numbers, the same bits in any company, and caches that are kept apart."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_adapters import ATTENTION, EVERYTHING, write_random_adapter

from ostro import LLM, SamplingParams
from ostro.checkpoint.open import open_checkpoint
from ostro.errors import CheckpointError, ModelNotFoundError, RequestError

PARAMS = SamplingParams(temperature=0.8, seed=5, max_tokens=16, ignore_eos=True, logprobs=5)
PROMPTS = [[1, *range(3 + k, 3 + 4 * k, 2)] for k in (2, 9, 5, 14, 3, 7)]
NAMES = ["everything", "attention", None, "head", "everything", "attention"]
VARIANTS = ["mistral-7b-v0.1", "mixtral", "llama-3.2", "mixtral at 4 bits", "mistral-7b-v0.3 at 8 bits"]

Case = tuple[Path, dict[str, str | Path]]


def load(folder: Path, adapters: dict[str, Any], **options: Any) -> LLM:
    return LLM(folder, adapters=adapters, **{"backend": "cpu", "num_threads": 1, "kv_dtype": "float32", **options})


def answers(llm: LLM, prompts: list[list[int]], names: list[str | None]) -> list[Any]:
    outputs = [output.outputs[0] for output in llm.generate(prompts, PARAMS, adapter=names)]
    return [(each.token_ids, each.logprobs) for each in outputs]


@pytest.fixture(scope="module", params=VARIANTS)
def case(
    request: pytest.FixtureRequest, tiny_checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Case:
    """A base and three adapters of it."""
    name, _, bits = request.param.removesuffix(" bits").partition(" at ")
    base = tiny_checkpoint(name)
    if bits:
        base = LLM(base, backend="cpu", quantize=int(bits)).path
    folder = tmp_path_factory.mktemp("adapters")
    head: dict[str, Any] = {} if name == "llama-3.2" else {"whole": ("lm_head", "embed_tokens")}  # which ties them
    return base, {
        "everything": write_random_adapter(folder / "everything", base, EVERYTHING, seed=1),
        "attention": write_random_adapter(folder / "attention", base, ATTENTION, seed=2, r=8),
        "head": write_random_adapter(folder / "head", base, ("v_proj",), seed=3, **head),
    }


def test_bits_do_not_depend_on_company(case: Case) -> None:
    base, adapters = case
    llm = load(base, adapters, enable_prefix_caching=False)
    alone = [answers(llm, [prompt], [name])[0] for prompt, name in zip(PROMPTS, NAMES, strict=True)]
    for options in ({}, {"num_threads": 2, "max_num_batched_tokens": 7}, {"speculation": "prompt-lookup"}):
        assert answers(load(base, adapters, **options), PROMPTS, NAMES) == alone, options
    assert answers(load(base, {}), [PROMPTS[2]], [None]) == [alone[2]]  # and an adapter beside it changes nothing


def test_numbers(case: Case) -> None:
    """Those of the reference, which tests/finetune/test_merge.py compares with sums of weights."""
    base, adapters = case
    llm, reference = load(base, adapters), LLM(base, backend="reference", adapters=adapters, kv_dtype="float32")
    is_packed = open_checkpoint(base).form == "packed"  # then the kernels round activations
    for name in adapters:
        own, expected = (each.with_adapter(name).logits(PROMPTS[3]) for each in (llm, reference))
        assert np.abs(own - expected).mean() < (0.05 if is_packed else 1e-5) * np.abs(expected).max()
        assert np.abs(own - llm.logits(PROMPTS[3])).mean() > 0.1  # else nothing was tested


@pytest.fixture(scope="module")
def base(tiny_checkpoint: Callable[[str], Path]) -> Path:
    return tiny_checkpoint("mistral-7b-v0.3")


@pytest.fixture(scope="module")
def pair(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pair")
    return {name: write_random_adapter(folder / name, base, seed=seed) for seed, name in enumerate(("one", "two"))}


def cached(llm: LLM, prompt: list[int], name: str | None) -> int:
    return llm.generate([prompt], SamplingParams(max_tokens=1), adapter=name)[0].num_cached_tokens


def test_prefix_caches_are_apart(base: Path, pair: dict[str, Path], tmp_path: Path) -> None:
    prompt = list(range(3, 80))
    llm = load(base, pair, prefix_cache_dir=tmp_path)
    for name in (None, "one", "two"):
        assert [cached(llm, prompt, name) for _ in range(2)] == [0, 64]
    llm.shared.engine.flush()
    # In another process names may mean other adapters; on disk it is the numbers that count.
    again = load(base, {"one": pair["two"], "other": pair["one"], "copy": shutil.copytree(pair["one"], tmp_path / "c")})
    assert cached(again, prompt, "one") == 0
    stored = load(base, {"two": pair["one"], "new": pair["two"]}, prefix_cache_dir=tmp_path)
    assert [cached(stored, prompt, name) for name in (None, "two", "new")] == [64, 64, 64]
    assert [cached(stored, [9, *prompt], name) for name in (None, "two", "new")] == [0, 0, 0]


def test_a_salt_cannot_be_mistaken_for_an_adapter(base: Path, pair: dict[str, Path]) -> None:
    engine = load(base, pair).shared.engine
    number = engine.adapters.number("two")
    digest = engine.adapters.digests["two"]
    assert engine.adapters.salt(number, "x") == (digest, "x")
    assert engine.adapters.salt(-1, f"{digest}x") == f"{digest}x"


def test_views(base: Path, pair: dict[str, Path]) -> None:
    llm = load(base, pair)
    assert llm.adapters == ["one", "two"]
    view = llm.with_adapter("two")
    assert view.score(PROMPTS[1]) == llm.with_adapter("two").score(PROMPTS[1]) != llm.score(PROMPTS[1])
    assert (view.embed(PROMPTS[1]) != llm.embed(PROMPTS[1])).any()
    assert answers(view, [PROMPTS[0]], [None]) == answers(llm, [PROMPTS[0]], ["two"])
    assert answers(view, [PROMPTS[0]], ["one"]) == answers(llm, [PROMPTS[0]], ["one"])
    with llm.stream(PROMPTS[0], PARAMS, adapter="two") as stream:
        list(stream)
        assert stream.output is not None
        assert stream.output.outputs[0].token_ids == answers(view, [PROMPTS[0]], [None])[0][0]


def test_wrong_names(base: Path, pair: dict[str, Path]) -> None:
    llm = load(base, pair)
    with pytest.raises(RequestError, match="no adapter 'three'; it has one, two") as caught:
        llm.generate(PROMPTS[0], adapter="three")
    assert caught.value.param == "adapter"
    with pytest.raises(RequestError, match="no adapter 'one'; it was loaded without any"):
        load(base, {}).with_adapter("one")
    with pytest.raises(RequestError, match="1 adapters are given for 2 prompts"):
        llm.generate(PROMPTS[:2], adapter=["one"])
    with pytest.raises(RequestError, match="not empty"):
        load(base, {"": pair["one"]})


def test_what_does_not_fit(
    base: Path, pair: dict[str, Path], tiny_checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="Load it over its own base"):
        load(tiny_checkpoint("nemo"), pair)
    with pytest.raises(ModelNotFoundError, match="is no folder"):
        load(base, {"one": tmp_path / "nowhere"})
    norms = write_random_adapter(tmp_path / "norms", base, whole=("input_layernorm",))
    with pytest.raises(CheckpointError, match=r"input_layernorm.*ostro merge"):
        load(base, {"norms": norms})


def test_another_base_of_the_same_shape_is_told(base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from tiny import make_model

    other = make_model("mistral-7b-v0.3")
    other.lm_head.weight.data += 1
    other.model.layers[0].self_attn.q_proj.weight.data += 1
    other.save_pretrained(tmp_path / "other")
    adapter = write_random_adapter(tmp_path / "adapter", tmp_path / "other")
    with caplog.at_level(logging.WARNING, "ostro"):
        load(base, {"mine": adapter})
    assert "adapter mine: it was trained over other weights" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "ostro"):
        load(tmp_path / "other", {"mine": adapter}, quantize=8)  # its base, packed here
    assert caplog.text == ""
