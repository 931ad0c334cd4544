"""What the evaluation of ostro-mini uses was never emitted for its training."""

from __future__ import annotations

import importlib
import json
import pkgutil
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import recipes.ostro_mini
from recipes.ostro_mini import data, pools, pretrain, split, words
from recipes.ostro_mini.split import LANGUAGES, Language, Split, split_of
from recipes.ostro_mini.tasks import TASKS

POOLS = {
    name: getattr(pools, name)
    for name in ("number", "decimal", "year", "date", "clock", "phone", "code", "invented", "name", "city", "person")
}
MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(recipes.ostro_mini.__path__, "recipes.ostro_mini.")
    if found.name.startswith(("recipes.ostro_mini.tasks", "recipes.ostro_mini.p"))
]


class Recorder:
    """Notes every text that is drawn from one side, and sees to it that only that side is asked."""

    def __init__(self, side: Split) -> None:
        self.side = side
        self.texts: set[str] = set()

    def note(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        original = getattr(split, name)

        def noted(rng: random.Random, side: Split, source: object) -> str:
            assert side == self.side
            text: str = original(rng, side, source)
            self.texts.add(text.lower())
            return text

        for module in MODULES:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, noted)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    def record(side: Split) -> Recorder:
        recorder = Recorder(side)
        for name in ("draw", "pick"):
            recorder.note(name, monkeypatch)
        return recorder

    return record


def training_texts() -> Iterator[str]:
    for sample in data.samples(1500, 5):
        yield json.dumps(data.conversation(sample), ensure_ascii=False)
    for sample in data.short_samples(200, 5):
        yield json.dumps(data.conversation(sample), ensure_ascii=False)
    for record in data.texts(800, 5):
        yield record["text"]
    for record in data.preferences(200, 5):
        yield json.dumps(record, ensure_ascii=False)
    for sample in data.long_samples(10, 5):
        yield json.dumps(data.conversation(sample), ensure_ascii=False)


def test_nothing_drawn_for_the_evaluation_is_drawn_for_training(recorded) -> None:  # type: ignore[no-untyped-def]
    training = recorded("train")
    text = "\n".join(training_texts()).lower()
    heldout = recorded("heldout")
    for task in TASKS:
        data.heldout_samples(task, 40)
    assert len(training.texts) > 5000
    assert len(heldout.texts) > 1000
    assert not training.texts & heldout.texts
    emitted = set(re.findall(r"[\w.@:#-]+", text))
    # Common nouns are no names: what is held out of them is their use in sentences of sentiment.
    single = {drawn for drawn in heldout.texts if drawn.isascii() and len(drawn) > 2 and drawn.isalpha()} - set(
        words.NOUNS_EN
    )
    assert len(single) > 200
    assert sorted(single & emitted) == []


@pytest.mark.parametrize("name", POOLS)
@given(seed=st.integers(0, 2**32), side=st.sampled_from(["train", "heldout"]), language=st.sampled_from(LANGUAGES))
def test_pools_give_one_side_only(name: str, seed: int, side: Split, language: Language) -> None:
    rng = random.Random(seed)
    by_language = name in ("invented", "name", "city", "person")
    text = POOLS[name](rng, side, language) if by_language else POOLS[name](rng, side)
    parts = text.split() if name == "person" else [text]
    assert all(split_of(part) == side for part in parts)


def test_the_sides_never_change() -> None:
    """A model that is out was trained on one of them: this pins the hash."""
    held_out = {
        text
        for text in ("Seoul", "Oslo", "Bella", "Anna", "Clark", "12345", "런던", "서울")
        if split_of(text) == "heldout"
    }
    assert held_out == {"Oslo", "Bella", "Clark", "런던"}


def test_schemas_and_tools_are_split_as_wholes() -> None:
    from recipes.ostro_mini.tasks.json_lines import schema_name

    for sample in data.heldout_samples("json", 40):
        keys = [key for key, _ in json.loads(sample.answer.content, object_pairs_hook=list)]
        assert split_of(schema_name(keys)) == "heldout"
    for sample in data.heldout_samples("tool", 60):
        name = sample.answer.tool_calls[0].name
        assert split_of(name) == "heldout" or name in ("get_current_weather", "brave_search")


def test_the_same_seed_gives_the_same_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {"pretrain": 20, "short": 30, "sft": 30, "dense": 20, "cited": 10, "long": 2, "dpo": 10, "heldout": 1}
    counts = [f"--{kind}={count}" for kind, count in kinds.items()]
    for folder in ("a", "b"):
        data.main(["--out", str(tmp_path / folder), *counts])
    assert f"{tmp_path / 'a' / 'dpo.jsonl'}: 10 records" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {f"{kind}.jsonl" for kind in kinds}
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert pretrain.document(random.Random(1)) != pretrain.document(random.Random(2))
