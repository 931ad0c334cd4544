"""The short names, and the names that the tutorials use."""

from __future__ import annotations

import dataclasses
import re

import pytest

from ostro.checkpoint.aliases import Alias, aliases, find_alias
from ostro.config.published import PUBLISHED

REPOS = {
    "mistral-7b": "mistralai/Mistral-7B-v0.3",
    "mistral-7b-v0.1": "mistralai/Mistral-7B-v0.1",
    "mistral-7b-v0.3": "mistralai/Mistral-7B-v0.3",
    "mistral-7b-instruct": "mistralai/Mistral-7B-Instruct-v0.3",
    "mistral-7b-instruct-v0.1": "mistralai/Mistral-7B-Instruct-v0.1",
    "mistral-7b-instruct-v0.2": "mistralai/Mistral-7B-Instruct-v0.2",
    "mistral-7b-instruct-v0.3": "mistralai/Mistral-7B-Instruct-v0.3",
    "mixtral-8x7b": "mistralai/Mixtral-8x7B-v0.1",
    "mixtral-8x7b-instruct": "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "nemo": "mistralai/Mistral-Nemo-Instruct-2407",
    "nemo-base": "mistralai/Mistral-Nemo-Base-2407",
    "mistral-small": "mistralai/Mistral-Small-24B-Instruct-2501",
    "mistral-small-2409": "mistralai/Mistral-Small-Instruct-2409",
    "mistral-large": "mistralai/Mistral-Large-Instruct-2407",
    "mistral-large-2411": "mistralai/Mistral-Large-Instruct-2411",
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B",
    "llama-3.1-8b-instruct": "meta-llama/Llama-3.1-8B-Instruct",
    "llama-3.1-70b": "meta-llama/Llama-3.1-70B",
    "llama-3.1-70b-instruct": "meta-llama/Llama-3.1-70B-Instruct",
    "llama-3.1-405b": "meta-llama/Llama-3.1-405B",
    "llama-3.1-405b-instruct": "meta-llama/Llama-3.1-405B-Instruct",
    "llama-3.2-1b": "meta-llama/Llama-3.2-1B",
    "llama-3.2-1b-instruct": "meta-llama/Llama-3.2-1B-Instruct",
    "llama-3.2-3b": "meta-llama/Llama-3.2-3B",
    "llama-3.2-3b-instruct": "meta-llama/Llama-3.2-3B-Instruct",
    # as the tutorials and Mistral's API write them
    "open-mistral-nemo\t": "mistralai/Mistral-Nemo-Instruct-2407",
    "open-mistral-nemo-2407": "mistralai/Mistral-Nemo-Instruct-2407",
    "open-mistral-7b": "mistralai/Mistral-7B-Instruct-v0.3",
    "open-mixtral-8x7b": "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "mistral-large-latest": "mistralai/Mistral-Large-Instruct-2407",
    "mistral-large-2407": "mistralai/Mistral-Large-Instruct-2407",
    "mistral-small-latest": "mistralai/Mistral-Small-24B-Instruct-2501",
    "Mistral-large": "mistralai/Mistral-Large-Instruct-2407",
    "Mistral-small": "mistralai/Mistral-Small-24B-Instruct-2501",
    "meta-llama-3.1-405b-instruct": "meta-llama/Llama-3.1-405B-Instruct",
    "Meta-Llama-3.1-8B-Instruct": "meta-llama/Llama-3.1-8B-Instruct",
    " MISTRAL-7B-INSTRUCT\n": "mistralai/Mistral-7B-Instruct-v0.3",
}


@pytest.mark.parametrize("name", REPOS)
def test_names(name: str) -> None:
    alias = find_alias(name)
    assert alias is not None
    assert alias.repo == REPOS[name]


def test_every_alias_is_complete_and_found_by_all_its_names() -> None:
    assert len({alias.repo for alias in aliases()}) == len({alias.name for alias in aliases()}) == len(aliases())
    for alias in aliases():
        for name in (alias.name, alias.repo, alias.repo.partition("/")[2], *alias.synonyms):
            assert find_alias(name) is alias
        assert re.fullmatch(r"(mistralai|meta-llama)/[A-Za-z0-9.-]+", alias.repo)
        assert alias.parameters
        assert alias.licence
        assert alias.note
        assert alias.name == alias.name.lower()


def test_unknown_names_and_frozen_entries() -> None:
    assert find_alias("gpt-4") is None
    assert find_alias("") is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        aliases()[0].repo = "other/repo"  # type: ignore[misc]


def test_licences() -> None:
    licences = {alias.name: alias.licence for alias in aliases()}
    assert licences["nemo"] == "Apache-2.0"
    assert licences["mistral-large"] == licences["mistral-small-2409"] == "Mistral Research License"
    assert licences["llama-3.1-8b"] == "Llama 3.1 Community License"
    assert licences["llama-3.2-1b-instruct"] == "Llama 3.2 Community License"


@pytest.mark.parametrize("alias", aliases(), ids=lambda alias: alias.name)
def test_the_published_numbers_are_those_that_the_list_shows(alias: Alias) -> None:
    config = next(model for model in PUBLISHED if model.name == alias.published).config()
    total, active = (f"{config.num_parameters(active=which) / 1e9:.1f}B" for which in (False, True))
    assert alias.parameters == (total if total == active else f"{total}, {active} active")
    for context, size in (("32k", 32768), ("128k", 131072)):
        if f"{context} context" in alias.note:
            assert config.max_position_embeddings == size
    assert config.max_window == (4096 if "sliding window of 4096" in alias.note else None)
    assert ("llama" in alias.repo) is (config.family == "llama") is (alias.tokenizer is None)
