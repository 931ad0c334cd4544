"""Several models in one process: names, loading on demand, the budget of memory, and the end."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import answer, greedy, load, run, tokens

from ostro import LLM
from ostro.errors import (
    ModelNotFoundError,
    OstroError,
    OverloadedError,
    RequestError,
    ShuttingDownError,
    UnknownModelError,
)
from ostro.server.models import Models, ModelSpec, load_llm
from ostro.server.service import ModelService

VARIANTS = ("mistral-7b-v0.3", "llama-3.2", "nemo")
OPTIONS = {"backend": "cpu", "num_threads": 1, "max_num_seqs": 2}


@pytest.fixture(scope="module")
def specs(tiny_checkpoint: Callable[[str], Path]) -> list[ModelSpec]:
    return [ModelSpec(model=tiny_checkpoint(name), options=OPTIONS, aliases=(f"{name}-Latest",)) for name in VARIANTS]


@pytest.fixture(scope="module")
def footprints(specs: list[ModelSpec]) -> list[int]:
    llms = [load(Path(spec.model), **OPTIONS) for spec in specs]
    return [llm.weight_bytes + llm.kv_cache_bytes for llm in llms]


@pytest.fixture(scope="module")
def sized(specs: list[ModelSpec]) -> list[ModelSpec]:
    """With the sizes of their K/V caches stated."""
    sizes = [load(Path(spec.model), **OPTIONS).kv_cache_bytes for spec in specs]
    return [
        ModelSpec(model=spec.model, options={**OPTIONS, "kv_cache_bytes": size})
        for spec, size in zip(specs, sizes, strict=True)
    ]


async def first_tokens(models: Models, name: str | None) -> list[list[int]]:
    return tokens(await answer(await models.get(name), [1, 5, 9], greedy(4)))


def loaded(models: Models) -> list[str]:
    return [card.id for card in models.cards() if card.is_loaded]


def test_names_and_cards(specs: list[ModelSpec]) -> None:
    models = Models(specs)
    assert models.default == models.name_of(None) == "mistral-7b-v0.3"
    assert models.name_of("NEMO") == models.name_of("nemo-latest") == "nemo"
    with pytest.raises(UnknownModelError, match=r"no model 'gpt-4' here.*mistral-7b-v0\.3, llama-3\.2, nemo") as caught:
        models.name_of("gpt-4")
    assert caught.value.param == "model"
    card = models.card("nemo")
    assert (card.id, card.aliases, card.is_loaded, card.is_default) == ("nemo", ("nemo-Latest",), False, False)
    assert card.max_model_len is None
    with pytest.raises(UnknownModelError, match="no model at all"):
        Models([]).name_of(None)


def test_any_other_name_may_mean_a_model(specs: list[ModelSpec]) -> None:
    models = Models([specs[0], ModelSpec(model=specs[1].model, aliases=["*"])])
    assert models.name_of("gpt-4") == "llama-3.2"
    assert models.name_of(None) == "mistral-7b-v0.3"


def test_a_name_means_one_model(specs: list[ModelSpec]) -> None:
    with pytest.raises(RequestError, match=r"'Nemo' is given to nemo and to .*llama-3\.2"):
        Models([specs[2], ModelSpec(model=specs[1].model, aliases=["Nemo"])])
    with pytest.raises(RequestError, match="names of models must differ"):
        Models([specs[2], ModelSpec(model=specs[1].model, name="nemo")])


def test_models_are_loaded_once_when_they_are_asked_for(specs: list[ModelSpec]) -> None:
    asked: list[str] = []

    def counting(spec: ModelSpec, kv_cache_bytes: int | None) -> LLM:
        asked.append(spec.name)
        return load_llm(spec, kv_cache_bytes)

    async def work() -> None:
        models = Models(specs, load=counting)
        assert loaded(models) == []
        names = [*VARIANTS, None] * 3
        found = await asyncio.gather(*(first_tokens(models, name) for name in names))
        assert sorted(asked) == sorted(VARIANTS)
        for name, each in zip(names, found, strict=True):
            assert each == found[names.index(name or VARIANTS[0])]
        assert len({str(each) for each in found}) > 1
        card = models.card("nemo")
        assert (card.is_loaded, card.max_model_len, card.family) == (True, 256, "mistral")
        nemo = (await models.get("nemo")).llm
        assert card.num_bytes == nemo.weight_bytes + nemo.kv_cache_bytes
        await models.close(10)
        assert loaded(models) == []
        with pytest.raises(ShuttingDownError):
            await models.get()

    run(work())


def test_the_model_that_was_idle_longest_makes_room(sized: list[ModelSpec], footprints: list[int]) -> None:
    budget = sum(footprints) - 1
    llms: list[weakref.ref[LLM]] = []

    def watched(spec: ModelSpec, kv_cache_bytes: int | None) -> LLM:
        llm = load_llm(spec, kv_cache_bytes)
        assert llm.kv_cache_bytes <= (kv_cache_bytes or 0)
        llms.append(weakref.ref(llm))
        return llm

    async def work() -> None:
        models = Models(sized, memory_budget=budget, load=watched)
        first = await first_tokens(models, "mistral-7b-v0.3")
        await first_tokens(models, "llama-3.2")
        await first_tokens(models, "mistral-7b-v0.3")
        await first_tokens(models, "nemo")
        assert loaded(models) == ["mistral-7b-v0.3", "nemo"]
        assert sum(card.num_bytes or 0 for card in models.cards()) <= budget
        assert [llm() is None for llm in llms] == [False, True, False]  # its memory is free
        await first_tokens(models, "llama-3.2")
        assert loaded(models) == ["llama-3.2", "nemo"]
        assert await first_tokens(models, "mistral-7b-v0.3") == first
        await models.close()

    run(work())


def test_caches_share_what_weights_leave(specs: list[ModelSpec], footprints: list[int]) -> None:
    shares: list[int | None] = []

    def noting(spec: ModelSpec, kv_cache_bytes: int | None) -> LLM:
        shares.append(kv_cache_bytes)
        return load_llm(spec, kv_cache_bytes)

    async def work() -> None:
        models = Models(specs, memory_budget=3 * max(footprints), load=noting)
        for name in VARIANTS:
            await models.get(name)
        assert loaded(models) == list(VARIANTS)
        weights = sum(service.llm.weight_bytes for service in models.services)
        assert shares == [(3 * max(footprints) - weights) // 3] * 3
        await models.close()

    run(work())


def test_busy_models_are_waited_for_and_then_it_is_said(sized: list[ModelSpec], footprints: list[int]) -> None:
    async def work() -> None:
        models = Models(sized[:2], memory_budget=max(footprints), wait_seconds=0.05)
        service = await models.get("mistral-7b-v0.3")
        generation = await service.submit([1, 5, 9], greedy(200))
        with pytest.raises(OverloadedError, match=r"no memory for llama-3\.2 now: mistral-7b-v0\.3"):
            await asyncio.create_task(first_tokens(models, "llama-3.2"))
        generation.cancel()
        await generation.final()
        assert len((await first_tokens(models, "llama-3.2"))[0]) == 4
        await models.close()

    run(work())


def test_a_model_stays_for_the_task_that_asked_for_it(sized: list[ModelSpec], footprints: list[int]) -> None:
    async def work() -> None:
        models = Models(sized[:2], memory_budget=max(footprints))

        async def hesitant() -> list[list[int]]:
            service = await models.get("mistral-7b-v0.3")
            await asyncio.sleep(0.1)
            return tokens(await answer(service, [1, 5, 9], greedy(4)))

        one = asyncio.create_task(hesitant())
        while not models.services:
            await asyncio.sleep(0.001)
        other = asyncio.create_task(first_tokens(models, "llama-3.2"))
        assert len((await one)[0]) == len((await other)[0]) == 4
        assert loaded(models) == ["llama-3.2"]
        await models.close()

    run(work())


def test_what_fits_no_budget_and_what_cannot_be_loaded_is_said(specs: list[ModelSpec], tmp_path: Path) -> None:
    async def refusal(models: Models, name: str | None = None) -> OstroError:
        with pytest.raises(OstroError) as caught:
            await models.get(name)
        return caught.value

    async def work() -> None:
        tight = await refusal(Models(specs, memory_budget=1000))
        assert isinstance(tight, RequestError)
        assert "memory_budget is 1,000 bytes" in str(tight)
        models = Models([ModelSpec(model=tmp_path / "nothing", name="gone"), specs[0]])
        assert isinstance(await refusal(models), ModelNotFoundError)
        assert isinstance(await refusal(models, "gone"), ModelNotFoundError)
        assert len((await first_tokens(models, specs[0].name))[0]) == 4  # the others are as good as ever
        await models.close()

    run(work())


def test_models_that_are_there_already(specs: list[ModelSpec]) -> None:
    async def work() -> None:
        service = ModelService(load(Path(specs[0].model)), "tiny")
        models = Models.of([service], {"Mistral-small": "tiny"})
        assert await models.get("mistral-SMALL") is service
        assert models.card(None).is_loaded
        await models.close()

    run(work())


@pytest.mark.parametrize(
    ("options", "smaller"), [({"dtype": "float16"}, 0.55), ({"quantize": 8}, 0.4), ({"quantize": 4}, 0.3)], ids=str
)
def test_the_size_of_a_model_is_known_before_it_is_loaded(
    specs: list[ModelSpec], options: dict[str, Any], smaller: float
) -> None:
    from ostro.llm.loading import weight_bytes

    whole, less = weight_bytes(specs[0].model), weight_bytes(specs[0].model, **options)
    assert less < smaller * whole
    assert weight_bytes(specs[0].model, draft_model=specs[0].model, **options) > less
    assert whole == load(Path(specs[0].model)).weight_bytes
