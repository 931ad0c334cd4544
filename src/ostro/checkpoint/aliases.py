"""Short names of models, as people type them and as the tutorials write them.

`mistral-large` and `mistral-large-latest` are the 2407 model that the tutorials describe; 2411 has a name of its own.
The names of Mistral's API stand for the open weights behind them, which are the instruction-tuned ones.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Alias:
    """One model of the Hugging Face hub under a short name.

    `parameters` is for people ("7.2B", "46.7B, 12.9B active"). `gated` says that the hub may ask for a login and for
    the licence to be accepted on the model's page. `published` is its name in `ostro.config.published`, and `tokenizer`
    the version of its tokenizer in mistral-common, None for one that is not there. `synonyms` are other names that
    mean the same repository.
    """

    name: str
    repo: str
    parameters: str
    licence: str
    gated: bool
    note: str
    published: str
    tokenizer: str | None
    synonyms: tuple[str, ...] = ()


_APACHE, _RESEARCH = "Apache-2.0", "Mistral Research License"
_LLAMA_31, _LLAMA_32 = "Llama 3.1 Community License", "Llama 3.2 Community License"


def _mistral(
    name: str, repo: str, size: str, note: str, published: str, tokenizer: str, *synonyms: str, licence: str = _APACHE
) -> Alias:
    return Alias(name, f"mistralai/{repo}", size, licence, True, note, published, tokenizer, synonyms)


def _llama(version: str, size: str, parameters: str) -> tuple[Alias, Alias]:
    """The base model and the instruction-tuned one."""
    licence = _LLAMA_31 if version == "3.1" else _LLAMA_32
    name, repo, published = f"llama-{version}-{size.lower()}", f"Llama-{version}-{size}", f"Llama {version} {size}"

    def alias(suffix: str, note: str) -> Alias:
        name_, repo_ = f"{name}{suffix}", f"meta-llama/{repo}{suffix.title()}"
        return Alias(name_, repo_, parameters, licence, True, note, published, None, (f"meta-{name_}",))

    return alias("", "base model, 128k context"), alias("-instruct", "chat and tools, 128k context")


_ALIASES: tuple[Alias, ...] = (
    _mistral("mistral-7b", "Mistral-7B-v0.3", "7.2B", "base model, 32k context", "Mistral 7B v0.3", "v3"),
    _mistral(
        "mistral-7b-v0.1", "Mistral-7B-v0.1", "7.2B", "base model, sliding window of 4096", "Mistral 7B v0.1", "v1"
    ),
    _mistral(
        "mistral-7b-instruct", "Mistral-7B-Instruct-v0.3", "7.2B", "chat and tools, 32k context",
        "Mistral 7B v0.3", "v3", "open-mistral-7b", "mistral-tiny",
    ),
    _mistral(
        "mistral-7b-instruct-v0.2", "Mistral-7B-Instruct-v0.2", "7.2B", "chat, 32k context", "Mistral 7B v0.2", "v1"
    ),
    _mistral(
        "mistral-7b-instruct-v0.1", "Mistral-7B-Instruct-v0.1", "7.2B", "chat, sliding window of 4096",
        "Mistral 7B v0.1", "v1",
    ),
    _mistral(
        "mixtral-8x7b", "Mixtral-8x7B-v0.1", "46.7B, 12.9B active", "base mixture of experts, 32k context",
        "Mixtral 8x7B", "v1",
    ),
    _mistral(
        "mixtral-8x7b-instruct", "Mixtral-8x7B-Instruct-v0.1", "46.7B, 12.9B active", "chat, 32k context",
        "Mixtral 8x7B", "v1", "open-mixtral-8x7b",
    ),
    _mistral(
        "nemo", "Mistral-Nemo-Instruct-2407", "12.2B", "chat and tools, 128k context",
        "Mistral NeMo", "v3-tekken",
        "mistral-nemo", "nemo-instruct", "mistral-nemo-instruct", "open-mistral-nemo", "open-mistral-nemo-2407",
    ),
    _mistral(
        "nemo-base", "Mistral-Nemo-Base-2407", "12.2B", "base model, 128k context",
        "Mistral NeMo", "v3-tekken", "mistral-nemo-base",
    ),
    _mistral(
        "mistral-small", "Mistral-Small-24B-Instruct-2501", "23.6B", "chat and tools, 32k context",
        "Mistral Small 3", "v7-tekken", "mistral-small-latest", "mistral-small-2501", "mistral-small-3",
    ),
    _mistral(
        "mistral-small-2409", "Mistral-Small-Instruct-2409", "22.2B", "chat and tools, 32k context",
        "Mistral Small 2409", "v3", licence=_RESEARCH,
    ),
    _mistral(
        "mistral-large", "Mistral-Large-Instruct-2407", "122.6B", "chat and tools, 128k context",
        "Mistral Large 2", "v3", "mistral-large-latest", "mistral-large-2407", "mistral-large-2", licence=_RESEARCH,
    ),
    _mistral(
        "mistral-large-2411", "Mistral-Large-Instruct-2411", "122.6B", "chat and tools, 128k context",
        "Mistral Large 2", "v7", licence=_RESEARCH,
    ),
    *_llama("3.1", "8B", "8.0B"),
    *_llama("3.1", "70B", "70.6B"),
    *_llama("3.1", "405B", "405.9B"),
    *_llama("3.2", "1B", "1.2B"),
    *_llama("3.2", "3B", "3.2B"),
)  # fmt: skip


def aliases() -> tuple[Alias, ...]:
    """All models that have a short name, in the order in which `ostro list` shows them."""
    return _ALIASES


def find_alias(name: str) -> Alias | None:
    """The model that a short name, a synonym, or the name of its repository with or without the owner stands for.

    Case and surrounding whitespace do not matter. None when there is none.

        find_alias("Mistral-large").repo              # mistralai/Mistral-Large-Instruct-2407
    """
    return _index().get(name.strip().lower())


@functools.cache
def _index() -> dict[str, Alias]:
    index: dict[str, Alias] = {}
    for alias in _ALIASES:
        repo = alias.repo.lower()
        for name in {alias.name, *alias.synonyms, repo, repo.partition("/")[2]}:
            assert index.setdefault(name, alias) is alias, f"{name} stands for two models"
    return index
