"""A second model that writes ahead: its guesses, its cache in step with the text, and what it is refused for."""

from __future__ import annotations

from typing import Any

import pytest
from engine_models import VOCAB, WordTokenizer, generate, make_core, prompts, run_all, tiny_config, tiny_weights
from hypothesis import given, settings
from hypothesis import strategies as st

from ostro.config import ModelConfig
from ostro.engine import EngineConfig, EngineCore, RequestOutput, SamplingParams
from ostro.engine.draft_model import DraftModel, require_same_vocabulary
from ostro.engine.scheduler import TokenSequence
from ostro.errors import RequestError
from ostro.ops import get_ops

OPS = get_ops("cpu", num_threads=1)
GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True, logprobs=1)
OTHERS: dict[str, dict[str, Any]] = {
    "the same": {},
    "smaller": {"hidden_size": 12, "num_hidden_layers": 1, "sliding_windows": (None,)},
    "windowed": {"sliding_windows": (5, 5)},
    "of a short context": {"max_position_embeddings": 24},
}


def draft_model(config: ModelConfig | None = None, **sizes: Any) -> DraftModel:
    config = config or tiny_config()
    sizes = {"num_blocks": 64, "block_size": 4, "kv_dtype": "float32", "max_num_batched_tokens": 512} | sizes
    return DraftModel(OPS, config, tiny_weights(config, OPS), **sizes)


def engine(draft: DraftModel | None, window: int | None = None, **options: Any) -> EngineCore:
    config = tiny_config(window)
    options = {"block_size": 4, "num_blocks": 64, "speculation": "draft-model" if draft else "off"} | options
    return EngineCore(OPS, config, tiny_weights(config, OPS), engine_config=EngineConfig(**options), draft=draft)


def together(core: EngineCore, texts: list[list[int]], params: SamplingParams) -> list[RequestOutput]:
    for i, text in enumerate(texts):
        core.add_request(str(i), text, params)
    outputs = run_all(core)
    return [outputs[str(i)] for i in range(len(texts))]


def steps(core: EngineCore, text: list[int], params: SamplingParams) -> tuple[int, RequestOutput]:
    core.add_request("only", text, params)
    count = 0
    while core.has_unfinished:
        outputs = core.step()
        count += 1
    return count, outputs[0]


@pytest.mark.parametrize("window", [None, 1, 6])
def test_the_same_model_is_always_right(window: int | None) -> None:
    text = prompts(1)[0]
    plain = generate(engine(None, window), text, GREEDY)
    draft = draft_model(tiny_config(window))
    count, output = steps(engine(draft, window, max_draft_tokens=5), text, GREEDY)
    assert output.outputs == plain.outputs
    assert output.num_accepted_tokens == output.num_draft_tokens == 24 - count
    assert count == 1 + -(-23 // 6)
    assert draft.cache.pool.num_used == 0


@settings(max_examples=30)
@given(
    other=st.sampled_from(list(OTHERS)),
    window=st.sampled_from([None, 6]),
    texts=st.lists(st.lists(st.integers(3, VOCAB - 1), min_size=1, max_size=30), min_size=1, max_size=4),
    temperature=st.sampled_from([0, 0.7]),
    n=st.integers(1, 2),
    max_draft_tokens=st.integers(1, 6),
    num_blocks=st.sampled_from([3, 12, 64]),
    budget=st.sampled_from([3, 512]),
    sizes=st.sampled_from(
        [{}, {"max_num_batched_tokens": 5}, {"num_blocks": 20, "max_model_len": 60}, {"enable_prefix_caching": False}]
    ),
    speculation=st.sampled_from(["auto", "draft-model"]),
)
def test_no_draft_model_changes_an_answer(
    other: str,
    window: int | None,
    texts: list[list[int]],
    temperature: float,
    n: int,
    max_draft_tokens: int,
    num_blocks: int,
    budget: int,
    sizes: dict[str, Any],
    speculation: str,
) -> None:
    """Whatever its weights and window, however short its pool, its context and its steps."""
    params = SamplingParams(temperature=temperature, seed=1, n=n, max_tokens=24, ignore_eos=True, logprobs=1)
    plain = [output.outputs for output in together(engine(None, window), texts, params)]
    draft = draft_model(tiny_config(**OTHERS[other]), num_blocks=num_blocks, max_num_batched_tokens=budget)
    core = engine(draft, window, max_draft_tokens=max_draft_tokens, speculation=speculation, **sizes)
    assert [output.outputs for output in together(core, texts, params)] == plain
    assert [output.outputs for output in together(core, texts, params)] == plain
    assert draft.cache.pool.num_used == 0


def test_wrong_guesses_are_rolled_back() -> None:
    """Its own cache is that of the text: after every step it guesses as if it had read the text anew."""
    draft = draft_model(tiny_config(**OTHERS["smaller"]))
    target = TokenSequence(
        order=0, token_ids=prompts(1)[0], num_prompt_tokens=1, salt="x", cache=make_core().cache.open([1])
    )
    for more in ([4], [9, 9], [5, 6, 7], [1], [2, 3]):
        assert draft.confidence(target) is not None
        found = draft.propose({target: 4})[target]
        anew = TokenSequence(order=1, token_ids=list(target.token_ids), num_prompt_tokens=1, cache=target.cache)
        fresh = draft_model(tiny_config(**OTHERS["smaller"]))
        assert found == fresh.propose({anew: 4})[anew]
        assert len(found) == 4
        target.token_ids += [*found[: len(more) - 1], *more]  # some were right, then it goes on otherwise


def test_long_prompts_are_read_in_parts_and_the_short_ones_do_not_wait() -> None:
    draft = draft_model(max_num_batched_tokens=10)
    cache = make_core().cache.open([1])
    long = TokenSequence(order=0, token_ids=[5] * 25, num_prompt_tokens=25, cache=cache)
    short = TokenSequence(order=1, token_ids=[6] * 3, num_prompt_tokens=3, cache=cache)
    lengths = []
    for _ in range(4):
        found = draft.propose({long: 2, short: 2})
        lengths.append((len(found[long]), len(found[short])))
        short.token_ids.append(7)
    assert lengths == [(0, 2), (0, 2), (2, 2), (0, 2)]  # for the fourth the long text is as it was for the third


def test_the_place_of_a_preempted_sequence_is_given_up() -> None:
    draft = draft_model(num_blocks=4)
    cache = make_core().cache.open([1])
    first = TokenSequence(order=0, token_ids=[5] * 14, num_prompt_tokens=14, cache=cache)
    second = TokenSequence(order=1, token_ids=[6] * 14, num_prompt_tokens=14, cache=cache)
    assert len(draft.propose({first: 2})[first]) == 2
    assert draft.propose({second: 2})[second] == []  # no room
    first.cache = None
    assert len(draft.propose({second: 2})[second]) == 2


def test_its_context_bounds_its_drafts() -> None:
    draft = draft_model(tiny_config(max_position_embeddings=24))
    cache = make_core().cache.open([1])
    target = TokenSequence(order=0, token_ids=[5] * 22, num_prompt_tokens=22, cache=cache)
    assert draft.confidence(target) is not None
    assert len(draft.propose({target: 7})[target]) == 3
    target.token_ids += [5] * 3
    assert draft.confidence(target) is None
    windowed = draft_model(tiny_config(5, max_position_embeddings=24))
    assert len(windowed.propose({target: 7})[target]) == 7


def test_forgetting_prefixes_reaches_the_draft_model() -> None:
    draft = draft_model()
    core = engine(draft)
    generate(core, prompts(1, low=20)[0], GREEDY, cache_salt="one")
    assert draft.cache.pool.num_cached > 0
    core.reset_prefix_cache()
    assert draft.cache.pool.num_cached == 0


def test_prompt_lookup_and_the_draft_model_together() -> None:
    """Where the text repeats itself the lookup serves, elsewhere the model, which catches up with what it missed."""
    text = [5, 6, 7, 8, 9, 10, 11, 12, 13] * 3
    plain = generate(engine(None), text, GREEDY)
    draft = draft_model()
    core = engine(draft, speculation="auto", max_draft_tokens=4)
    count, output = steps(core, text, GREEDY)
    assert output.outputs == plain.outputs
    assert output.num_accepted_tokens == 24 - count > 0


def test_the_vocabulary_must_be_the_same() -> None:
    with pytest.raises(RequestError, match="of 64 tokens and the model one of 61") as caught:
        require_same_vocabulary(tiny_config(), tiny_config(vocab_size=64), None, None)
    assert caught.value.param == "draft_model"
    ours: Any = WordTokenizer([b"a", b"b", b"c"])
    other: Any = WordTokenizer([b"a", b"x", b"c"])
    longer: Any = WordTokenizer([b"a", b"b", b"c", b"d"])
    control: Any = WordTokenizer([b"a", b"b", b"c"])
    control.control_tokens = {"<unk>": 0, "<s>": 2, "</s>": 1}
    require_same_vocabulary(tiny_config(), tiny_config(), ours, WordTokenizer([b"a", b"b", b"c"]))  # type: ignore[arg-type]
    require_same_vocabulary(tiny_config(), tiny_config(), ours, None)
    for wrong, words in ((other, "token 4 is b'b' in one and b'x'"), (longer, "token 6"), (control, "control tokens")):
        with pytest.raises(RequestError, match=words):
            require_same_vocabulary(tiny_config(), tiny_config(), ours, wrong)
