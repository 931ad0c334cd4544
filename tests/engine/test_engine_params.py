"""Every field is checked, and the error names it."""

from __future__ import annotations

from typing import Any

import pytest

from ostro.engine import SamplingParams
from ostro.errors import RequestError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 0), ("n", 1.5), ("n", True),
        ("temperature", -0.1), ("temperature", float("nan")), ("temperature", "1"), ("temperature", float("inf")),
        ("top_k", -2), ("top_k", 1.0), ("top_p", 0), ("top_p", 1.1), ("min_p", -0.1), ("min_p", 2),
        ("seed", 1.0), ("seed", 2**64), ("seed", -(2**63) - 1),
        ("presence_penalty", 2.1), ("frequency_penalty", -3), ("repetition_penalty", 0),
        ("logit_bias", [1]), ("logit_bias", {"1": 2}), ("logit_bias", {1: 101}), ("logit_bias", {-1: 1}),
        ("logit_bias", {1: float("nan")}),
        ("stop", ""), ("stop", ["a", ""]), ("stop", [1]), ("stop", 5),
        ("stop_token_ids", [-1]), ("stop_token_ids", ["a"]), ("stop_token_ids", 3),
        ("include_stop_str_in_output", 1), ("ignore_eos", "yes"), ("skip_special_tokens", None),
        ("min_tokens", -1), ("max_tokens", 0), ("logprobs", -1), ("logprobs", True),
    ],
)  # fmt: skip
def test_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        SamplingParams(**{name: value})
    assert caught.value.param == name
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["seed", "max_tokens", "logprobs", "stop"])
def test_null_means_unset(name: str) -> None:
    SamplingParams(**{name: None})


def test_stop_is_normalized() -> None:
    assert SamplingParams(stop="x").stop == ("x",)
    assert SamplingParams(stop=["x", "yy"]).stop_strings == ("x", "yy")
    assert SamplingParams(stop=None).stop == ()


def test_min_tokens_above_max_tokens() -> None:
    with pytest.raises(RequestError, match=r"min_tokens \(5\).*max_tokens \(4\)"):
        SamplingParams(min_tokens=5, max_tokens=4)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="best_of"):
        SamplingParams(best_of=2)  # type: ignore[call-arg]
