"""`ostro synth` against ostro's own server with a tiny model: nonsense, but of the form that was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import serving

from ostro import LLM
from ostro.finetune.records import ChatRecord, read_records
from ostro.server.app import create_app
from ostro.server.embedders import Embedders
from ostro.server.models import Models
from ostro.server.service import ModelService
from ostro.server.settings import ServerSettings

TASK = """\
kind: instruction
topics: [ice, fire]
per_request: 2
max_tokens: 300
seed: 1
fields:
  instruction: {minLength: 3, maxLength: 12}
  output: {maxLength: 12}
"""


@pytest.fixture(scope="module")
def address(chat_model: Path) -> Iterator[str]:
    models = Models.of([ModelService(LLM(chat_model, backend="cpu", num_threads=1), "tiny")])
    settings = ServerSettings(port=0, access_log="off", api_keys=("sesame",))
    with serving(create_app(models, settings, Embedders({})), settings, stop=models.close) as served:
        yield served


def test_a_served_model_writes_records(
    run: Callable[..., Any], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sesame")
    (tmp_path / "task.yaml").write_text(TASK)
    out = tmp_path / "train.jsonl"
    command = ("synth", tmp_path / "task.yaml", "--endpoint", f"{address}/v1", "--model", "tiny", "--out", out)
    keyed = (*command, "--api-key-env", "MY_KEY", "--concurrency", 2)
    first = run(*keyed, "--count", 2, "--json")
    assert (first.code, first.err) == (0, "")
    assert first.json["records"] == 2
    before = out.read_text(encoding="utf-8")
    second = run(*keyed, "--count", 4)
    assert second.code == 0, second.err
    assert "records         4\n" in second.out
    assert out.read_text(encoding="utf-8").startswith(before)
    records = list(read_records(out, kind="chat"))
    assert len(records) == 4
    assert all(isinstance(each, ChatRecord) and 3 <= len(each.messages[0].content) <= 12 for each in records)
    assert json.loads(before.splitlines()[0])["topic"] == "ice"

    refused = run(*command, "--count", 5)
    assert refused.code == 1
    assert f"The endpoint {address}/v1 refuses the request (status 401)" in refused.err
    unset = run(*command, "--count", 5, "--api-key-env", "NO_SUCH_KEY")
    assert unset.code == 2
    assert "The environment variable NO_SUCH_KEY is not" in unset.err


def test_what_was_dropped_is_shown(run: Callable[..., Any], address: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("MY_KEY", "sesame")
    monkeypatch.setattr("ostro.finetune.synth.run.FRUITLESS", 2)
    (tmp_path / "task.yaml").write_text(f"{TASK}output_schema: {{type: 'null'}}\n")
    result = run(
        "synth", tmp_path / "task.yaml", "--endpoint", address, "--model", "tiny", "--out", tmp_path / "a.jsonl",
        "--count", 1, "--api-key-env", "MY_KEY",
    )  # fmt: skip
    assert result.code == 1
    assert result.err.startswith("error: 4 requests in a row brought no new record, with 0 kept in ")
    assert "output_schema: output: no JSON. Give more topics" in result.err


def test_ctrl_c_says_how_to_go_on(run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ostro.finetune.synth.synthesize", interrupted)
    (tmp_path / "task.yaml").write_text(TASK)
    result = run(
        "synth", tmp_path / "task.yaml", "--endpoint", "http://127.0.0.1:9", "--model", "m", "--out", "a", "--count", 1
    )
    assert result.code == 130
    assert "kept in a: run the same command again" in result.err
