"""Plans, and the timing of an engine: what runs, not how fast."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_bench import tiny_shape

from ostro.bench import Plan
from ostro.bench.runs import DECODE_STEPS, PREFILL_RUNS, Meter, Rates
from ostro.bench.weights import random_weights
from ostro.config import ModelConfig
from ostro.engine import EngineCore
from ostro.errors import RequestError
from ostro.models.load import load_weights
from ostro.ops import get_ops

PLAN = Plan(prefill=(5, 40), batch=(1, 3), context=20, seconds=60)


def engine(plan: Plan = PLAN, **changes: Any) -> EngineCore:
    config: ModelConfig = tiny_shape(**changes)
    ops = get_ops()
    weights = load_weights(ops, config, random_weights(config, 16))
    return EngineCore(ops, config, weights, engine_config=plan.engine_config("float32", config.max_window))


def test_rates_are_told_by_their_middle() -> None:
    rates = Rates((1.0, 5.0, 2.0, 4.0, 3.0), 7)
    assert rates.median == 3
    assert rates.middle_half == (2, 4)


def test_prompts_are_run_until_their_first_token() -> None:
    core = engine()
    rates = Meter(core).prefill(40, 60)
    assert len(rates.values) == PREFILL_RUNS
    assert min(rates.values) > 0
    assert not core.has_unfinished


def test_at_least_one_run_however_short_the_time() -> None:
    meter = Meter(engine())
    assert len(meter.prefill(40, 1e-9).values) == 1
    assert len(meter.decode(1, Plan(prefill=(), batch=(1,), context=20, seconds=1e-9)).values) == 1


@pytest.mark.parametrize("window", [None, 24])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_answer_gets_a_token_in_every_step(
    batch: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = engine(sliding_windows=(window,) * 3)
    steps: list[int] = []
    original = EngineCore.step

    def step(self: EngineCore) -> Any:
        outputs = original(self)
        steps.append(len(outputs))
        return outputs

    monkeypatch.setattr(EngineCore, "step", step)
    rates = Meter(core).decode(batch, PLAN)
    assert steps[-DECODE_STEPS:] == [batch] * DECODE_STEPS
    assert len(rates.values) == DECODE_STEPS
    assert 20 + DECODE_STEPS / 2 < rates.context < 20 + DECODE_STEPS
    assert not core.has_unfinished


def test_a_batch_whose_prompts_need_many_steps() -> None:
    """The first answers have grown by the time the last prompt is computed, and still do not end."""
    plan = Plan(prefill=(), batch=(4,), context=380, seconds=60)
    assert plan.longest < 512
    rates = Meter(engine(plan)).decode(4, plan)
    assert len(rates.values) == DECODE_STEPS


def test_a_large_batch_decodes_in_one_step() -> None:
    plan = Plan(prefill=(), batch=(600,), context=1, seconds=1e-9)
    assert len(Meter(engine(plan)).decode(600, plan).values) == 1


def test_the_cache_is_as_large_as_the_plan_needs() -> None:
    config = PLAN.engine_config("float16", None)
    assert config.num_blocks == 3 * (-(-PLAN.longest // 16) + 1)
    assert config.max_model_len == PLAN.longest
    assert not config.enable_prefix_caching
    only_prompts = Plan(prefill=(100,), batch=()).engine_config("float16", None)
    assert only_prompts.num_blocks == 8
    windowed = PLAN.engine_config("float16", 24).num_blocks
    assert windowed is not None
    assert windowed <= 3 * (-(-PLAN.longest // 16) + 1)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"prefill": (0,)}, "prefill"),
        ({"batch": (1.5,)}, "batch"),
        ({"context": 0}, "context"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"prefill": (), "batch": ()}, "prefill"),
    ],
)
def test_impossible_plans_are_refused(arguments: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as caught:
        Plan(**arguments)
    assert caught.value.param == param
