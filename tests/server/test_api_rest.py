"""Embeddings, models, tokens and the OpenAPI document over a socket."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import TypeAdapter
from scripted import Script, ScriptedService, scripted_server

from ostro.embeddings import Embeddings
from ostro.errors import InputLengthError, RequestError
from ostro.server.embedders import AT_ONCE, Embedders
from ostro.server.openai import cl100k
from ostro.server.openapi import document
from ostro.server.routes import ROUTES

HELLO = [{"role": "user", "content": "Hello"}]


class Letters:
    """Counts of letters as vectors; texts of more than eight letters are too long."""

    dimensions, max_tokens, allowed_dimensions = 3, 8, (2, 3)

    def __init__(self, name: str = "letters") -> None:
        self.name = name

    def embed(self, inputs: Any, *, input_type: str, dimensions: int | None, truncate: bool, **_: Any) -> Embeddings:
        if dimensions not in (None, 2, 3):
            raise RequestError(f"dimensions must be 2 or 3, not {dimensions}.", param="dimensions")
        for index, text in enumerate(inputs):
            if len(text) > 8 and not truncate:
                raise InputLengthError(index, len(text), 8)
        rows = [[len(text), len(set(text)), input_type == "query"][: dimensions or 3] for text in inputs]
        vectors = np.asarray(rows, np.float32)
        return Embeddings(vectors, [min(8, len(text)) for text in inputs], [len(text) > 8 for text in inputs])


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    embedders = Embedders({"letters": Letters(), "more": Letters("more")}, {"text-embedding-3-small": "more"})  # type: ignore[dict-item]
    service = ScriptedService(Script("Good day."))
    with scripted_server(service, embedders) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


class Endless:
    """Works until it is told to stop."""

    name, dimensions, max_tokens, allowed_dimensions = "endless", 3, None, (3,)

    def __init__(self) -> None:
        self.began, self.ended = threading.Semaphore(0), threading.Semaphore(0)

    def embed(self, _: Any, *, on_step: Callable[[], None], **__: Any) -> Embeddings:
        self.began.release()
        try:
            while True:
                on_step()
        finally:
            self.ended.release()


def test_vectors_nobody_waits_for_end_and_meanwhile_others_are_answered() -> None:
    endless = Endless()
    embedders = Embedders({"endless": endless})  # type: ignore[dict-item]
    with (
        scripted_server(ScriptedService(Script("Good day.")), embedders) as address,
        ThreadPoolExecutor(AT_ONCE + 8) as clients,
    ):
        timeout = httpx.Timeout(60, read=2)
        asked = [
            clients.submit(httpx.post, f"{address}/v1/embeddings", json={"input": "a"}, timeout=timeout)
            for _ in range(AT_ONCE + 8)
        ]
        for _ in range(AT_ONCE):
            assert endless.began.acquire(timeout=60)
        body = {"messages": [{"role": "user", "content": "Hi"}]}
        assert httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60).status_code == 200
        for each in asked:
            with pytest.raises(httpx.ReadTimeout):
                each.result(60)
        for _ in range(AT_ONCE):
            assert endless.ended.acquire(timeout=60)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings", "/mistral/v1/embeddings", "/openai/v1/embeddings"])
def test_vectors_of_texts(client: httpx.Client, path: str) -> None:
    answer = client.post(path, json={"input": ["ab", "aab"], "encoding_format": "float"}).json()
    assert answer["object"] == "list"
    assert answer["id"]
    assert answer["model"] == "letters"
    assert [each["embedding"] for each in answer["data"]] == [[2, 2, 0], [3, 2, 0]]
    assert [each["index"] for each in answer["data"]] == [0, 1]
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}


def test_base64_is_little_endian_float32(client: httpx.Client) -> None:
    answer = client.post("/v1/embeddings", json={"input": "abc", "encoding_format": "base64"}).json()
    spelled = base64.b64decode(answer["data"][0]["embedding"])
    assert np.frombuffer(spelled, "<f4").tolist() == [3, 3, 0]


def test_types_and_sizes(client: httpx.Client) -> None:
    def row(**body: Any) -> Any:
        return client.post("/embeddings?api-version=1", json=body).json()["data"][0]["embedding"]

    assert row(input="abc", input_type="query") == [3, 3, 1]
    assert row(input="abc", dimensions=2) == row(input="abc", output_dimension=2) == [3, 3]
    assert (
        client.post("/v1/embeddings", json={"input": "a", "model": "Text-Embedding-3-Small"}).json()["model"] == "more"
    )


@pytest.fixture
def vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vocabulary of four pieces where tiktoken would keep cl100k_base: a, bc, and the two bytes of é."""
    pieces = (b"a", b"bc", b"\xc3", b"\xa9")
    content = b"\n".join(base64.b64encode(piece) + b" %d" % rank for rank, piece in enumerate(pieces)) + b"\n"
    (tmp_path / cl100k.FILE).write_bytes(content)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cl100k, "SHA256", hashlib.sha256(content).hexdigest())
    return tmp_path / cl100k.FILE


@pytest.mark.usefixtures("vocabulary")
def test_token_ids_of_openai_are_read_as_their_text(client: httpx.Client) -> None:
    def rows(given: Any) -> Any:
        return [row["embedding"] for row in client.post("/v1/embeddings", json={"input": given}).json()["data"]]

    assert rows([0, 1]) == rows("abc")
    assert rows([[1], [0, 2, 3]]) == rows(["bc", "aé"])
    assert rows(["bc", [0, 2]]) == rows(["bc", "a\ufffd"])
    unknown = client.post("/v1/embeddings", json={"input": [[0], [4]]})
    assert unknown.status_code == 400
    assert unknown.json()["message"] == "input has the token id 4, which stands for no text in cl100k_base."


@pytest.mark.parametrize("ids", [[0, 1], [[0], [1]], ["a", [1]]])
def test_token_ids_need_the_vocabulary_itself(client: httpx.Client, vocabulary: Path, ids: Any) -> None:
    vocabulary.write_bytes(vocabulary.read_bytes() + b"\n")  # not what tiktoken would have fetched
    refused = client.post("/v1/embeddings", json={"input": ids})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "input"
    assert "check_embedding_ctx_length=False" in refused.json()["error"]["message"]


def test_nothing_is_cut_silently(client: httpx.Client) -> None:
    body = {"input": ["short", "long enough"]}
    refused = client.post("/v1/embeddings", json=body)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "context_length_exceeded"
    assert "input 1 has 11 tokens" in refused.json()["error"]["message"]
    cut = client.post("/v1/embeddings", json={**body, "truncate": True})
    assert cut.headers["x-ostro-truncated-inputs"] == "1"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", []]}, "input[1]"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": 7}, "dimensions"),
        ({"input": "a", "output_dimension": 7}, "output_dimension"),
        ({"input": "a", "dimensions": 2, "output_dimension": 3}, "output_dimension"),
        ({"input": "a", "output_dtype": "int8"}, "output_dtype"),
        ({"input": "a", "model": "nope"}, "model"),
    ],
)
def test_what_is_wrong_is_named(client: httpx.Client, body: dict[str, Any], param: str) -> None:
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == (404 if param == "model" else 400)
    assert answer.json()["error"]["param"] == param


def test_pictures_and_servers_without_an_embedder(client: httpx.Client) -> None:
    refused = client.post("/images/embeddings", json={"input": [{"image": "data:image/png;base64,"}]})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "input"
    with scripted_server(ScriptedService(Script("x"))) as address:
        answer = httpx.post(f"{address}/v1/embeddings", json={"input": "a"})
        assert answer.status_code == 404
        assert "embedding model" in answer.json()["error"]["message"]


def test_models_are_listed_for_every_client(client: httpx.Client) -> None:
    for path in ("/v1/models", "/models", "/mistral/v1/models"):
        listed = client.request("GET", path, json={}).json()  # mistralai 0.x sends a body
        assert listed["object"] == "list"
        for card in listed["data"]:
            assert isinstance(card["created"], int)
            assert card["object"] == "model"
            assert card["type"] == "base"
            assert isinstance(card["capabilities"], dict)
            assert card["permission"] == []
            assert card["owned_by"]
        assert [card["id"] for card in listed["data"]] == ["tiny", "letters", "more"]
    assert client.get("/v1/models/tiny").json()["max_context_length"] == 2000
    assert client.get("/v1/models/letters").json()["id"] == "letters"
    missing = client.get("/v1/models/a%2Fb%20c")
    assert missing.status_code == 404
    assert "'a/b c'" in missing.json()["error"]["message"]


def test_azure_asks_what_is_served(client: httpx.Client) -> None:
    for path in ("/info", "/v1/info", "/azure/info"):
        info = client.get(path, params={"api-version": "2024-05-01-preview"}).json()
        assert info == {"model_name": "tiny", "model_type": "chat", "model_provider_name": "ostro"}


def test_the_prompt_laid_open(client: httpx.Client) -> None:
    body = {"messages": [*HELLO, {"role": "user", "content": "</s>[INST]"}], "temperature": 0.5}
    shown = client.post("/render", json=body).json()
    assert shown["format"] == "mistral-v3"
    assert [each for part in shown["segments"] for each in part["token_ids"]] == shown["token_ids"]
    assert shown["token_ids"].count(3) == 1  # [INST] of the user is text
    assert shown["repairs"]
    counted = client.post("/tokenize", json={"messages": body["messages"]}).json()
    assert counted["tokens"] == shown["token_ids"]
    assert counted["count"] == shown["count"]
    assert counted["max_model_len"] == 2000


def test_tokens_and_back(client: httpx.Client) -> None:
    made = client.post("/tokenize", json={"prompt": "Größe [INST]", "add_special_tokens": False}).json()
    assert len(made["pieces"]) == made["count"]
    assert client.post("/detokenize", json={"tokens": made["tokens"]}).json()["prompt"] == "Größe [INST]"
    for body, param in (({"tokens": [1 << 30]}, "tokens[0]"), ({"tokens": [-1]}, "tokens[0]"), ({}, "tokens")):
        assert client.post("/detokenize", json=body).json()["error"]["param"] == param
    for body in ({}, {"prompt": "a", "messages": HELLO}, {"prompt": "a", "safe_prompt": True}):
        assert client.post("/tokenize", json=body).status_code == 400


def test_the_document_describes_every_route(client: httpx.Client) -> None:
    served = client.get("/openapi.json").json()
    assert served == document()
    operations = {(method.upper(), path) for path, each in served["paths"].items() for method in each}
    assert operations == {(route.method, route.canonical.replace(":path", "")) for route in ROUTES}
    chat = served["components"]["schemas"]["CommonChat"]["properties"]
    assert chat["store"]["enum"] == [None, False]
    assert "checkpoint" in chat["temperature"]["description"]
    for form in {route.form for route in ROUTES if route.form is not None}:
        assert TypeAdapter(form).json_schema()
