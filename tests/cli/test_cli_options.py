"""Shared options: groups become options of their own, and what is given is passed on as it is."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer

from ostro import SamplingParams
from ostro.cli.app import COMMANDS
from ostro.cli.generate import AllSamplingOptions
from ostro.cli.options import Backend, Dtype, LoadOptions, SamplingOptions, model_or_default, with_groups
from ostro.errors import RequestError
from ostro.ops import BACKENDS
from ostro.ops.dtypes import DTYPES


@dataclass(frozen=True)
class Group:
    width: Annotated[int, typer.Option()] = 3


@dataclass(frozen=True)
class Wider(Group):
    height: Annotated[int, typer.Option()] = 4


def test_a_group_becomes_its_fields() -> None:
    seen: list[Any] = []

    def command(group: Wider, name: str = "x") -> None:
        """Help."""
        seen.append((group, name))

    expanded = with_groups(command)
    assert list(inspect.signature(expanded).parameters) == ["width", "height", "name"]
    assert expanded.__doc__ == "Help."
    expanded(width=1, height=2, name="y")
    assert seen == [(Wider(1, 2), "y")]


def test_every_command_can_be_expanded() -> None:
    for _, function, _ in COMMANDS:
        parameters = inspect.signature(with_groups(function)).parameters
        assert not {"load", "sampling"} & set(parameters)


def test_zero_is_a_value() -> None:
    options = SamplingOptions(temperature=0.0, top_k=0, seed=0)
    assert options.given() == {"temperature": 0.0, "top_k": 0, "seed": 0}
    assert options.params() == SamplingParams(temperature=0.0, top_k=0, seed=0)
    assert SamplingOptions(stop=[]).params() == SamplingParams()


def test_every_sampling_parameter_has_an_option() -> None:
    own = {"include_stop": "include_stop_str_in_output", "keep_special": "skip_special_tokens"}
    names = {own.get(name, name) for name in inspect.signature(AllSamplingOptions).parameters}
    assert names == set(inspect.signature(SamplingParams).parameters)


def test_options_of_generate_reach_the_parameters() -> None:
    options = AllSamplingOptions(
        n=2, logprobs=0, stop=["a", "b"], stop_token_ids=[5], ignore_eos=True, logit_bias=["3=-1.5", "4=2"],
        include_stop=True, keep_special=True, min_tokens=1,
    )  # fmt: skip
    assert options.params() == SamplingParams(
        n=2, logprobs=0, stop=("a", "b"), stop_token_ids=(5,), ignore_eos=True, logit_bias={3: -1.5, 4: 2.0},
        include_stop_str_in_output=True, skip_special_tokens=False, min_tokens=1,
    )  # fmt: skip


def test_bad_values_are_refused_by_name() -> None:
    with pytest.raises(RequestError, match="top_p"):
        SamplingOptions(top_p=2.0).params()
    with pytest.raises(typer.BadParameter, match="ID=X"):
        AllSamplingOptions(logit_bias=["3:4"]).params()


def test_choices_are_those_of_the_backends() -> None:
    assert {backend.value for backend in Backend} == {"auto", *BACKENDS}
    assert {dtype.value for dtype in Dtype} == {"auto", *DTYPES}


def test_loading_options_are_those_of_llm() -> None:
    from ostro import LLM

    names = {"num_threads" if name == "threads" else name for name in inspect.signature(LoadOptions).parameters}
    assert names <= set(inspect.signature(LLM).parameters)


def test_the_model_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRO_MODEL", "from-env")
    assert model_or_default(None, "") == "from-env"
    assert model_or_default("given", "") == "given"
    monkeypatch.setenv("OSTRO_MODEL", "")
    with pytest.raises(typer.BadParameter, match="ostro chat nemo"):
        model_or_default(None, "ostro chat nemo")
