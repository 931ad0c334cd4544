"""`Models`: the models of one process by their names, loaded when they are asked for, within a budget of memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ostro.chat import named_format
from ostro.errors import OverloadedError, RequestError, ShuttingDownError, UnknownModelError
from ostro.llm import LLM
from ostro.llm.loading import weight_bytes
from ostro.log import logger
from ostro.server.adapters import ServedAdapter
from ostro.server.garbage import collect_everything
from ostro.server.metrics import Metrics
from ostro.server.service import ModelService, Service, ServiceLimits

_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model that can be served: what clients call it, and what `LLM` loads. `options` are keyword arguments of `LLM`.

    `name` is the model's own by default. The `aliases` mean the same model; "*" is every name that nothing else has,
    for clients whose model names are fixed. `chat_format` names a prompt format in place of the model's own;
    PromptError where there is none of that name. `adapters` are folders by the names under which clients find them, as
    if each were a model of its own; they are loaded with the model.

    >>> ModelSpec(model="mistral-7b-instruct", aliases=("Mistral-small",)).name
    'mistral-7b-instruct'
    """

    model: str | Path
    name: str = ""
    aliases: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    chat_format: str | None = None
    adapters: Mapping[str, str | Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.chat_format is not None:
            named_format(self.chat_format)
        if not self.name:
            object.__setattr__(self, "name", _short_name(self.model))


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What clients may know of a model.

    `max_model_len` and `num_bytes` (weights and K/V cache) are None until it is loaded, and again when it was unloaded.
    `created` is when the server learned of it, in seconds since 1970. `parent` is the model of an adapter, else None.
    """

    id: str
    aliases: tuple[str, ...]
    created: int
    is_loaded: bool
    is_default: bool
    family: str | None
    max_model_len: int | None
    num_bytes: int | None
    parent: str | None = None


Load: TypeAlias = Callable[[ModelSpec, int | None], LLM]
"""Loads a model with so many bytes of K/V cache, None: as many as the model finds right."""


@dataclass(slots=True, eq=False)
class _Loaded:
    service: ModelService
    num_bytes: int
    last_used: float


class Models:
    """The models of `specs`; the first is the `default`. RequestError where a name or an alias means two of them.

    `memory_budget` bounds the bytes of weights and K/V caches of all loaded models together. A model that does not fit
    beside the others takes the place of those that have been idle longest. A K/V cache whose size `options` do not
    state gets an equal share of what the weights of all models leave or, where they do not fit together, half of what
    its own leave. Without a budget every model stays, and takes what memory it finds (`EngineConfig.sizes`).

    `wait_seconds` is how long a request waits for busy models to become idle before it gets an OverloadedError.
    """

    def __init__(
        self,
        specs: Iterable[ModelSpec],
        *,
        memory_budget: int | None = None,
        limits: ServiceLimits | None = None,
        wait_seconds: float = 30.0,
        load: Load | None = None,
    ) -> None:
        given = list(specs)
        self._specs = {spec.name: spec for spec in given}
        self._names = _names(given)
        self._parents = {adapter: spec.name for spec in given for adapter in spec.adapters}
        self.default = next(iter(self._specs), None)
        self.memory_budget = memory_budget
        self._limits = limits or ServiceLimits()
        self._wait_seconds = wait_seconds
        self._load = load or load_llm
        self.metrics = Metrics()
        self.metrics.watch(lambda: self.services)
        self._created = int(time.time())
        self._loaded: dict[str, _Loaded] = {}
        self._weights: dict[str, int] = {}
        self._leases: dict[asyncio.Task[Any], str] = {}
        self._lock = asyncio.Lock()
        self._is_closing = False

    @classmethod
    def of(cls, services: Sequence[ModelService], aliases: Mapping[str, str] | None = None) -> Models:
        """Models that are loaded already; `aliases` are other names of theirs."""
        others = aliases or {}
        models = cls(
            ModelSpec(
                model=service.llm.path,
                name=service.name,
                aliases=[alias for alias, name in others.items() if name == service.name],
                adapters=dict.fromkeys(service.llm.adapters, ""),
            )
            for service in services
        )
        for service in services:
            service.metrics = models.metrics
            models._loaded[service.name] = _Loaded(service, _footprint(service.llm), time.monotonic())
        return models

    @property
    def services(self) -> list[ModelService]:
        """The models that are loaded now."""
        return [loaded.service for loaded in self._loaded.values()]

    @property
    def status(self) -> Literal["ok", "stopping", "failed"]:
        """Whether requests are taken, for `/health`: "failed" where the last step of a loaded model did."""
        if self._is_closing:
            return "stopping"
        return "failed" if any(service.has_failed or not service.is_alive for service in self.services) else "ok"

    def name_of(self, name: str | None) -> str:
        """The model or adapter that a name or an alias means, in whatever case; None is the default.

        UnknownModelError where there is none.
        """
        wanted = (self.default or "") if name is None else name
        found = self._names.get(wanted.casefold()) or self._names.get("*")
        if found is None:
            served = ", ".join([*self._specs, *self._parents]) or "no model at all"
            raise UnknownModelError(f"There is no model {wanted!r} here. This server has {served}.")
        return found

    def cards(self) -> list[ModelCard]:
        """All models, loaded or not, in the order of the specs, each followed by its adapters."""
        return [self._card(spec, adapter) for spec in self._specs.values() for adapter in (None, *spec.adapters)]

    def card(self, name: str | None) -> ModelCard:
        """The card of one model, by any of its names; UnknownModelError where there is none."""
        found = self.name_of(name)
        parent = self._parents.get(found)
        return self._card(self._specs[parent or found], found if parent else None)

    async def get(self, name: str | None = None) -> Service:
        """The service of a model, loaded if need be. It stays loaded while the calling task runs or asks for another.
        An adapter's is that of its model, with the adapter in every request.

        UnknownModelError for a name that means none; OverloadedError where busy models leave no memory for it; and the
        errors of `LLM`, where it cannot be loaded.
        """
        asked = self.name_of(name)
        found = self._parents.get(asked, asked)
        self._lease(found)
        loaded = self._loaded.get(found)
        if loaded is None:
            async with self._lock:  # one load at a time; whoever waited may find that it is done
                if self._is_closing:
                    raise ShuttingDownError("The server is being stopped and takes no more requests. Try again later.")
                loaded = self._loaded.get(found) or await self._bring(self._specs[found])
        loaded.last_used = time.monotonic()
        return loaded.service if asked == found else ServedAdapter(loaded.service, asked)

    async def close(self, grace_seconds: float = 0.0) -> None:
        """Take no more requests; end the models when their answers have ended, after `grace_seconds` at the latest."""
        self._is_closing = True
        async with self._lock:
            services = self.services
            await asyncio.gather(*(service.close(grace_seconds) for service in services))
            self._loaded.clear()

    def _card(self, spec: ModelSpec, adapter: str | None) -> ModelCard:
        loaded = self._loaded.get(spec.name)
        return ModelCard(
            id=adapter or spec.name,
            aliases=() if adapter else tuple(spec.aliases),
            created=self._created,
            is_loaded=loaded is not None,
            is_default=spec.name == self.default and adapter is None,
            family=loaded.service.llm.config.family if loaded else None,
            max_model_len=loaded.service.llm.max_model_len if loaded else None,
            num_bytes=loaded.num_bytes if loaded else None,
            parent=spec.name if adapter else None,
        )

    def _lease(self, name: str) -> None:
        """Keep a model from being unloaded between the `get` of a task and what it does with it."""
        task = asyncio.current_task()
        assert task is not None
        if task not in self._leases:
            task.add_done_callback(lambda done: self._leases.pop(done, None))
        self._leases[task] = name

    async def _bring(self, spec: ModelSpec) -> _Loaded:
        """Load a model, after others made room for it."""
        kv_cache_bytes: int | None = None
        if self.memory_budget is not None:
            weights = await asyncio.to_thread(self._find_weights, spec)
            kv_cache_bytes = self._kv_share(spec, weights, self.memory_budget)
            await self._make_room(spec, weights + kv_cache_bytes, self.memory_budget)
        llm = await asyncio.to_thread(self._load, spec, kv_cache_bytes)
        await asyncio.to_thread(llm.shared.engine.warm_up)
        service = ModelService(llm, spec.name, self._limits, self.metrics, chat_format=spec.chat_format)
        loaded = _Loaded(service, _footprint(llm), time.monotonic())
        self._loaded[spec.name] = loaded
        return loaded

    def _find_weights(self, wanted: ModelSpec) -> int:
        """Bytes of the wanted model's weights, downloaded if need be; those of others are noted if they are here."""
        self._weights[wanted.name] = weight_bytes(wanted.model, adapters=wanted.adapters, **wanted.options)
        for spec in self._specs.values():
            if spec.name not in self._weights:
                try:
                    options = {**spec.options, "offline": True}
                    self._weights[spec.name] = weight_bytes(spec.model, adapters=spec.adapters, **options)
                except Exception as error:  # it is not asked for now: whoever asks for it will be told
                    logger.debug("the size of %s is not known yet: %s", spec.name, error)
        return self._weights[wanted.name]

    def _kv_share(self, spec: ModelSpec, weights: int, budget: int) -> int:
        stated = spec.options.get("kv_cache_bytes")
        everyone = sum(self._weights.get(name, weights) for name in self._specs)
        share = (budget - everyone) // len(self._specs) if everyone < budget else (budget - weights) // 2
        kv_cache_bytes = int(stated) if stated else share
        if weights + kv_cache_bytes > budget or kv_cache_bytes <= 0:
            raise RequestError(
                f"{spec.name} needs {weights:,} bytes for its weights and more for its K/V cache, but memory_budget is "
                f"{budget:,} bytes. Serve a smaller model, quantize it, or raise memory_budget.",
                param="model",
            )
        return kv_cache_bytes

    async def _make_room(self, spec: ModelSpec, num_bytes: int, budget: int) -> None:
        """Unload the models that were used longest ago until so many bytes are free; wait for those that are busy."""
        give_up = time.monotonic() + self._wait_seconds
        while sum(loaded.num_bytes for loaded in self._loaded.values()) + num_bytes > budget:
            victim = min(filter(self._is_idle, self._loaded), key=lambda n: self._loaded[n].last_used, default=None)
            if victim is not None:
                await self._unload(victim)
            elif time.monotonic() > give_up:
                raise OverloadedError(
                    f"There is no memory for {spec.name} now: {', '.join(self._loaded)} are answering and leave too "
                    "little of memory_budget. Try again later.",
                    retry_after=5,
                )
            else:
                await asyncio.sleep(_POLL_SECONDS)

    def _is_idle(self, name: str) -> bool:
        asking = asyncio.current_task()
        is_leased = any(leased == name for task, leased in self._leases.items() if task is not asking)
        return self._loaded[name].service.is_idle and not is_leased

    async def _unload(self, name: str) -> None:
        logger.info("%s is unloaded to make room", name)
        loaded = self._loaded.pop(name)
        await loaded.service.close()
        del loaded
        collect_everything()


def load_llm(spec: ModelSpec, kv_cache_bytes: int | None) -> LLM:
    """The model of a spec, with that much K/V cache."""
    sizes = {} if kv_cache_bytes is None else {"kv_cache_bytes": kv_cache_bytes}
    return LLM(spec.model, adapters=spec.adapters, **{**spec.options, **sizes})


def _footprint(llm: LLM) -> int:
    return llm.weight_bytes + llm.kv_cache_bytes


def _short_name(model: str | Path) -> str:
    """The last part of a path, without the ending of a file; other names as they are."""
    path = Path(model)
    if isinstance(model, str) and not path.exists():
        return model
    path = path.resolve()
    return path.stem if path.is_file() else path.name


def _names(specs: Sequence[ModelSpec]) -> dict[str, str]:
    """Every name in lower case, and the model or adapter that it means; RequestError for one that means two."""
    own = [(name, name, each) for each in specs for name in (each.name, *each.adapters)]
    names: dict[str, str] = {}
    for name, means, spec in own + [(alias, each.name, each) for each in specs for alias in each.aliases]:
        other = names.setdefault(name.casefold(), means)
        if other != means or (name == other and sum(taken == name for taken, _, _ in own) > 1):
            raise RequestError(
                f"The name {name!r} is given to {other} and to {spec.model}: names of models must differ, those of "
                "adapters too.",
                param="model",
            )
    return names
