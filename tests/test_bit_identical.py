"""On the cpu backend a request gives the same bits whatever its company, its chunks, its threads or the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ostro import LLM, SamplingParams

RNG = np.random.default_rng(11)
PROMPTS = [[1, *RNG.integers(3, 101, size=length).tolist()] for length in (1, 3, 8, 17, 33, 40, 64, 90)]
VARIANTS = ["mistral-7b-v0.1", "mixtral", "llama-3.2", "mixtral at 4 bits", "llama-3.2 at 8 bits"]
# Log-probabilities of the chosen token and five others show differences that the tokens alone would hide.
PARAMS = SamplingParams(temperature=0.8, seed=5, max_tokens=24, ignore_eos=True, logprobs=5)

Answer = tuple[list[int], list[dict[int, float]]]


def answers(llm: LLM, prompts: list[list[int]]) -> list[Answer]:
    found = []
    for output in llm.generate(prompts, PARAMS):
        answer = output.outputs[0]
        assert answer.logprobs is not None
        found.append((answer.token_ids, [{i: entry.logprob for i, entry in step.items()} for step in answer.logprobs]))
    return found


def load(folder: Path, **options: int | bool | str) -> LLM:
    return LLM(folder, **{"backend": "cpu", "num_threads": 1, "enable_prefix_caching": False, **options})


@pytest.fixture(scope="module", params=VARIANTS)
def folder(request: pytest.FixtureRequest, tiny_checkpoint: Callable[[str], Path]) -> Path:
    name, _, bits = request.param.removesuffix(" bits").partition(" at ")
    checkpoint = tiny_checkpoint(name)
    return LLM(checkpoint, backend="cpu", quantize=int(bits)).path if bits else checkpoint


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[Answer]:
    llm = load(folder)
    return [answers(llm, [prompt])[0] for prompt in PROMPTS]


@pytest.mark.parametrize(
    "options",
    [
        {"num_threads": 2},
        {"max_num_batched_tokens": 1},
        {"max_num_batched_tokens": 7},
        {"max_num_batched_tokens": 64, "num_threads": 2},
        {"block_size": 5},
        {"max_num_seqs": 3, "max_num_batched_tokens": 13},
        {"kv_cache_bytes": 200_000},
        {"speculation": "off"},
        {"speculation": "prompt-lookup"},
    ],
    ids=str,
)
def test_in_a_batch_of_8(folder: Path, alone: list[Answer], options: dict[str, int | str]) -> None:
    assert answers(load(folder, **options), PROMPTS) == alone


def test_with_a_prefix_hit(folder: Path, alone: list[Answer]) -> None:
    llm = load(folder, enable_prefix_caching=True)
    assert answers(llm, PROMPTS) == alone
    again = llm.generate(PROMPTS, PARAMS)
    assert again[-1].num_cached_tokens > 0
    assert answers(llm, PROMPTS) == alone


def test_streamed(folder: Path, alone: list[Answer]) -> None:
    llm = load(folder)
    streamed = [[i for chunk in llm.stream(prompt, PARAMS) for i in chunk.token_ids] for prompt in PROMPTS]
    assert streamed == [ids for ids, _ in alone]


def test_logits(folder: Path) -> None:
    def bits(**options: int) -> npt.NDArray[np.uint32]:
        return load(folder, **options).logits(PROMPTS[-1]).view(np.uint32)

    whole = bits()
    for options in ({"num_threads": 2}, {"max_num_batched_tokens": 1}, {"max_num_batched_tokens": 10, "block_size": 3}):
        np.testing.assert_array_equal(bits(**options), whole)


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"dtype": "bfloat16"}, {"kv_dtype": "int8"}], ids=str)
def test_narrow_weights_and_cache(folder: Path, options: dict[str, str]) -> None:
    one = load(folder, **options)
    two = load(folder, num_threads=2, max_num_batched_tokens=7, **options)
    assert answers(two, PROMPTS) == [answers(one, [prompt])[0] for prompt in PROMPTS]
