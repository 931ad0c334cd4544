"""The environments of the clients, the server that they meet, and what their programs found."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import environments
import pytest
from client_runs import run_program
from live_server import KEY, MODEL, live_server
from tiny_chat import save_chat_model


@pytest.fixture(scope="session")
def interpreter() -> Callable[[str], Path]:
    """`interpreter(environment)`; without the environments the tests do not run, `make clients` makes them."""

    def find(name: str) -> Path:
        python = environments.python_of(name)
        if python is None:
            pytest.skip(f"the clients' environment {name} is not made: make clients")
        return python

    return find


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        for found in environments.folder("current").glob("lib/*/site-packages/litellm/litellm_core_utils/tokenizers"):
            patch.setenv("TIKTOKEN_CACHE_DIR", str(found))  # as tiktoken would have left its vocabulary
        with live_server(save_chat_model(tmp_path_factory.mktemp("clients") / MODEL)) as address:
            yield address


@pytest.fixture(scope="session")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of short answers under every name, for requests that nobody chose."""
    folder = save_chat_model(tmp_path_factory.mktemp("limited") / MODEL)
    with live_server(folder, "*", max_tokens_limit=20, body_seconds=5) as address:
        yield address


@pytest.fixture(scope="session")
def found(interpreter: Callable[[str], Path], address: str) -> Callable[[str, str], dict[str, Any]]:
    """`found(environment, program)`: what each scenario of a program found, by its name; run once."""

    @functools.cache
    def run(environment: str, program: str) -> dict[str, Any]:
        return dict(run_program(interpreter(environment), program, address, KEY, MODEL))

    return run
