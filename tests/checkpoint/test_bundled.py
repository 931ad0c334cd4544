"""The model that comes with ostro: found by its name and by no name, and said to be missing where it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_chat import save_chat_model

from ostro import LLM, SamplingParams
from ostro.checkpoint import bundled
from ostro.checkpoint.hub import pull, resolve
from ostro.errors import ModelNotFoundError, RequestError


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model in its place."""
    folder = save_chat_model(tmp_path / "ostro-mini-files")
    monkeypatch.setattr(bundled, "_FOLDER", folder)
    return folder


@pytest.fixture
def missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "_FOLDER", tmp_path / "nothing")


def test_it_has_a_name(there: Path) -> None:
    assert resolve("ostro-mini") == resolve(" Ostro-Mini ") == there
    assert resolve("ostro-mini", offline=True) == there
    report = pull("ostro-mini")
    assert report.path == there
    assert report.num_bytes == sum(path.stat().st_size for path in there.iterdir())


def test_a_folder_of_that_name_goes_before_it(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "ostro-mini").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert resolve("ostro-mini") == Path("ostro-mini")


def test_it_has_no_revisions(there: Path) -> None:
    with pytest.raises(RequestError, match="revision='main' was given"):
        resolve("ostro-mini", revision="main")
    with pytest.raises(RequestError, match="revision='main' was given"):
        LLM(revision="main")


def test_it_is_the_model_of_no_name(there: Path) -> None:
    llm = LLM()
    assert llm.path == there
    answer = llm.generate("Hello", SamplingParams(max_tokens=2, temperature=0))[0].outputs[0]
    assert len(answer.token_ids) == 2


def test_an_installation_without_it_says_so(missing: None) -> None:
    assert bundled.bundled_model() is None
    for attempt in (lambda: resolve("ostro-mini"), LLM):
        with pytest.raises(ModelNotFoundError, match=r"no bundled model .*Name a model"):
            attempt()
