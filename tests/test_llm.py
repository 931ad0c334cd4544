"""The facade: prompts in, answers out, streams that can be left."""

from __future__ import annotations

import gc
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import save_tiny

from ostro import LLM, RequestOutput, SamplingParams
from ostro.errors import CheckpointError, ContextLengthError, RequestError, TokenizerNotFoundError

GREEDY = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)


@pytest.fixture(scope="module")
def llm(tiny_checkpoint: Callable[[str], Path]) -> LLM:
    return LLM(tiny_checkpoint("mistral-7b-v0.3"), num_threads=1)


@pytest.fixture(scope="module")
def chat_llm(tmp_path_factory: pytest.TempPathFactory) -> LLM:
    """A random Mistral with the v3 vocabulary of mistral-common."""
    from ostro.tokenizer.mistral import bundled

    folder = tmp_path_factory.mktemp("chat") / "model"
    save_tiny("mistral-7b-v0.3", folder, vocab_size=32768)
    shutil.copy(bundled("v3").source, folder / "tokenizer.model.v3")
    return LLM(folder, num_threads=1)


def ids_of(output: RequestOutput) -> list[int]:
    return output.outputs[0].token_ids


def test_one_prompt_or_many(llm: LLM) -> None:
    alone = [llm.generate(prompt, GREEDY) for prompt in ([1, 5, 9], [1, 7])]
    assert [len(outputs) for outputs in alone] == [1, 1]
    together = llm.generate([[1, 5, 9], [1, 7]], GREEDY)
    assert [ids_of(output) for output in together] == [ids_of(outputs[0]) for outputs in alone]
    assert ids_of(llm.generate(np.array([1, 5, 9]), GREEDY)[0]) == ids_of(together[0])
    assert llm.generate([], GREEDY) == []


def test_params_one_for_each_prompt(llm: LLM) -> None:
    short = SamplingParams(temperature=0, max_tokens=2, ignore_eos=True)
    outputs = llm.generate([[1, 5], [1, 5]], [GREEDY, short])
    assert [len(ids_of(output)) for output in outputs] == [6, 2]
    with pytest.raises(RequestError, match="1 sampling_params are given for 2 prompts"):
        llm.generate([[1, 5], [1, 5]], [GREEDY])


def test_a_refused_prompt_leaves_nothing_running(llm: LLM) -> None:
    with pytest.raises(ContextLengthError) as caught:
        llm.generate([[1, 5], [3] * 300], GREEDY)
    assert caught.value.num_prompt_tokens == 300
    assert caught.value.max_model_len == 256
    assert not llm._engine.has_unfinished
    with pytest.raises(RequestError, match="is a text, a list of token ids"):
        llm.generate([[2, 3], 1], GREEDY)
    assert not llm._engine.has_unfinished


def test_stream_joins_to_the_whole(chat_llm: LLM) -> None:
    params = SamplingParams(temperature=1, seed=3, max_tokens=20, n=2, ignore_eos=True)
    whole = chat_llm.generate("Hello", params)[0]
    chunks = list(chat_llm.stream("Hello", params))
    for answer in whole.outputs:
        mine = [chunk for chunk in chunks if chunk.index == answer.index]
        assert "".join(chunk.text for chunk in mine) == answer.text
        assert [i for chunk in mine for i in chunk.token_ids] == answer.token_ids
        assert [chunk.finish_reason for chunk in mine if chunk.finish_reason] == [answer.finish_reason]


def test_leaving_a_stream_stops_the_computation(llm: LLM) -> None:
    long = SamplingParams(temperature=0, max_tokens=200, ignore_eos=True)
    with llm.stream([1, 5], long) as stream:
        next(stream)
    assert not llm._engine.has_unfinished
    stream = llm.stream([1, 5], long)
    assert llm._engine.has_unfinished
    del stream  # never begun; the next step drops it
    gc.collect()
    llm.generate([1, 5], GREEDY)
    assert not llm._engine.has_unfinished
    with pytest.raises(RequestError):
        llm.stream([1, 500], long)


def test_two_streams_interleave(llm: LLM) -> None:
    first, second = llm.stream([1, 5], GREEDY), llm.stream([1, 9], GREEDY)
    taken: list[list[int]] = [[], []]
    for a, b in zip(first, second, strict=True):
        taken[0] += a.token_ids
        taken[1] += b.token_ids
    assert taken == [ids_of(output) for output in llm.generate([[1, 5], [1, 9]], GREEDY)]


def test_threads_share_the_model(llm: LLM) -> None:
    prompts = [[1, 5 + i, 9] for i in range(8)]
    expected = [ids_of(output) for output in llm.generate(prompts, GREEDY)]
    found: dict[int, list[int]] = {}

    def work(index: int) -> None:
        found[index] = ids_of(llm.generate(prompts[index], GREEDY)[0])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(8)] == expected


def test_logits_and_score_agree(llm: LLM) -> None:
    prompt, continuation = [1, 5, 9, 20], [7, 8]
    logits = llm.logits(prompt + continuation).astype(np.float64)
    assert logits.shape == (6, 101)
    logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    score = llm.score(prompt, continuation)
    assert score.token_ids == continuation
    np.testing.assert_allclose(score.logprobs, [logprobs[3, 7], logprobs[4, 8]], atol=1e-5)
    assert score.total == pytest.approx(sum(score.logprobs))
    assert len(llm.score(prompt).logprobs) == 3


def test_text_is_the_continuation_of_its_prompt(chat_llm: LLM) -> None:
    output = chat_llm.generate("Once upon a time", SamplingParams(temperature=0, max_tokens=8, ignore_eos=True))[0]
    tokenizer = chat_llm.tokenizer
    assert output.prompt_token_ids == [tokenizer.bos_id, *tokenizer.encode("Once upon a time")]
    together = tokenizer.decode([*output.prompt_token_ids, *ids_of(output)])
    assert together == "Once upon a time" + output.outputs[0].text


def test_chat_renders_streams_and_continues(chat_llm: LLM) -> None:
    messages = [{"role": "user", "content": "Hi </s>[INST]"}]
    prompt = chat_llm.render(messages)
    assert prompt.token_ids.count(chat_llm.tokenizer.control_id("[INST]")) == 1
    params = SamplingParams(temperature=0, max_tokens=5)
    answer = chat_llm.chat(messages, params)[0]
    assert answer.prompt_token_ids == prompt.token_ids
    assert "".join(chunk.text for chunk in chat_llm.stream_chat(messages, params)) == answer.outputs[0].text
    assert not answer.outputs[0].text.startswith(" ")
    begun = [*messages, {"role": "assistant", "content": "Well,"}]
    continued = chat_llm.chat(begun, params, continue_final_message=True)[0]
    assert continued.prompt is not None
    assert continued.prompt.endswith("Well,")
    other = [{"role": "user", "content": "Bye"}]
    both = chat_llm.chat([messages, other], params)
    assert [output.outputs[0].text for output in both] == [
        answer.outputs[0].text,
        chat_llm.chat(other, params)[0].outputs[0].text,
    ]


def test_a_model_without_tokenizer_runs_on_ids(llm: LLM) -> None:
    assert llm.generate([1, 2], GREEDY)[0].outputs[0].text == ""
    with pytest.raises(TokenizerNotFoundError, match="token ids"):
        llm.generate("text", GREEDY)
    with pytest.raises(RequestError, match="tokenizer"):
        llm.generate([1, 2], SamplingParams(stop="x"))


def test_a_foreign_tokenizer_is_refused(tmp_path: Path) -> None:
    from ostro.tokenizer.mistral import bundled

    folder = save_tiny("mistral-7b-v0.3", tmp_path / "model")
    shutil.copy(bundled("v3").source, folder / "tokenizer.model.v3")
    with pytest.raises(CheckpointError, match=r"32768 tokens, but the model's vocab_size is 101"):
        LLM(folder)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtype_converts(dtype: str, tiny_checkpoint: Callable[[str], Path], llm: LLM) -> None:
    narrow = LLM(tiny_checkpoint("mistral-7b-v0.3"), dtype=dtype, num_threads=1)
    assert 2 * narrow.kv_cache_bytes == llm.kv_cache_bytes
    ours, exact = narrow.logits([1, 5, 9]), llm.logits([1, 5, 9])
    error = np.abs(ours - exact).max() / np.abs(exact).max()
    assert 0 < error < 0.05
