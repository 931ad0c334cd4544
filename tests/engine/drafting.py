"""Engines that draft, and what they answer."""

from __future__ import annotations

from typing import Any

from drafters import Guess, Scripted
from engine_models import (
    VOCAB,
    WordTokenizer,
    run_all,
    tiny_config,
    tiny_weights,
)

from ostro.engine import CompletionOutput, EngineConfig, EngineCore, RequestOutput, SamplingParams
from ostro.ops import get_ops

PIECES = [bytes([65 + i % 26]) * (1 + i // 26) for i in range(VOCAB - 3)]
TOKENIZER: Any = WordTokenizer(PIECES)
MODELS: dict[str, dict[str, Any]] = {
    "dense": {},
    "window of 1": {"sliding_windows": (1, 1)},
    "window of 6": {"sliding_windows": (6, 6)},
    "window in one layer": {"sliding_windows": (5, None)},
    "experts": {"num_local_experts": 4, "num_experts_per_tok": 2, "family": "mixtral"},
}


def engine(model: str = "dense", guess: Guess | None = None, ops: Any = None, **options: Any) -> EngineCore:
    """An engine that drafts whenever it can: what `guess` says, or by prompt lookup."""
    config = tiny_config(**MODELS[model])
    ops = ops or get_ops("cpu", num_threads=1)
    options = {"speculation": "draft-model" if guess else "prompt-lookup", "block_size": 4, "num_blocks": 64} | options
    draft = Scripted(guess) if guess else None
    weights = tiny_weights(config, ops)
    return EngineCore(ops, config, weights, tokenizer=TOKENIZER, engine_config=EngineConfig(**options), draft=draft)


def answers(core: EngineCore, requests: list[tuple[list[int], SamplingParams]]) -> list[list[CompletionOutput]]:
    for i, (prompt, params) in enumerate(requests):
        core.add_request(str(i), prompt, params)
    outputs = run_all(core)
    assert core.cache.pool.num_used == 0
    return [outputs[str(i)].outputs for i in range(len(requests))]


def steps(core: EngineCore, prompt: list[int], params: SamplingParams) -> tuple[int, RequestOutput]:
    core.add_request("only", prompt, params)
    count = 0
    while core.has_unfinished:
        outputs = core.step()
        count += 1
    return count, outputs[0]


def always(*draft: int) -> Guess:
    """The same draft, whatever was said."""
    return lambda _sequence, _limit: list(draft)
