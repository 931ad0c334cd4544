"""On the cpu backend a request gives the same bits whatever it runs with: the promise of docs/architecture.md."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from engine_models import generate, make_core, prompts, run_all, tiny_config

from ostro.engine import CompletionOutput, EngineCore, SamplingParams
from ostro.ops import get_ops

MODELS: dict[str, dict[str, Any]] = {
    "dense": {},
    "windowed": {"sliding_windows": (6, 6)},
    "odd": {"hidden_size": 42, "intermediate_size": 71, "head_dim": 14, "num_attention_heads": 3,
            "num_key_value_heads": 1, "vocab_size": 61},
    "experts": {"num_local_experts": 4, "num_experts_per_tok": 2, "family": "mixtral"},
    "wide": {"hidden_size": 128, "intermediate_size": 352, "head_dim": 32},
}  # fmt: skip
PARAMS = {
    "greedy": SamplingParams(temperature=0, max_tokens=24, ignore_eos=True, logprobs=3),
    "drawn": SamplingParams(temperature=1, top_p=0.95, seed=8, max_tokens=24, ignore_eos=True, logprobs=3),
}
TEXTS = prompts(8, low=2, high=60)


def core(model: str, dtype: str = "float32", num_threads: int = 1, **sizes: Any) -> EngineCore:
    """An engine whose weights and K/V are of one type; with int8 the weights are float32."""
    kinds = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "int8": np.float32}
    return make_core(
        tiny_config(**MODELS[model]),
        ops=get_ops("cpu", num_threads=num_threads),
        dtype=kinds[dtype],
        **{"kv_dtype": dtype, "num_blocks": 200, **sizes},
    )


def together(engine: EngineCore, params: SamplingParams) -> list[CompletionOutput]:
    for i, text in enumerate(TEXTS):
        engine.add_request(str(i), text, params)
    outputs = run_all(engine)
    return [outputs[str(i)].outputs[0] for i in range(len(TEXTS))]


def bits(answer: CompletionOutput) -> Any:
    """Tokens and exact log-probabilities."""
    return answer.token_ids, answer.logprobs


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("kind", PARAMS)
@pytest.mark.parametrize("model", MODELS)
def test_the_same_bits_in_any_company(model: str, kind: str, dtype: str) -> None:
    params = PARAMS[kind]
    alone = [bits(generate(core(model, dtype), text, params).outputs[0]) for text in TEXTS]
    batch = core(model, dtype)
    tight = core(model, dtype, num_blocks=26, enable_prefix_caching=False)
    cases = {
        "a batch of 8": together(batch, params),
        "the same again, with prefix hits": together(batch, params),
        "chunks of 5": together(core(model, dtype, max_num_batched_tokens=5), params),
        "chunks of 64": together(core(model, dtype, max_num_batched_tokens=64), params),
        "without drafts": together(core(model, dtype, speculation="off"), params),
        "with every draft": together(core(model, dtype, speculation="prompt-lookup", max_draft_tokens=5), params),
        "two threads": together(core(model, dtype, num_threads=2), params),
        "blocks of 16, three at a time": together(core(model, dtype, block_size=16, max_num_seqs=3), params),
        "preempted": together(tight, params),
    }
    assert tight.scheduler.num_preemptions or model == "windowed"
    for case, answers in cases.items():
        for i, answer in enumerate(answers):
            assert bits(answer) == alone[i], f"{case}: text {i}"


@pytest.mark.parametrize("model", MODELS)
def test_logits_have_the_same_bits_in_any_chunk_and_with_any_threads(model: str) -> None:
    text = TEXTS[0] * 3
    text = text[:90]
    whole = core(model).logits(text)
    for options in ({"max_num_batched_tokens": 1}, {"max_num_batched_tokens": 17}, {"num_threads": 2}):
        assert np.array_equal(core(model, **options).logits(text), whole), options
