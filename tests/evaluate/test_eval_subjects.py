"""A model in this process and the same one behind a socket answer alike; what a server cannot do is said."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import pytest

from ostro import LLM, SamplingParams
from ostro.errors import ContextLengthError, RequestError, ServiceError
from ostro.evaluate import EndpointSubject, LocalSubject
from ostro.evaluate.subject import Question

KEY = "the-key"
GREEDY = SamplingParams(temperature=0, max_tokens=6)
QUESTIONS: list[Question] = ["Once upon", "한국어 문장", [{"role": "user", "content": "Hello"}]]


@pytest.fixture
def endpoint(address: str) -> Iterator[EndpointSubject]:
    with EndpointSubject(address, "tiny", api_key=KEY, retries=0) as made:
        yield made


def test_both_answer_alike(local: LocalSubject, endpoint: EndpointSubject) -> None:
    here, there = local.generate(QUESTIONS, GREEDY), endpoint.generate(QUESTIONS, GREEDY)
    assert [(a.text, a.num_tokens, a.num_prompt_tokens, a.finish_reason) for a in here] == [
        (a.text, a.num_tokens, a.num_prompt_tokens, a.finish_reason) for a in there
    ]
    for question, answer in zip(QUESTIONS, here, strict=True):
        pieces: list[str] = []
        streamed = [local.stream(question, GREEDY), endpoint.stream(question, GREEDY, pieces.append)]
        assert [each.text for each in streamed] == [answer.text] * 2
        assert "".join(pieces) == answer.text
        assert [each.num_tokens for each in streamed] == [answer.num_tokens] * 2
        for each in streamed:
            assert each.first_token_seconds is not None
            assert 0 < each.first_token_seconds <= each.seconds
            assert list(each.piece_seconds) == sorted(each.piece_seconds)


def test_both_read_alike(local: LocalSubject, endpoint: EndpointSubject) -> None:
    text = "The ferry, 한국어 🙂."
    ids = local.encode(text)
    assert (endpoint.encode(text), endpoint.begin(), endpoint.count_tokens(text)) == (ids, [1], len(ids))
    assert (endpoint.decode(ids), endpoint.max_model_len) == (text, local.max_model_len)
    for part in (ids, ids[1:], ids[:3]):  # a part begins with a space or without one, and ends between characters
        assert endpoint.count_bytes(part) == local.count_bytes(part)
    whole = [*local.begin(), *ids]
    assert endpoint.token_logprobs(whole) == pytest.approx(local.token_logprobs(whole), abs=1e-5)


# "ab" is one token, which then counts to the continuation.
PAIRS = [("Once upon", " a time"), ("Once upon ", "a time"), ("", "Hello"), ("한국어 ", "문장🙂"), ("a", "b")]


def test_likelihoods_are_those_of_the_logits(tiny: LLM, local: LocalSubject, endpoint: EndpointSubject) -> None:
    here, there = local.loglikelihood(PAIRS), endpoint.loglikelihood(PAIRS)
    for (context, continuation), a, b in zip(PAIRS, here, there, strict=True):
        joined = tiny.tokenizer.encode(context + continuation)
        before = len(tiny.tokenizer.encode(context.rstrip())) if context and context != "a" else 0
        logits = tiny.logits([1, *joined])[before:-1].astype(np.float64)
        logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        following = joined[before:]
        expected = sum(row[token] for row, token in zip(logprobs, following, strict=True))
        assert a.logprob == pytest.approx(expected, abs=1e-4)
        assert a.num_tokens == len(following)
        assert a.is_greedy == all(int(row.argmax()) == token for row, token in zip(logprobs, following, strict=True))
        assert (b.num_tokens, b.is_greedy) == (a.num_tokens, a.is_greedy)
        assert b.logprob == pytest.approx(a.logprob, abs=1e-4)


def test_what_greedy_decoding_writes_is_greedy(local: LocalSubject, endpoint: EndpointSubject, tiny: LLM) -> None:
    prompt = tiny.tokenizer.encode("Once upon")
    written = tiny.generate([1, *prompt], SamplingParams(temperature=0, max_tokens=4))[0].outputs[0].token_ids
    score = tiny.score([1, *prompt], written)
    assert score.is_greedy
    assert [token_id for token_id, _ in score.likeliest] == written
    assert [logprob for _, logprob in score.likeliest] == score.logprobs
    other = [(token + 1) % 1000 for token in written]
    assert not tiny.score([1, *prompt], other).is_greedy


def test_bos_is_the_callers_choice(tiny: LLM, local: LocalSubject) -> None:
    without = LocalSubject(tiny, add_bos=False)
    assert (local.begin(), without.begin()) == ([1], [])
    assert local.describe()["add_bos"] != without.describe()["add_bos"]
    assert local.loglikelihood(PAIRS[:1]) != without.loglikelihood(PAIRS[:1])
    assert without.loglikelihood([("", "b")])[0].logprob == local.loglikelihood([("", "b")])[0].logprob


def test_what_cannot_be_asked(local: LocalSubject, endpoint: EndpointSubject) -> None:
    for subject in (local, endpoint):
        with pytest.raises(RequestError, match="one answer"):
            subject.generate(["a"], SamplingParams(n=2))
        with pytest.raises(RequestError, match="2 sampling parameters are given for 1"):
            subject.generate(["a"], [GREEDY, GREEDY])
        with pytest.raises(RequestError, match="must not be empty"):
            subject.loglikelihood([("a", "")])
    with pytest.raises(RequestError, match="top_k cannot be 3: the endpoint's protocol has no such field"):
        endpoint.generate(["a"], SamplingParams(top_k=3))
    with pytest.raises(ContextLengthError):
        local.loglikelihood([("a " * 9000, "b")])
    with pytest.raises(RequestError, match="no address"):
        EndpointSubject("127.0.0.1:8000", "tiny")


def test_a_wrong_key_is_refused_and_never_told(address: str) -> None:
    with (
        EndpointSubject(address, "tiny", api_key="wrong-secret", retries=0) as subject,
        pytest.raises(ServiceError, match="status 401") as refused,
    ):
        subject.generate(["a"], GREEDY)
    with EndpointSubject(address, "tiny", api_key="wrong-secret") as other, pytest.raises(ServiceError, match="401"):
        other.encode("a")
    with EndpointSubject(address, "other", api_key=KEY) as other, pytest.raises(ServiceError, match="no model 'other'"):
        other.encode("a")
    assert "wrong-secret" not in str(refused.value) + json.dumps(subject.describe())


def test_echoed_logprobs_as_the_server_writes_them(address: str, tiny: LLM) -> None:
    body = {
        "model": "tiny",
        "prompt": ["Hé🙂", "b"],
        "echo": True,
        "logprobs": 1,
        "max_tokens": 2,
        "n": 2,
        "temperature": 0,
    }
    answer = httpx.post(f"{address}/completions", json=body, headers={"authorization": f"Bearer {KEY}"}, timeout=60)
    choices = answer.json()["choices"]
    assert [choice["text"].startswith(text) for choice, text in zip(choices, ("Hé🙂",) * 2 + ("b",) * 2, strict=True)]
    rows, ids = choices[0]["logprobs"], [1, *tiny.tokenizer.encode("Hé🙂")]
    count = len(ids)
    assert rows["token_logprobs"][0] is None
    assert rows["token_logprobs"][1:count] == pytest.approx(tiny.score(ids).logprobs, abs=1e-5)
    assert {len(column) for column in rows.values()} == {count + 2}
    assert rows["text_offset"][:2] == [0, 0]
    assert rows["text_offset"][count] == 3
    for value, table in zip(rows["token_logprobs"][1:count], rows["top_logprobs"][1:count], strict=True):
        assert max(table.values()) >= value


class _Server(ThreadingHTTPServer):
    """Gives out `answers`, pairs of a status and a body, in turn and then the last for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, bytes]] = []
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.subjects: list[EndpointSubject] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.server.paths.append(self.path)
        answers = self.server.answers
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def strange() -> Iterator[_Server]:
    made = _Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    for subject in made.subjects:
        subject.close()
    made.shutdown()
    thread.join()
    made.server_close()


def asked(server: _Server, **options: Any) -> EndpointSubject:
    made = EndpointSubject(f"http://127.0.0.1:{server.server_port}/v1/", "m", first_pause=0.01, **options)
    server.subjects.append(made)
    return made


GOOD = json.dumps({"choices": [{"text": "yes", "finish_reason": "stop"}]}).encode()
BUSY = json.dumps({"error": {"message": "full"}}).encode()


def test_a_busy_server_is_asked_again(strange: _Server) -> None:
    strange.answers = [(503, BUSY), (429, b"no json"), (200, GOOD)]
    answer = asked(strange).generate(["a"], SamplingParams(temperature=0, max_tokens=3, stop=["x"]))[0]
    assert (answer.text, answer.num_tokens, answer.first_token_seconds) == ("yes", None, None)
    assert strange.bodies[0] == {
        "model": "m", "temperature": 0, "top_p": 1.0, "max_tokens": 3, "stop": ["x"], "prompt": "a"
    }  # fmt: skip
    strange.answers = [(503, BUSY)]
    with pytest.raises(ServiceError, match=r"status 503\): full\. It was asked 3 times"):
        asked(strange, retries=2).generate(["a"], GREEDY)


def test_wrong_answers_are_named(strange: _Server) -> None:
    subject = asked(strange, retries=0)
    for body in (b"[]", b'{"choices": []}', b'{"choices": [3]}', b"<html>"):
        strange.answers = [(200, body)]
        with pytest.raises(ServiceError, match="answered with something"):
            subject.generate(["a"], GREEDY)
    streams = {
        b"data: {}\n\n": "before it was whole",
        b"data: [[\n\n": "no completion",
        GOOD: "before it was whole",  # a latency needs a stream
        b'data: {"error": {"message": "broken"}}\n\n': "amid its answer: broken",
    }
    for body, words in streams.items():
        strange.answers = [(200, body)]
        with pytest.raises(ServiceError, match=words):
            subject.stream("a", GREEDY)
    for body in (GOOD, b'{"choices": [{"text": "a", "logprobs": null}]}'):
        strange.answers = [(200, body)]
        with pytest.raises(ServiceError, match="does not give log-probabilities of a prompt, which this evaluation"):
            subject.loglikelihood([("a", "b")])
        with pytest.raises(ServiceError, match="does not give log-probabilities"):
            subject.token_logprobs([1, 2])
    strange.answers = [(404, b"")]
    assert (subject.count_tokens("a"), subject.max_model_len) == (None, None)
    with pytest.raises(ServiceError, match="has no /tokenize"):
        subject.encode("a")
    with pytest.raises(ServiceError, match="the text of token ids"):
        subject.decode([1])
    assert strange.paths.count("/tokenize") == 1


def test_streams_with_odd_parts(strange: _Server) -> None:
    odd = b'data: {"choices": [{"text": 3}, {"text": "b"}], "usage": 7}\n\ndata: [DONE]\n\n'
    strange.answers = [(200, odd)]
    assert asked(strange, retries=0).stream("a", GREEDY).text == "b"


def test_a_tokenizer_of_another_form_is_none(strange: _Server) -> None:
    """llama.cpp's finds no tokens, since it looks for the text in another field."""
    strange.answers = [(200, b'{"tokens": []}')]
    subject = asked(strange)
    assert (subject.count_tokens("a b c"), subject.max_model_len) == (None, None)
    assert strange.bodies == [{"model": "m", "prompt": "a", "add_special_tokens": False}]


def test_a_busy_tokenizer_is_not_a_missing_one(strange: _Server) -> None:
    found = b'{"tokens": [5, 6], "max_model_len": 99}'
    strange.answers = [(503, BUSY), (200, found), (429, BUSY), (200, found)]
    subject = asked(strange)
    assert (subject.count_tokens("a b"), subject.max_model_len) == (2, 99)
    strange.answers = [(400, BUSY)]
    with pytest.raises(ServiceError, match="gives no token ids of 'a b'"):
        subject.count_tokens("a b")
    strange.answers = [(200, found)]
    assert subject.count_tokens("a b") == 2


@pytest.mark.parametrize(
    "error",
    [
        {"code": "context_length_exceeded", "message": "too long"},
        {"code": 400, "type": "exceed_context_size_error", "message": "too long"},
        {"code": 400, "message": "This model's maximum context length is 9 tokens."},
    ],
)
def test_what_is_too_long_for_a_server(error: dict[str, Any], strange: _Server) -> None:
    strange.answers = [(400, json.dumps({"error": error}).encode())]
    with pytest.raises(ContextLengthError, match=str(error["message"])):
        asked(strange).generate(["a"], GREEDY)
    with pytest.raises(ContextLengthError, match=str(error["message"])):
        asked(strange).stream("a", GREEDY)


def test_ostros_server_says_what_is_too_long(endpoint: EndpointSubject) -> None:
    for ask in (lambda: endpoint.generate(["a " * 9000], GREEDY), lambda: endpoint.loglikelihood([("a " * 9000, "b")])):
        with pytest.raises(ContextLengthError, match="maximum context length"):
            ask()


def test_the_address_is_checked_before_anything_is_asked() -> None:
    with pytest.raises(RequestError, match="is no address"):
        EndpointSubject("127.0.0.1", "m")


def test_the_connections_end_with_the_block(strange: _Server) -> None:
    strange.answers = [(200, GOOD)]
    with asked(strange) as subject:
        assert subject.generate(["a"], GREEDY)[0].text == "yes"
        client = subject._connection._client
        assert not client.is_closed
    assert client.is_closed
    failing = asked(strange, retries=0)
    strange.answers = [(200, b"no json")]
    with pytest.raises(ServiceError), failing:
        failing.generate(["a"], GREEDY)
    assert failing._connection._client.is_closed


def test_the_total_is_finite(local: LocalSubject) -> None:
    assert all(math.isfinite(each.logprob) for each in local.loglikelihood([("x" * 50, "y" * 50)]))
