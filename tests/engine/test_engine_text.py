"""Text of answers: whole characters, stop strings across tokens, control tokens."""

from __future__ import annotations

from typing import Any

import pytest
from engine_models import VOCAB, WordTokenizer, generate, make_core, run_all, tiny_config

from ostro.engine import CompletionOutput, SamplingParams
from ostro.engine.request import Endings, Sequence, TextStream
from ostro.engine.sampler import generator

PIECES = [b"Hel", b"lo", b" wor", b"ld", b"\xf0\x9f", b"\x99\x8b", b"END", b"EN", b"D", b"!"]
TOKENIZER: Any = WordTokenizer(PIECES)
HEL, LO, WOR, LD, WAVE_1, WAVE_2, END, EN, D, BANG = range(3, 13)


def answer(tokens: list[int], **fields: Any) -> tuple[CompletionOutput, list[str]]:
    """What an answer looks like after these tokens, and its text after each."""
    params = SamplingParams(**{"max_tokens": 100, **fields})
    sequence = Sequence(
        order=0, token_ids=[1], num_prompt_tokens=1, request_id="", index=0, params=params,
        endings=Endings(eos=frozenset({2}), stop=frozenset(params.stop_token_ids)), max_tokens=params.max_tokens or 0,
        draws=generator(0, 0), history=None, stream=TextStream(TOKENIZER, params, at_start=True),
    )  # fmt: skip
    texts = []
    for token in tokens:
        assert sequence.finish_reason is None
        sequence.append(token)
        texts.append(sequence.text)
    return sequence.output(), texts


def test_text_is_whole_characters() -> None:
    assert answer([HEL, WAVE_1, WAVE_2])[1] == ["Hel", "Hel", "Hel🙋"]
    assert answer([HEL, WAVE_1], max_tokens=2)[0].text == "Hel\ufffd"


def test_a_stop_string_across_tokens_is_never_shown() -> None:
    output, texts = answer([HEL, LO, EN, D], stop="END")
    assert texts == ["Hel", "Hello", "Hello", "Hello"]
    assert (output.text, output.finish_reason, output.stop_reason) == ("Hello", "stop", "END")
    assert output.token_ids == [HEL, LO, EN, D]


def test_what_only_began_like_a_stop_string_is_shown_after_all() -> None:
    assert answer([EN, LO], stop="END")[1] == ["", "ENlo"]
    output, _ = answer([HEL, EN], stop="END", max_tokens=2)
    assert (output.text, output.finish_reason) == ("HelEN", "length")
    assert answer([HEL, EN, 2], stop="END")[0].text == "HelEN"


def test_a_stop_string_within_a_token() -> None:
    output, _ = answer([HEL, WOR], stop=["w"])
    assert (output.text, output.stop_reason) == ("Hel ", "w")


def test_the_stop_string_is_kept_on_request() -> None:
    assert answer([HEL, END], stop=["N"], include_stop_str_in_output=True)[0].text == "HelEN"


def test_the_text_of_a_stopping_token_is_left_out_unless_asked_for() -> None:
    output, _ = answer([HEL, BANG], stop_token_ids=[BANG])
    assert (output.text, output.stop_reason) == ("Hel", BANG)
    assert answer([HEL, BANG], stop_token_ids=[BANG], include_stop_str_in_output=True)[0].text == "Hel!"


def test_min_tokens_also_delays_stop_strings() -> None:
    output, texts = answer([LO, END, END], stop="END", min_tokens=2)
    assert texts == ["lo", "loEND", "loEND"]
    assert output.finish_reason == "stop"


def test_control_tokens_are_shown_on_request() -> None:
    assert answer([HEL, 1, LO])[0].text == "Hello"
    assert answer([HEL, 1, LO], skip_special_tokens=False)[0].text == "Hel<s>lo"


def core_with_text() -> Any:
    pieces = [f" w{i}".encode() for i in range(VOCAB - 3)]
    return make_core(tiny_config(), tokenizer=WordTokenizer(pieces))


def test_text_through_the_engine() -> None:
    params = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, logprobs=1)
    output = generate(core_with_text(), [1, 7, 8], params).outputs[0]
    expected = [f" w{i - 3}" if i > 2 else "" for i in output.token_ids]
    assert output.text == "".join(expected)
    assert output.logprobs is not None
    assert output.logprobs[0][output.token_ids[0]].decoded_token == expected[0]
    stop = expected[3][1:] + expected[4][:2]  # from inside one token to inside the next
    stopped = generate(core_with_text(), [1, 7, 8], SamplingParams(temperature=0, stop=stop)).outputs[0]
    assert (stopped.stop_reason, stopped.finish_reason) == (stop, "stop")
    assert stopped.text == output.text[: output.text.index(stop)]
    assert stopped.token_ids == output.token_ids[: len(stopped.token_ids)]


def test_streamed_text_only_grows_and_ends_as_the_whole() -> None:
    core = core_with_text()
    params = SamplingParams(temperature=1, seed=4, max_tokens=40, ignore_eos=True, n=3, stop=["w1", "w22 w3"])
    core.add_request("a", [1, 7, 8], params)
    texts = ["", "", ""]
    while core.has_unfinished:
        for output in core.step():
            for i, completion in enumerate(output.outputs):
                assert completion.text.startswith(texts[i])
                texts[i] = completion.text
    assert texts == [completion.text for completion in generate(core, [1, 7, 8], params).outputs]


def test_every_answer_has_its_own_text_stream() -> None:
    core = core_with_text()
    core.add_request("a", [1, 9], SamplingParams(temperature=1, seed=1, n=2, max_tokens=6, ignore_eos=True))
    for completion in run_all(core)["a"].outputs:
        assert completion.text == "".join(f" w{i - 3}" if i > 2 else "" for i in completion.token_ids)


@pytest.mark.parametrize(("prompt", "at_start", "text"), [
    ([1], None, "a"), ([1, 3], None, " a"), ([1, 3], True, "a"), ([1], False, " a"),
])  # fmt: skip
def test_the_dummy_space_goes_where_a_message_begins(prompt: list[int], at_start: bool | None, text: str) -> None:
    class Spm(WordTokenizer):
        dummy_prefix = True

        def piece(self, token_id: int) -> str:
            return super().piece(token_id).replace(" ", "▁")

    core = make_core(tiny_config(), tokenizer=Spm([b" a"] * (VOCAB - 3)))
    params = SamplingParams(temperature=0, max_tokens=1, logit_bias={3: 100})
    assert generate(core, prompt, params, at_start=at_start).outputs[0].text == text
