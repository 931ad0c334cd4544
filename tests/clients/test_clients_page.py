"""The code of docs/server.md runs in the clients' own packages, changed in nothing but address and key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import environments
import pytest
from client_runs import run_code
from live_server import KEY, MODEL, live_server
from tiny_chat import save_chat_model

PAGE = Path(__file__).parents[2] / "docs" / "server.md"
SECTION = re.compile(r"^### (.*?)\n\n```py\n(.*?)^```", re.DOTALL | re.MULTILINE)
SECTIONS: dict[str, str] = dict(SECTION.findall(PAGE.read_text(encoding="utf-8")))
CASES = [
    ("openai", "current"),
    ("openai", "mistral-1"),
    ("azure-ai-inference", "current"),
    ("azure-ai-inference", "tutorial"),
    ("mistralai 0.x", "mistral-0.0"),
    ("mistralai 0.x", "tutorial"),
    ("mistralai 0.x", "mistral-0.4"),
    ("mistralai from 1.0 on", "mistral-1"),
    ("mistralai from 1.0 on", "current"),
    ("mistralai from 1.0 on", "mistral-2"),
    ("langchain and litellm", "current"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = save_chat_model(tmp_path_factory.mktemp("page") / MODEL)
    with live_server(folder, "nemo", max_tokens_limit=30) as address:
        yield address.rstrip("/")


@pytest.mark.parametrize(
    ("section", "environment"),
    [pytest.param(*case, marks=[pytest.mark.slow] if case[1] in environments.SLOW else []) for case in CASES],
)
def test_the_code_of_the_page(
    interpreter: Callable[[str], Path], server: str, tmp_path: Path, section: str, environment: str
) -> None:
    code = SECTIONS[section]
    assert "http://127.0.0.1:8000" in code
    code = code.replace("http://127.0.0.1:8000", server).replace('"none"', repr(KEY))
    printed = run_code(interpreter(environment), code, tmp_path)
    assert len(printed.split()) >= code.count("print(")


def test_every_client_of_the_page_is_tried() -> None:
    assert {section for section, _ in CASES} == set(SECTIONS)
