"""Guided answers in the engine: the form holds, and nothing else changes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from drafters import Guess, Scripted, oracle, partly
from engine_models import generate, run_all, tiny_config, tiny_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from random_answers import validator
from schemas import SCHEMAS
from toy_tokenizer import toy

from ostro.engine import EngineConfig, EngineCore, Guided, SamplingParams
from ostro.errors import RequestError
from ostro.ops import get_ops

TOKENIZER = toy()
EOS = TOKENIZER.control_id("<|end_of_text|>")
EOT = TOKENIZER.control_id("<|eot_id|>")
VOCAB = TOKENIZER.vocab_size + 7
"""Rows that no token uses, as padded checkpoints have them."""
PROMPT = [256, *b'Say {"kind": "cat", "size": 3}, please: ']
SMALL = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["cat", "caterpillar", "dog"]},
        "size": {"type": "integer", "maximum": 99, "minimum": 0},
    },
    "required": ["kind", "size"],
    "additionalProperties": False,
}
FORMS = {
    "schema": Guided(json_schema=SMALL),
    "tree": Guided(json_schema=SCHEMAS["tagged"]),
    "regex": Guided(regex="(ab|abc)*[xyz]{2,4}"),
    "open end": Guided(regex="[a-f]{3,}"),
    "choice": Guided(choice=["yes", "yes and no", "no"]),
    "grammar": Guided(grammar=f'start: "a" | <[{EOT + 1}]> /[0-9]+/ "!"'),
}


def engine(guess: Guess | None = None, **options: Any) -> EngineCore:
    config = tiny_config(vocab_size=VOCAB, max_position_embeddings=512, eos_token_ids=(EOS,))
    ops = get_ops("cpu", num_threads=1)
    options = {"speculation": "draft-model" if guess else "off", "block_size": 4, "num_blocks": 256} | options
    draft = Scripted(guess) if guess else None
    weights = tiny_weights(config, ops)
    return EngineCore(ops, config, weights, tokenizer=TOKENIZER, engine_config=EngineConfig(**options), draft=draft)


@pytest.fixture(scope="module")
def plain() -> EngineCore:
    return engine()


def answer(core: EngineCore, guided: Guided, **params: Any) -> Any:
    given = {"temperature": 1, "seed": 1, "max_tokens": 100, **params}
    return generate(core, PROMPT, SamplingParams(guided=guided, **given)).outputs[0]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("seed", range(4))
def test_the_form_holds(plain: EngineCore, name: str, seed: int) -> None:
    form = FORMS[name]
    found = answer(plain, form, seed=seed)
    if form.kind == "json_schema":
        validator(form.json_schema).validate(json.loads(found.text))
    elif form.kind == "choice":
        assert found.text in (form.choice or ())
    elif form.kind == "regex":
        assert re.fullmatch(form.regex or "", found.text)
    else:
        assert re.fullmatch(r"a|[0-9]+!", found.text)
    assert found.finish_reason in ("stop", "length" if name == "open end" else "stop")
    assert found.stop_reason is None


def test_it_ends_where_nothing_can_follow(plain: EngineCore) -> None:
    """Without the end-of-sequence token; the last token is the form's last."""
    found = answer(plain, FORMS["schema"])
    assert found.token_ids == list(found.text.encode())
    assert found.text.endswith("}")


def test_it_may_end_where_more_could_follow(plain: EngineCore) -> None:
    wanted = answer(plain, FORMS["open end"], logit_bias={EOS: 100})
    assert (len(wanted.text), wanted.finish_reason, wanted.token_ids[-1]) == (3, "stop", EOS)
    longer = answer(plain, FORMS["open end"], logit_bias={EOS: 100}, min_tokens=7)
    assert (len(longer.text), longer.token_ids[-1]) == (7, EOS)
    endless = answer(plain, FORMS["open end"], logit_bias={EOS: 100}, ignore_eos=True)
    assert (len(endless.text), endless.finish_reason) == (100, "length")
    assert re.fullmatch("[a-f]{100}", endless.text)


def test_ends_of_the_request_and_of_its_turn(plain: EngineCore) -> None:
    """They may stand wherever the form may end, and nowhere else."""
    params = SamplingParams(guided=FORMS["open end"], temperature=0, max_tokens=50, logit_bias={EOT: 100, 65: 90})
    plain.add_request("a", PROMPT, params, eos_token_ids=[EOT])
    turn = run_all(plain)["a"].outputs[0]
    assert (len(turn.text), turn.token_ids[-1], turn.stop_reason) == (3, EOT, None)
    own = answer(plain, FORMS["open end"], stop_token_ids=[65], logit_bias={65: 100})
    assert (len(own.text), own.token_ids[-1], own.stop_reason) == (3, 65, 65)


def test_min_tokens_yield_where_the_form_ends(plain: EngineCore) -> None:
    found = answer(plain, FORMS["choice"], min_tokens=40)
    assert found.text == "yes and no" or found.text == "no"
    assert found.finish_reason == "stop"


def test_stop_strings_and_max_tokens_cut(plain: EngineCore) -> None:
    found = answer(plain, FORMS["schema"], stop=['"size'])
    assert found.finish_reason == "stop"
    assert found.stop_reason == '"size'
    assert found.text.endswith((",", ", "))
    assert answer(plain, FORMS["schema"], max_tokens=5).finish_reason == "length"
    whole = answer(plain, FORMS["schema"])
    last = answer(plain, FORMS["schema"], max_tokens=len(whole.token_ids))
    assert (last.text, last.finish_reason) == (whole.text, "stop")


def test_logprobs_are_the_models_own(plain: EngineCore) -> None:
    found = answer(plain, FORMS["schema"], logprobs=3, temperature=0)
    assert found.logprobs is not None
    assert len(found.logprobs) == len(found.token_ids)
    assert all(token_id in table for token_id, table in zip(found.token_ids, found.logprobs, strict=True))
    assert any(table[i].rank > 10 for i, table in zip(found.token_ids, found.logprobs, strict=True))


def test_bias_and_penalties_choose_within_the_form(plain: EngineCore) -> None:
    biased = answer(plain, Guided(regex="[a-z]{9}"), logit_bias={ord("q"): 100, ord("Q"): 100})
    assert biased.text == "q" * 9
    varied = answer(plain, Guided(regex="[qr]{9}"), temperature=0, frequency_penalty=2, presence_penalty=2)
    assert len(set(varied.text)) == 2


def test_several_answers_are_those_of_their_seeds(plain: EngineCore) -> None:
    params = SamplingParams(guided=FORMS["schema"], seed=5, n=3, max_tokens=80)
    together = generate(plain, PROMPT, params).outputs
    assert [each.text for each in together] == [answer(plain, FORMS["schema"], seed=5 + i).text for i in range(3)]


def test_a_stream_of_outputs_only_grows(plain: EngineCore) -> None:
    plain.add_request("a", PROMPT, SamplingParams(guided=FORMS["schema"], seed=3, max_tokens=80))
    texts: list[str] = []
    while plain.has_unfinished:
        texts += [output.outputs[0].text for output in plain.step()]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert json.loads(texts[-1])


def test_greedy_takes_the_best_that_is_allowed(plain: EngineCore) -> None:
    first = generate(plain, PROMPT, SamplingParams(temperature=0, max_tokens=1, logprobs=VOCAB)).outputs[0]
    assert first.logprobs is not None
    best = max((value.logprob, -i) for i, value in first.logprobs[0].items() if i in set(b"abcdef"))
    assert answer(plain, Guided(regex="[a-f]{2}"), temperature=0).token_ids[0] == -best[1]


def always(*draft: int) -> Guess:
    return lambda _sequence, _limit: list(draft)


def requests(seed: int) -> list[tuple[list[int], SamplingParams]]:
    params = [
        SamplingParams(
            guided=form, temperature=seed % 3 / 2, seed=seed, max_tokens=60, n=1 + i % 2, logprobs=i % 3 or None
        )
        for i, form in enumerate(FORMS.values())
    ]
    params.append(SamplingParams(temperature=1, seed=seed, max_tokens=20))  # one that is free among them
    params.append(SamplingParams(guided=FORMS["open end"], seed=seed, max_tokens=40, min_tokens=9, stop=["ab"]))
    return [(PROMPT[: 5 + 4 * i], each) for i, each in enumerate(params)]


def answers(core: EngineCore, seed: int) -> list[Any]:
    for i, (prompt, params) in enumerate(requests(seed)):
        core.add_request(str(i), prompt, params)
    outputs = run_all(core)
    return [outputs[str(i)].outputs for i in range(len(outputs))]


def alone(core: EngineCore, seed: int) -> list[Any]:
    return [generate(core, prompt, params).outputs for prompt, params in requests(seed)]


@settings(max_examples=3)
@given(
    seed=st.integers(0, 50),
    size=st.sampled_from(
        [{}, {"max_num_batched_tokens": 5}, {"num_blocks": 60, "max_model_len": 160}, {"max_num_seqs": 2}]
    ),
)
def test_the_same_answers_alone_together_and_with_drafts(plain: EngineCore, seed: int, size: dict[str, Any]) -> None:
    expected = alone(plain, seed)
    assert answers(engine(**size), seed) == expected
    for speculation in ("auto", "prompt-lookup"):
        assert answers(engine(speculation=speculation, **size), seed) == expected
    whole = [p + each.token_ids for (p, _), found in zip(requests(seed), expected, strict=True) for each in found]
    for guess in (partly(oracle(whole), [3, 0, 9, 1], VOCAB), always(*b"{}{}{}"), always(VOCAB - 1, EOS)):
        assert answers(engine(guess, max_draft_tokens=7, **size), seed) == expected


def test_drafts_keep_to_the_form() -> None:
    """A draft is cut where the form forbids it, so that no row is computed for nothing; what is forced is drafted."""
    params = SamplingParams(guided=FORMS["schema"], seed=1, max_tokens=80)
    impossible = engine(always(*b"%%%"))
    assert generate(impossible, PROMPT, params).num_draft_tokens == 0
    forced = engine(speculation="auto")
    output = generate(forced, PROMPT, params)
    assert output.num_accepted_tokens > 0
    steps = 0
    forced.add_request("b", PROMPT, params)
    while forced.has_unfinished:
        forced.step()
        steps += 1
    assert steps < len(output.outputs[0].token_ids)


def test_a_grammar_that_gets_too_complex_ends_its_answer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from ostro.engine.grammar import Guide

    core = engine()
    usual: Callable[..., Any] = Guide.allowed
    calls = 0

    def failing(self: Guide, endings: frozenset[int]) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise RequestError("too complex", param="response_format")
        return usual(self, endings)

    monkeypatch.setattr(Guide, "allowed", failing)
    core.add_request("bad", PROMPT, SamplingParams(guided=FORMS["schema"], seed=1, max_tokens=80))
    core.add_request("free", PROMPT, SamplingParams(seed=1, max_tokens=20, ignore_eos=True))
    outputs = run_all(core)
    assert isinstance(outputs["bad"].error, RequestError)
    assert outputs["bad"].outputs[0].finish_reason == "abort"
    assert outputs["free"].outputs[0].finish_reason == "length"
    assert core.cache.pool.num_used == 0
