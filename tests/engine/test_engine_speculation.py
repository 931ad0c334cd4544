"""Speculation changes nothing but the number of steps: the same tokens, log-probabilities, texts and endings."""

from __future__ import annotations

from typing import Any

import pytest
from drafters import Guess, Scripted, oracle, partly
from drafting import MODELS, PIECES, always, answers, engine, steps
from engine_models import (
    EOS,
    VOCAB,
    RowwiseOps,
    generate,
    make_core,
    prompts,
    run_all,
    same,
    tiny_config,
    tiny_weights,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ostro.engine import EngineConfig, EngineCore, SamplingParams
from ostro.errors import RequestError
from ostro.ops import get_ops


@st.composite
def texts(draw: st.DrawFn) -> list[int]:
    """Prompts with and without repetition."""
    part = draw(st.lists(st.integers(3, VOCAB - 1), min_size=1, max_size=8))
    return (part * draw(st.integers(1, 4)) + draw(st.lists(st.integers(3, VOCAB - 1), max_size=3)))[:40]


sampling = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0, 0, 0.3, 1.0]),
    top_k=st.sampled_from([0, 5]),
    top_p=st.sampled_from([1.0, 0.8]),
    min_p=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 5),
    n=st.integers(1, 3),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.7, -1.5]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    logit_bias=st.sampled_from([{}, {EOS: 3.0}, {7: 4.0, 9: 4.0}]),
    stop=st.sampled_from([(), ("A",), ("AB", "CDE"), ("BBA",)]),
    stop_token_ids=st.sampled_from([(), (7,), (9, 11)]),
    include_stop_str_in_output=st.booleans(),
    ignore_eos=st.booleans(),
    min_tokens=st.sampled_from([0, 0, 6]),
    max_tokens=st.integers(6, 40),
    logprobs=st.sampled_from([None, 0, 3]),
)
sizes = st.sampled_from(
    [
        {},
        {"max_num_batched_tokens": 3},
        {"max_num_seqs": 2, "block_size": 1, "num_blocks": 160},
        {"enable_prefix_caching": False, "block_size": 16},
        {"num_blocks": 22, "max_model_len": 80, "max_num_batched_tokens": 11},
    ]
)


@settings(max_examples=50)
@given(
    model=st.sampled_from(list(MODELS)),
    requests=st.lists(st.tuples(texts(), sampling), min_size=1, max_size=4),
    size=sizes,
    max_draft_tokens=st.sampled_from([1, 2, 7, 15]),
    speculation=st.sampled_from(["auto", "prompt-lookup"]),
)
def test_prompt_lookup_gives_the_same_answers(
    model: str,
    requests: list[tuple[list[int], SamplingParams]],
    size: dict[str, Any],
    max_draft_tokens: int,
    speculation: str,
) -> None:
    plain = answers(engine(model, speculation="off"), requests)
    core = engine(model, speculation=speculation, max_draft_tokens=max_draft_tokens, **size)
    assert answers(core, requests) == plain
    assert answers(core, requests) == plain  # with prefix hits, on what drafts left in the pool


@settings(max_examples=50)
@given(
    model=st.sampled_from(list(MODELS)),
    requests=st.lists(st.tuples(texts(), sampling), min_size=1, max_size=4),
    size=sizes,
    max_draft_tokens=st.sampled_from([1, 3, 7]),
    rights=st.lists(st.integers(0, 8), min_size=1, max_size=5),
)
def test_drafts_that_are_partly_right_give_the_same_answers(
    model: str,
    requests: list[tuple[list[int], SamplingParams]],
    size: dict[str, Any],
    max_draft_tokens: int,
    rights: list[int],
) -> None:
    plain = answers(engine(model, speculation="off"), requests)
    whole = [prompt + answer.token_ids for (prompt, _), found in zip(requests, plain, strict=True) for answer in found]
    core = engine(model, partly(oracle(whole), rights, VOCAB), max_draft_tokens=max_draft_tokens, **size)
    assert answers(core, requests) == plain


HOSTILE: dict[str, Guess] = {
    "nothing": always(),
    "far too much": always(*[5] * 1000),
    "no tokens": always(VOCAB, -1, 10**9),
    "half of it no tokens": always(5, 5, VOCAB),
    "the end": always(EOS, EOS, EOS),
    "the same again": lambda sequence, limit: sequence.token_ids[-limit:],
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("model", ["dense", "window of 6"])
def test_a_drafter_can_do_no_harm(model: str, name: str) -> None:
    params = SamplingParams(temperature=1, seed=3, max_tokens=30, logprobs=1, logit_bias={EOS: 2.0, 5: 3.0})
    requests = [(prompt, params) for prompt in prompts(5)]
    core = engine(model, HOSTILE[name], num_blocks=40)
    assert answers(core, requests) == answers(engine(model, speculation="off"), requests)


@pytest.mark.parametrize("window", [None, 1, 6])
def test_rows_read_only_what_was_written_for_them(window: int | None) -> None:
    """`RowwiseOps` checks every slot that is read."""

    class Ops(RowwiseOps):
        row_independent = True

    params = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True, logprobs=1)
    texts = [[5, 6, 7, 8] * 3, *prompts(2)]
    plain = make_core(tiny_config(window), num_blocks=64)
    expected = [generate(plain, text, params).outputs[0] for text in texts]
    whole = [text + answer.token_ids for text, answer in zip(texts, expected, strict=True)]
    for draft in (None, Scripted(partly(oracle(whole), [2, 0, 7, 1], VOCAB))):
        config, ops = tiny_config(window), Ops()
        sizes = EngineConfig(speculation="draft-model" if draft else "prompt-lookup", block_size=4, num_blocks=40)
        core = EngineCore(ops, config, tiny_weights(config, ops), engine_config=sizes, draft=draft)
        for i, text in enumerate(texts):
            core.add_request(str(i), text, params)
        outputs = run_all(core)
        assert all(same(outputs[str(i)].outputs[0], answer) for i, answer in enumerate(expected))
        assert sum(output.num_accepted_tokens for output in outputs.values()) > 0


@pytest.mark.parametrize("max_draft_tokens", [1, 3, 7])
def test_a_right_draft_saves_a_step_for_each_of_its_tokens(max_draft_tokens: int) -> None:
    prompt = prompts(1)[0]
    params = SamplingParams(temperature=1, seed=4, max_tokens=33, ignore_eos=True)
    count, plain = steps(engine(speculation="off"), prompt, params)
    assert (count, plain.num_draft_tokens, plain.num_accepted_tokens) == (33, 0, 0)
    guess = oracle([prompt + plain.outputs[0].token_ids])
    fewer, output = steps(engine(guess=guess, max_draft_tokens=max_draft_tokens), prompt, params)
    assert output.outputs == plain.outputs
    # The first token comes with the prompt, then each step brings its draft and one token more.
    assert fewer == 1 + -(-32 // (1 + max_draft_tokens))
    assert output.num_accepted_tokens == output.num_draft_tokens == count - fewer


def test_a_wrong_draft_costs_no_step() -> None:
    prompt = prompts(1)[0]
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    count, plain = steps(engine(speculation="off"), prompt, params)
    wrong = partly(oracle([prompt + plain.outputs[0].token_ids]), [0], VOCAB)
    same_count, output = steps(engine(guess=wrong, max_draft_tokens=4), prompt, params)
    assert same_count == count == 20
    assert output.outputs == plain.outputs
    assert output.num_accepted_tokens == 0
    assert output.num_draft_tokens > 0


def test_prompt_lookup_saves_steps_on_an_answer_that_repeats_itself() -> None:
    """A bias makes the model say four tokens over and over, as it might a table."""
    params = SamplingParams(temperature=0, max_tokens=80, ignore_eos=True, logit_bias=dict.fromkeys((5, 6), 100.0))
    count, output = steps(engine(max_draft_tokens=7), [8, 9], params)
    assert len(output.outputs[0].token_ids) == 80
    assert count < 40
    assert output.num_accepted_tokens == 80 - count


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_string_within_a_draft_ends_the_answer_there(include: bool) -> None:
    """What was accepted behind it is no part of the answer, nor of the prefix cache."""
    prompt = prompts(1)[0]
    whole = generate(engine(speculation="off"), prompt, SamplingParams(temperature=0, max_tokens=24, ignore_eos=True))
    ids = whole.outputs[0].token_ids
    stop = "".join(PIECES[i - 3].decode() for i in ids[9:11])
    params = SamplingParams(
        temperature=0, max_tokens=24, ignore_eos=True, stop=stop, include_stop_str_in_output=include, logprobs=1
    )
    plain = generate(engine(speculation="off"), prompt, params)
    core = engine(guess=oracle([prompt + ids]), max_draft_tokens=7)
    output = generate(core, prompt, params)
    assert output.outputs == plain.outputs
    assert output.outputs[0].stop_reason == stop
    assert len(output.outputs[0].token_ids) <= 11
    after = prompt + output.outputs[0].token_ids + [5, 6, 7]
    again = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, logprobs=1)
    follow_up = generate(core, after, again)
    assert follow_up.num_cached_tokens > 0
    assert follow_up.outputs == generate(engine(speculation="off"), after, again).outputs


def test_a_stream_of_several_tokens_a_step_joins_to_the_same_text() -> None:
    from ostro.engine.stream import Pieces

    prompt = [5, 6, 7] * 4
    params = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True, stop="QQQQ")
    plain = generate(engine(speculation="off"), prompt, params).outputs[0]
    core = engine(guess=oracle([prompt + plain.token_ids]), max_draft_tokens=5)
    core.add_request("only", prompt, params)
    pieces, chunks = Pieces(), []
    while core.has_unfinished:
        for output in core.step():
            chunks += pieces.of(output)
    assert max(len(chunk.token_ids) for chunk in chunks) == 6
    assert [i for chunk in chunks for i in chunk.token_ids] == plain.token_ids
    assert "".join(chunk.text for chunk in chunks) == plain.text
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].finish_reason == plain.finish_reason


def test_the_answer_fills_the_context_exactly() -> None:
    prompt = [5, 6, 7] * 4
    params = SamplingParams(temperature=0, ignore_eos=True, logprobs=0)
    plain = generate(engine(speculation="off", max_model_len=50), prompt, params)
    assert len(plain.outputs[0].token_ids) == 38
    for guess in (None, oracle([prompt + plain.outputs[0].token_ids + [5] * 20])):
        output = generate(engine(guess=guess, max_model_len=50, num_blocks=13), prompt, params)
        assert output.outputs == plain.outputs


@pytest.mark.parametrize("model", ["dense", "window of 6"])
def test_preempted_sequences_draft_and_give_the_same_answers(model: str) -> None:
    params = SamplingParams(temperature=0.9, seed=3, max_tokens=30, ignore_eos=True, frequency_penalty=0.5, logprobs=1)
    requests = [(prompt, params) for prompt in prompts(6, low=4, high=8)]
    plain = answers(engine(model, speculation="off"), requests)
    whole = [prompt + found[0].token_ids for (prompt, _), found in zip(requests, plain, strict=True)]
    tight = {"dense": 11, "window of 6": 5}[model]
    core = engine(
        model,
        partly(oracle(whole), [3, 1, 0, 7], VOCAB),
        num_blocks=tight,
        max_model_len=40,
        enable_prefix_caching=False,
    )
    assert answers(core, requests) == plain
    assert core.scheduler.num_preemptions > 0


def test_a_windowed_text_longer_than_the_pool() -> None:
    params = SamplingParams(temperature=0, max_tokens=600, ignore_eos=True)
    sizes = {"num_blocks": 5, "max_model_len": 700, "max_num_batched_tokens": 8}
    plain = generate(engine("window of 6", speculation="off", **sizes), [1, 5, 6], params)
    output = generate(engine("window of 6", **sizes), [1, 5, 6], params)
    assert output.outputs == plain.outputs
    assert output.num_accepted_tokens > 0


def test_auto_drafts_where_rows_are_independent() -> None:
    for backend, speculates in (("cpu", True), ("reference", False), ("torch", False)):
        ops = get_ops(backend)
        assert ops.row_independent is speculates
        assert engine(ops=ops, speculation="auto").is_speculating is speculates
        assert not engine(ops=ops, speculation="off").is_speculating


@pytest.mark.parametrize(
    ("options", "guess", "param", "words"),
    [
        ({"speculation": "prompt-lookup", "ops": "reference"}, False, "speculation", "reference does not promise"),
        ({"speculation": "auto", "ops": "torch"}, True, "draft_model", "choose the backend cpu"),
        ({"speculation": "off"}, True, "draft_model", "speculation is 'off'"),
        ({"speculation": "prompt-lookup"}, True, "draft_model", "leave draft_model out"),
        ({"speculation": "draft-model"}, False, "speculation", "name one with draft_model"),
        ({"speculation": "always"}, False, "speculation", "one of auto, off, prompt-lookup, draft-model"),
        ({"max_draft_tokens": 0}, False, "max_draft_tokens", "at least 1"),
    ],
)
def test_what_cannot_be_had_together_is_refused(options: dict[str, Any], guess: bool, param: str, words: str) -> None:
    ops = get_ops(options.pop("ops", "cpu"))
    with pytest.raises(RequestError, match=words) as caught:
        engine(guess=always() if guess else None, ops=ops, **options)
    assert caught.value.param == param
