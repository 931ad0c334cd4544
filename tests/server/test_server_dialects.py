"""The dialects over a real model: whole answers and streams tell the same, and what LLM tells."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from serving import serving
from sse_client import post_raw
from tiny import save_tiny

from ostro import LLM, SamplingParams
from ostro.embeddings import PooledEmbedder
from ostro.server.app import create_app
from ostro.server.embedders import Embedders
from ostro.server.models import Models
from ostro.server.service import ModelService
from ostro.server.settings import ServerSettings
from ostro.tokenizer.mistral import bundled

HELLO = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


class Live(NamedTuple):
    address: str
    llm: LLM

    def post(self, path: str, **body: Any) -> Any:
        answer = httpx.post(f"{self.address}{path}", json=body, timeout=120)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = save_tiny("mistral-7b-v0.3", tmp_path_factory.mktemp("dialects") / "model", vocab_size=32768)
    shutil.copy(bundled("v3").source, folder / "tokenizer.model.v3")
    llm = LLM(folder, backend="cpu", num_threads=1)
    models = Models.of([ModelService(llm, "tiny")], {"Mistral-large": "tiny"})
    settings = ServerSettings(port=0, access_log="off", max_tokens_limit=40)
    embedders = Embedders({"tiny": PooledEmbedder(llm, name="tiny")})
    app = create_app(models, settings, embedders)
    with serving(app, settings, stop=models.close) as address:
        yield Live(address, llm)


def test_a_chat_is_that_of_the_model(live: Live) -> None:
    params = SamplingParams(temperature=0.8, seed=7, max_tokens=12)
    expected = live.llm.chat(HELLO, params)[0]
    body = {"messages": HELLO, "model": "Mistral-large", "temperature": 0.8, "random_seed": 7, "max_tokens": 12}
    answer = live.post("/v1/chat/completions", **body)
    assert answer["choices"][0]["message"]["content"] == expected.outputs[0].text
    assert answer["usage"]["prompt_tokens"] == len(expected.prompt_token_ids)
    assert answer["usage"]["completion_tokens"] == len(expected.outputs[0].token_ids)
    events = post_raw(live.address, "/chat/completions", {**body, "stream": True}).events
    assert "".join(event["choices"][0]["delta"]["content"] for event in events) == expected.outputs[0].text
    assert events[-1]["usage"]["total_tokens"] == answer["usage"]["total_tokens"]
    assert live.post("/chat/completions", **body)["usage"]["prompt_tokens_details"]["cached_tokens"] >= 0


def test_answers_number_two_is_that_of_the_next_seed(live: Live) -> None:
    body = {"prompt": "Once", "temperature": 1, "max_tokens": 8}
    both = live.post("/v1/completions", **body, n=2, seed=4)["choices"]
    alone = [live.post("/v1/completions", **body, seed=seed)["choices"][0] for seed in (4, 5)]
    assert [choice["text"] for choice in both] == [choice["text"] for choice in alone]


def test_logprobs_are_the_models(live: Live) -> None:
    params = SamplingParams(temperature=0, max_tokens=5, logprobs=2)
    expected = live.llm.chat(HELLO, params)[0].outputs[0]
    assert expected.logprobs is not None
    body = {"messages": HELLO, "temperature": 0, "max_tokens": 5, "logprobs": True, "top_logprobs": 2}
    tokens = live.post("/v1/chat/completions", **body)["choices"][0]["logprobs"]["content"]
    shown = [i for i in expected.token_ids if not live.llm.tokenizer.is_control(i)]
    assert [token["token_id"] for token in tokens] == shown
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)
    assert tokens[0]["logprob"] == expected.logprobs[0][expected.token_ids[0]].logprob


def test_the_best_of_several_is_the_likeliest(live: Live) -> None:
    body = {"prompt": "Once", "temperature": 1, "max_tokens": 6, "seed": 1}
    every = live.post("/v1/completions", **body, n=4, logprobs=0)["choices"]
    means = [sum(c["logprobs"]["token_logprobs"]) / len(c["logprobs"]["token_logprobs"]) for c in every]
    best = live.post("/v1/completions", **body, best_of=4)["choices"]
    assert [choice["text"] for choice in best] == [every[means.index(max(means))]["text"]]


def test_the_servers_limit_of_tokens(live: Live) -> None:
    answer = live.post("/v1/chat/completions", messages=HELLO, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 40
    refused = httpx.post(f"{live.address}/v1/chat/completions", json={"messages": HELLO, "max_tokens": 41}, timeout=60)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "max_tokens"
    longest = {"prompt": [5] * 250, "ignore_eos": True}  # the context leaves less than the limit
    assert live.post("/v1/completions", **longest)["usage"]["completion_tokens"] == 6


def test_vectors_of_the_served_model(live: Live) -> None:
    answer = live.post("/v1/embeddings", input=["Hello", "Bye"], model="tiny")
    assert [len(each["embedding"]) for each in answer["data"]] == [live.llm.config.hidden_size] * 2
    assert answer["usage"]["total_tokens"] > 2
