"""Shared options: groups become options of their own, and what is given is passed on as it is."""

from __future__ import annotations

import datetime
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer

from ostro import SamplingParams
from ostro.cli import options, values
from ostro.cli.app import COMMANDS
from ostro.cli.groups import with_groups
from ostro.cli.options import LoadOptions, model_or_default
from ostro.cli.sampling_options import FORMS, OPTION_NAMES, AllSamplingOptions, SamplingOptions, as_options
from ostro.config.kv import KV_DTYPES
from ostro.engine.config import SPECULATION
from ostro.errors import ContextLengthError, RequestError
from ostro.ops import BACKENDS
from ostro.ops.dtypes import DTYPES


@dataclass(frozen=True)
class Group:
    width: Annotated[int, typer.Option()] = 3


@dataclass(frozen=True)
class Wider(Group):
    height: Annotated[int, typer.Option()] = 4


@dataclass(frozen=True)
class Foreign:
    loud: Annotated[bool, typer.Option()] = False


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


def test_a_command_knows_nothing_of_added_groups() -> None:
    seen: list[Any] = []

    def command(name: str = "x") -> None:
        seen.append(name)

    expanded = with_groups(command, Foreign)
    assert list(inspect.signature(expanded).parameters) == ["name", "loud"]
    expanded(name="y", loud=True)
    assert seen == ["y"]


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
    own |= dict.fromkeys(FORMS, "guided")
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


def test_what_is_not_given_is_left_to_the_checkpoint() -> None:
    recommended = SamplingParams(temperature=0.6, top_p=0.9)
    assert SamplingOptions(top_p=0.5).params(recommended) == SamplingParams(temperature=0.6, top_p=0.5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (SamplingOptions(top_p=2.0), "--top-p must be a number greater than 0 and at most 1, not 2.0"),
        (SamplingOptions(temperature=-1.0), "--temperature must be a number at least 0, not -1.0"),
        (SamplingOptions(max_tokens=0), "--max-tokens must be a whole number of at least 1, not 0"),
        (SamplingOptions(stop=[""]), "--stop must be"),
        (AllSamplingOptions(n=0), "--n must be"),
        (AllSamplingOptions(stop_token_ids=[-1]), "--stop-token-id must be"),
        (AllSamplingOptions(min_tokens=5, max_tokens=3), "--min-tokens (5) must not be greater than --max-tokens (3)"),
        (AllSamplingOptions(logit_bias=["3:4"]), "ID=X"),
    ],
)
def test_bad_values_are_wrong_usage_of_an_option(options: SamplingOptions, words: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        options.params()
    assert words in caught.value.message
    assert "null" not in caught.value.message


def test_parameters_are_named_as_options() -> None:
    error = ContextLengthError(90, 64, max_tokens=10)
    assert "your prompt has 90 tokens and --max-tokens 10: " in as_options(error)
    assert "a larger --max-model-len" in as_options(error)
    plain = RequestError("The text must not stop at n.", param="stop")
    assert as_options(plain) == "The text must not stop at n."
    known = {"--" + name.replace("_", "-") for name in inspect.signature(LoadOptions).parameters}
    for name in ("num_threads", "max_model_len", "kv_dtype", "revision"):
        assert OPTION_NAMES[name] in known


@pytest.mark.parametrize(
    ("parser", "good", "value", "bad", "words"),
    [
        (values.number, "1e-3", 0.001, "much", "'much' is not a number"),
        (values.whole_number, "-4", -4, "1.5", "'1.5' is not a whole number"),
        (values.positive, "4", 4, "0", "a whole number of at least 1"),
        (values.one_of(["a", "b"]), "b", "b", "c", "'c' is none of a, b"),
        (values.date, "2026-03-31", datetime.date(2026, 3, 31), "2026-02-30", "YYYY-MM-DD"),
    ],
)
def test_values(parser: Callable[[str], Any], good: str, value: Any, bad: str, words: str) -> None:
    assert parser(good) == value
    with pytest.raises(typer.BadParameter, match=words):
        parser(bad)


def test_choices_are_those_of_the_backends() -> None:
    assert set(options.BACKENDS) == {"auto", *BACKENDS}
    assert set(options.DTYPES) == {"auto", *DTYPES}
    assert options.SPECULATION == SPECULATION
    assert set(options.KV_DTYPES) == {"auto", *KV_DTYPES}


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
