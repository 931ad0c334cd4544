"""`generate`: the same tokens as transformers, sampled ones included, and every setting honoured or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ostro.errors import ContextLengthError, RequestError
from ostro.transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    set_seed,
)

Pair = Callable[..., tuple[Any, Any]]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.7, "top_k": 50, "top_p": 0.95},
        {"temperature": 1.8, "top_k": 0},
        {"top_k": 7},
        {"top_k": 0, "top_p": 0.6},
        {"top_k": 0, "min_p": 0.05},
        {"repetition_penalty": 1.4},
        {"temperature": 0.9, "top_k": 20, "top_p": 0.8, "min_p": 0.02, "repetition_penalty": 0.8},
    ],
)
@pytest.mark.parametrize("variant", ["nemo", "mistral-7b-v0.1"])
def test_the_same_seed_draws_the_same_tokens(pair: Pair, variant: str, settings: dict[str, Any]) -> None:
    ours, theirs = pair(variant)
    ids = torch.randint(3, 101, (2, 10), generator=torch.Generator().manual_seed(3))
    ids[0, :4] = 0
    mask = (ids != 0).long()
    drawn = []
    for model in (ours, theirs):
        torch.manual_seed(42)
        out = model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            max_new_tokens=30,
            num_return_sequences=2,
            pad_token_id=0,
            **settings,
        )
        drawn.append(out.tolist())
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 4


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 12, "repetition_penalty": 1.5},
        {"max_length": 25},
        {"min_new_tokens": 30, "max_new_tokens": 40},
        {"min_length": 40, "max_new_tokens": 40},
        {"max_new_tokens": 40, "eos_token_id": [5, 17, 60]},
        {"max_new_tokens": 40, "use_cache": False},
    ],
)
def test_greedy_settings(pair: Pair, settings: dict[str, Any]) -> None:
    ours, theirs = pair("mistral-7b-v0.1")
    ids = torch.randint(3, 101, (3, 12), generator=torch.Generator().manual_seed(8))
    given = {"attention_mask": torch.ones_like(ids), "do_sample": False, "pad_token_id": 0, **settings}
    assert ours.generate(ids, **given).tolist() == theirs.generate(ids, **given).tolist()


def test_twenty_tokens_where_no_length_is_stated(pair: Pair) -> None:
    ours, _ = pair("nemo")
    assert ours.generate(torch.ones(1, 7).long(), do_sample=False, eos_token_id=[]).shape == (1, 27)


def test_rows_that_ended_are_padded(pair: Pair) -> None:
    ours, theirs = pair("nemo")
    ids = torch.randint(3, 101, (6, 6), generator=torch.Generator().manual_seed(1))
    first = ours.generate(ids, do_sample=False, max_new_tokens=20)
    stops = {int(first[0, 9]), int(first[1, 14])}
    for pad in (0, None):
        given = {"do_sample": False, "max_new_tokens": 20, "eos_token_id": sorted(stops), "pad_token_id": pad}
        out = ours.generate(ids, **given)
        assert out.tolist() == theirs.generate(ids, **given, attention_mask=torch.ones_like(ids)).tolist()
        assert out[0, 10:].unique().tolist() == [sorted(stops)[0] if pad is None else 0]


def test_a_mask_is_inferred_from_padding_as_in_transformers(pair: Pair) -> None:
    ours, _ = pair("nemo")
    ids = torch.randint(3, 101, (2, 8), generator=torch.Generator().manual_seed(2))
    ids[0, :3] = 0
    given = {"do_sample": False, "max_new_tokens": 10, "pad_token_id": 0}
    masked = ours.generate(ids, attention_mask=(ids != 0).long(), **given)
    assert ours.generate(ids, **given).tolist() == masked.tolist()


def test_no_prompt_begins_with_bos(pair: Pair) -> None:
    ours, theirs = pair("llama-3.1")
    given = {"do_sample": False, "max_new_tokens": 5}
    assert ours.generate(**given).tolist() == theirs.generate(**given).tolist()


def test_generation_config_of_the_checkpoint(tiny_checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint("nemo"))
    model.save_pretrained(tmp_path)
    stated = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [2, 7], "pad_token_id": 0}
    (tmp_path / "generation_config.json").write_text(json.dumps({**stated, "transformers_version": "4.42.3"}))
    ours = AutoModelForCausalLM.from_pretrained(tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.randint(3, 101, (1, 6), generator=torch.Generator().manual_seed(1))
    drawn = []
    for m in (ours, theirs):
        set_seed(9)
        drawn.append(m.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=30).tolist())
    assert drawn[0] == drawn[1]
    assert ours.generation_config.to_dict() == {**stated, "bos_token_id": 1}
    ours.save_pretrained(tmp_path / "again")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "again").generation_config == ours.generation_config
    greedy = GenerationConfig(do_sample=False, max_new_tokens=4, eos_token_id=2)
    assert ours.generate(ids, generation_config=greedy).shape[1] == 10


def test_a_generator_of_its_own(pair: Pair) -> None:
    ours, _ = pair("nemo")
    ids = torch.tensor([[1, 5, 9]])
    texts = [
        ours.generate(ids, do_sample=True, max_new_tokens=20, generator=torch.Generator().manual_seed(4)).tolist()
        for _ in range(2)
    ]
    assert texts[0] == texts[1]


def test_processors_and_criteria(pair: Pair) -> None:
    ours, _ = pair("nemo")
    ids = torch.tensor([[1, 5, 9]])

    def only_seven(_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return torch.full_like(scores, -1e9).index_fill(1, torch.tensor([7]), 0.0)

    out = ours.generate(
        ids,
        do_sample=False,
        max_new_tokens=20,
        logits_processor=[only_seven],
        stopping_criteria=[lambda ids, _scores: ids.shape[1] >= 8],
    )
    assert out.tolist() == [[1, 5, 9, 7, 7, 7, 7, 7]]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"penalty_alpha": 0.6}, "penalty_alpha"),
        ({"no_repeat_ngram_size": 3}, "does not change the scores so. A logits_processor"),
        ({"max_time": 3.0}, "no clock. One of the stopping_criteria"),
        ({"num_beams": 4}, r"greedy decoding and sampling only\. Leave num_beams out"),
        ({"max_tokens": 3}, "generate has no argument 'max_tokens'"),
        ({"output_scores": True}, r"output_scores=True: generate returns the ids \(B, T\) and nothing else"),
        ({"return_dict_in_generate": True}, "return_dict_in_generate=True: generate returns the ids"),
        ({"temperature": 0.0, "do_sample": True}, "do_sample=False"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"num_return_sequences": 2}, "same sequence"),
        ({"max_length": 3}, "max_new_tokens"),
        ({"stop_strings": "x"}, "tokenizer"),
        ({"stop_strings": ["x", ""]}, "none of them empty"),
        ({"min_new_tokens": -1}, "min_new_tokens"),
        ({"attention_mask": torch.tensor([[1, 1, 0]])}, "left"),
        ({"attention_mask": torch.ones(1, 2)}, "shape"),
        ({"input_ids": torch.ones(1, 2).long()}, "one argument"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(pair: Pair, arguments: dict[str, Any], match: str) -> None:
    ours, _ = pair("nemo")
    with pytest.raises(RequestError, match=match):
        ours.generate(torch.tensor([[1, 5, 9]]), **arguments)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [("frobnicate", 1, "no argument 'frobnicate'"), ("num_beams", 4, "greedy"), ("top_p", 1.5, "at most 1, not 1.5")],
)
def test_a_field_of_generation_config_json_is_said_to_be_of_the_file(
    tiny_checkpoint: Callable[[str], Path], tmp_path: Path, name: str, value: float, match: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_checkpoint("nemo"), folder)
    (folder / "generation_config.json").write_text(json.dumps({name: value}))
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([[1, 5, 9]])
    with pytest.raises(RequestError, match=f"generation_config.json states {name} = {value}: .*{match}.* {name}=None"):
        model.generate(ids, max_new_tokens=2)
    assert model.generate(ids, max_new_tokens=2, **{name: None}).shape == (1, 5)
    with pytest.raises(RequestError) as caught:
        model.generate(ids, max_new_tokens=2, **{name: 7.5})
    assert "generation_config.json" not in str(caught.value)


def test_neutral_values_of_what_is_not_computed_are_accepted(pair: Pair) -> None:
    ours, _ = pair("nemo")
    out = ours.generate(torch.tensor([[1, 5]]), max_new_tokens=2, num_beams=1, length_penalty=1.0, typical_p=None)
    assert out.shape == (1, 4)


def test_a_batch_encoding_must_be_unpacked(pair: Pair) -> None:
    ours, _ = pair("nemo")
    with pytest.raises(RequestError, match=r"generate\(\*\*inputs\)"):
        ours.generate({"input_ids": torch.ones(1, 2)})


def test_the_context_limit_is_an_error_with_its_numbers(pair: Pair) -> None:
    ours, _ = pair("nemo")
    with pytest.raises(ContextLengthError, match="256 tokens") as caught:
        ours.generate(torch.ones(1, 200).long(), max_new_tokens=57)
    assert caught.value.max_tokens_possible == 56
    assert ours.generate(torch.ones(1, 250).long(), do_sample=False).shape[1] <= 256


@pytest.mark.parametrize(
    ("own", "given", "arguments"),
    [
        ({}, {"max_new_tokens": 12}, {}),
        ({"max_length": 9}, {"min_new_tokens": 2}, {}),
        ({"repetition_penalty": 1.7, "max_new_tokens": 9}, {"eos_token_id": [4, 5]}, {}),
        ({"max_new_tokens": 9}, {"max_new_tokens": 4}, {"max_new_tokens": 6}),
        ({"max_new_tokens": 9}, {"eos_token_id": 7}, {"eos_token_id": None}),
        ({"max_new_tokens": 9, "repetition_penalty": 1.7}, None, {"repetition_penalty": None}),
        ({"max_new_tokens": 9, "do_sample": True, "temperature": 0.3}, None, {"temperature": None, "top_p": None}),
        ({"max_new_tokens": 9, "do_sample": True, "temperature": 2.0}, None, {"top_k": None}),
        ({"max_new_tokens": 9, "do_sample": True}, {"temperature": 2.0}, {}),
        ({"max_new_tokens": 9, "do_sample": True}, {"do_sample": False}, {}),
        ({"max_new_tokens": 9}, None, {"eos_token_id": -1, "min_new_tokens": 5}),
    ],
)
def test_what_is_not_stated_is_the_models_own_as_in_transformers(
    pair: Pair, own: dict[str, Any], given: dict[str, Any] | None, arguments: dict[str, Any]
) -> None:
    models = pair("mistral-7b-v0.3")
    ids = torch.tensor([[1, 5, 6]])
    end = int(models[1].generate(ids, max_new_tokens=8, min_new_tokens=8, do_sample=False)[0, 7])
    ends = []
    for model, config in zip(models, (GenerationConfig, transformers.GenerationConfig), strict=True):
        for name, value in {"eos_token_id": end, **own}.items():
            setattr(model.generation_config, name, value)
        settings = {} if given is None else {"generation_config": config(**given)}
        set_seed(5)
        out = model.generate(ids, attention_mask=torch.ones_like(ids), **settings, **arguments)
        ends.append(out.tolist())
    assert ends[0] == ends[1]


def test_a_config_that_is_given_does_not_change(pair: Pair) -> None:
    ours, _ = pair("nemo")
    given, before = GenerationConfig(max_new_tokens=3), ours.generation_config.to_dict()
    ours.generate(torch.tensor([[1, 5]]), generation_config=given, do_sample=True, top_k=None)
    assert given.to_dict() == {"max_new_tokens": 3}
    assert ours.generation_config.to_dict() == before


def test_padding_on_the_right_is_refused_though_no_mask_says_so(pair: Pair) -> None:
    ours, _ = pair("nemo")
    ids = torch.tensor([[1, 5, 9], [1, 5, 0]])
    with pytest.raises(RequestError, match="Pad on the left"):
        ours.generate(ids, pad_token_id=0, max_new_tokens=2)
    assert ours.generate(ids, pad_token_id=0, max_new_tokens=2, attention_mask=torch.ones_like(ids)).shape == (2, 5)
