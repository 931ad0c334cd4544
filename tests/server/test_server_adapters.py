"""Adapters in the server: names of their own beside their model's, answered in the same steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from served import answer, greedy, run, tokens
from serving import serving
from tiny_adapters import write_random_adapter
from tiny_chat import save_chat_model

from ostro import LLM
from ostro.errors import RequestError, UnknownModelError
from ostro.server.app import create_app
from ostro.server.embedders import Embedders
from ostro.server.models import Models, ModelSpec
from ostro.server.settings import ServerSettings

OPTIONS = {"backend": "cpu", "num_threads": 1, "kv_cache_bytes": 1 << 22}
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = tmp_path_factory.mktemp("served")
    base = save_chat_model(folder / "tiny-chat")
    adapters = {name: write_random_adapter(folder / name, base, seed=seed) for seed, name in enumerate(("sql", "tone"))}
    return ModelSpec(model=base, options=OPTIONS, aliases=("nemo",), adapters=adapters)


@pytest.fixture(scope="module")
def expected(spec: ModelSpec) -> dict[str, str]:
    llm = LLM(spec.model, adapters=spec.adapters, backend="cpu", num_threads=1)
    return {
        name or spec.name: llm.chat(HELLO, greedy(8), adapter=name)[0].outputs[0].text
        for name in (None, *spec.adapters)
    }


def test_over_http(spec: ModelSpec, expected: dict[str, str]) -> None:
    models = Models([spec])
    app = create_app(models, ServerSettings(port=0), Embedders({}))
    with (
        serving(app, ServerSettings(port=0), models.close) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        for name, text in {**expected, "SQL": expected["sql"]}.items():
            body = {"model": name, "messages": HELLO, "max_tokens": 8, "temperature": 0, "ignore_eos": True}
            found = client.post("/v1/chat/completions", json=body).json()
            assert found["choices"][0]["message"]["content"] == text
            assert found["model"] == ("sql" if name == "SQL" else name)
        cards = {card["id"]: card for card in client.get("/v1/models").json()["data"]}
        assert list(cards) == ["tiny-chat", "sql", "tone"]
        assert [cards[name]["parent"] for name in cards] == [None, "tiny-chat", "tiny-chat"]
        assert cards["tone"]["root"] == "tiny-chat"
        assert cards["tone"]["aliases"] == []
        assert cards["tone"]["capabilities"] == cards["tiny-chat"]["capabilities"]
        assert client.get("/v1/models/sql").json() == cards["sql"]
        refused = client.post("/v1/chat/completions", json={"model": "law", "messages": HELLO})
        assert refused.status_code == 404
        assert "tiny-chat, sql, tone" in refused.text
    assert len(set(expected.values())) == 3


def test_side_by_side(spec: ModelSpec) -> None:
    """Requests of all three at once: one load, and the answers of each alone."""

    async def ask(models: Models, name: str) -> list[list[int]]:
        return tokens(await answer(await models.get(name), [1, 500, 900, 7000], greedy(12)))  # type: ignore[arg-type]

    async def main() -> tuple[list[list[list[int]]], list[list[list[int]]], int]:
        models = Models([spec])
        names = ("tiny-chat", "sql", "tone") * 2
        together = await asyncio.gather(*(ask(models, name) for name in names))
        alone = [await ask(models, name) for name in names]
        count = len(models.services)
        await models.close()
        return list(together), alone, count

    together, alone, count = run(main())
    assert together == alone
    assert count == 1
    assert together[0] != together[1] != together[2]


def test_names_must_differ(spec: ModelSpec, tiny_checkpoint: Callable[[str], Path]) -> None:
    other = tiny_checkpoint("nemo")
    for clash in ({"sql": "."}, {"Tiny-Chat": "."}, {"nemo": "."}):
        with pytest.raises(RequestError, match="must differ"):
            Models([spec, ModelSpec(model=other, name="other", adapters=clash)])
    with pytest.raises(RequestError, match="must differ"):
        Models([ModelSpec(model=other, name="a", adapters={"a": "."})])
    with pytest.raises(UnknownModelError, match="tiny-chat, sql, tone"):
        Models([spec]).name_of("law")


def test_models_that_are_loaded_already(spec: ModelSpec) -> None:
    from ostro.server.service import ModelService

    async def main() -> list[tuple[str, str | None, bool]]:
        llm = LLM(spec.model, adapters=spec.adapters, **OPTIONS)  # type: ignore[arg-type]
        models = Models.of([ModelService(llm, "mine")])
        cards = [(card.id, card.parent, card.is_loaded) for card in models.cards()]
        assert (await models.get("sql")).name == "sql"
        await models.close()
        return cards

    assert run(main()) == [("mine", None, True), ("sql", "mine", True), ("tone", "mine", True)]
