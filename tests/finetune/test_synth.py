"""Data written by a model: checked, deduplicated, gone on with, and independent of who answers first."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostro.errors import ConfigError, DataError, RequestError, ServiceError
from ostro.finetune.records import ChatRecord, PreferenceRecord, read_records
from ostro.finetune.synth import Endpoint, SynthTask, synthesize
from ostro.finetune.synth.near import NearIndex, plain

Reply = tuple[int, dict[str, Any] | bytes, dict[str, str]]


class Server:
    """`answer(number, body)` gives the content of an answer (as text or a value for JSON), or a whole `Reply`."""

    def __init__(self, answer: Callable[[int, dict[str, Any]], Any]) -> None:
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                    number = len(outer.bodies) - 1
                status, value, headers = outer._reply(number, body, self.path)
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, text in {"content-length": str(len(data)), **headers}.items():
                    self.send_header(name, text)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def _reply(self, number: int, body: dict[str, Any], path: str) -> Reply:
        assert path == "/v1/chat/completions"
        said = self.answer(number, body)
        if isinstance(said, tuple):
            return said  # type: ignore[return-value]
        content = said if isinstance(said, str) else json.dumps(said)
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        return 200, {"choices": [choice], "usage": {"completion_tokens": 7}}, {}

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(answer: Callable[[int, dict[str, Any]], Any]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def endpoint(server: Server, **options: Any) -> Endpoint:
    return Endpoint(server.url, "writer", **{"first_pause": 0.001, "timeout": 30.0, **options})


def words(seed: object, number: int = 12) -> str:
    rng = random.Random(str(seed))
    return " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(number))


def pairs(seed: object, number: int) -> dict[str, Any]:
    return {"records": [{"instruction": words((seed, n)), "output": f"answer {n}"} for n in range(number)]}


def by_topic(_number: int, body: dict[str, Any]) -> Any:
    """An answer that depends on the request alone."""
    return pairs(body["seed"], 2)


TASK = SynthTask("instruction", ("ice", "fire", "tea"), seed=100, per_request=2)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_records_are_what_the_readers_read(serve: Callable[..., Server], tmp_path: Path) -> None:
    server, out = serve(by_topic), tmp_path / "sub" / "train.jsonl"
    report = synthesize(TASK, endpoint(server, api_key="sesame"), out, count=5)
    assert (report.records, report.requests, report.tokens, report.dropped.total()) == (5, 3, 21, 0)
    assert [record["topic"] for record in lines(out)] == ["ice", "ice", "fire", "fire", "tea"]
    records = read_records(out)
    assert records.files[0].unused == ("topic",)
    assert isinstance(records[0], ChatRecord)
    assert records[0].messages[1].content == "answer 0"
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer sesame"}
    body = min(server.bodies, key=lambda each: each["seed"])
    assert (body["model"], body["seed"], body["max_tokens"]) == ("writer", 100, 2048)
    assert body["response_format"]["json_schema"]["schema"]["properties"]["records"]["maxItems"] == 2
    assert "about this topic: ice." in body["messages"][1]["content"]


def test_the_file_does_not_depend_on_who_answers_first(serve: Callable[..., Server], tmp_path: Path) -> None:
    def slow(number: int, body: dict[str, Any]) -> Any:
        time.sleep(random.Random(number).random() * 0.02)
        return by_topic(number, body)

    for name, concurrency in (("a", 1), ("b", 6)):
        synthesize(TASK, endpoint(serve(slow)), tmp_path / name, count=30, concurrency=concurrency)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_it_goes_on_where_it_stopped_and_writes_what_one_run_would(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    synthesize(TASK, endpoint(serve(by_topic)), whole, count=20)

    def failing(_number: int, body: dict[str, Any]) -> Any:
        return (403, {"error": {"message": "no credit"}}, {}) if body["seed"] >= 105 else by_topic(0, body)

    with pytest.raises(ServiceError, match=r"refuses the request \(status 403\): no credit\."):
        synthesize(TASK, endpoint(serve(failing)), cut, count=20)
    assert len(lines(cut)) == 10
    with cut.open("a") as file:
        file.write('{"instruction": "half a li')  # the process died while it wrote
    server = serve(by_topic)
    report = synthesize(TASK, endpoint(server), cut, count=20, concurrency=1)
    assert cut.read_bytes() == whole.read_bytes()
    assert (len(server.bodies), report.requests, report.records) == (5, 10, 20)
    more = synthesize(TASK, endpoint(serve(by_topic)), cut, count=24)
    assert more.records == 24
    assert lines(cut)[:20] == lines(whole)


def test_a_file_of_another_task_is_not_touched_unless_told(serve: Callable[..., Server], tmp_path: Path) -> None:
    out, server = tmp_path / "a.jsonl", serve(by_topic)
    synthesize(TASK, endpoint(server), out, count=2)
    before = out.read_bytes()
    other = SynthTask("instruction", ("snow",), seed=1)
    with pytest.raises(DataError, match=r"a.jsonl exists, and was not begun by this task.*--overwrite"):
        synthesize(other, endpoint(server), out, count=2)
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"text": "precious"}\n')
    with pytest.raises(DataError, match="was not begun by this task"):
        synthesize(TASK, endpoint(server), mine, count=2)
    assert (out.read_bytes(), mine.read_text()) == (before, '{"text": "precious"}\n')
    assert synthesize(other, endpoint(server), out, count=2, overwrite=True).records == 2
    with pytest.raises(DataError, match="cannot be written"):
        synthesize(TASK, endpoint(server), tmp_path, count=2)


def test_what_is_dropped_is_counted_by_its_reason(serve: Callable[..., Server], tmp_path: Path) -> None:
    known = words("seen", 30)
    good = {"instruction": known, "output": "[1, 2]"}
    cut = {"message": {"content": '{"records": [{"instr'}, "finish_reason": "length"}
    answers: list[Any] = [
        (200, {"choices": [cut]}, {}),
        "I cannot do that.",
        {"records": [good, {**good, "instruction": known.upper() + "!"}, {**good, "instruction": known + " again"}]},
        {"records": [{"instruction": words(1), "output": "none"}, {"instruction": words(2), "output": '["x"]'}]},
        {"records": [{"instruction": "short", "output": "[1]"}, {"instruction": words(3)}, "text"]},
        {"records": [{"instruction": " " * 20, "output": "[1]"}, {"instruction": "an example of it", "output": "[2]"}]},
        "Here you are:\n```json\n" + json.dumps([{"instruction": words(4), "output": "[4]"}]) + "\n```\nEnjoy!",
        "Sure. " + json.dumps({"records": [{"instruction": words(5), "output": "[5]"}]}) + " Bye.",
    ]  # fmt: skip
    task = SynthTask(
        "instruction", ("numbers",), fields={"instruction": {"minLength": 10}}, structured=False,
        output_schema={"type": "array", "items": {"type": "integer"}},
        examples=({"instruction": "An example of it.", "output": "[]"},),
    )  # fmt: skip
    server = serve(lambda number, _: answers[number])
    report = synthesize(task, endpoint(server), tmp_path / "a.jsonl", count=3, concurrency=1)
    assert [record["output"] for record in lines(tmp_path / "a.jsonl")] == ["[1, 2]", "[4]", "[5]"]
    assert report.dropped == {
        "answer: cut off at max_tokens": 1,
        "answer: no JSON of the form asked for": 1,
        "duplicate": 2,  # in other letters, and of an example
        "near duplicate": 1,
        "output_schema: output: no JSON": 1,
        "output_schema: output: type 'integer'": 1,
        "schema: instruction: minLength 10": 1,
        "schema: record: required ['instruction', 'output']": 1,
        "schema: record: type 'object'": 1,
        "schema: instruction: empty": 1,
    }
    text = server.bodies[0]["messages"][1]["content"]
    assert "response_format" not in server.bodies[0]
    assert "An example of it." in text
    assert 'satisfies this JSON schema: {"type": "array"' in text
    assert 'instruction: {"minLength": 10}' in text


def test_preferences(serve: Callable[..., Server], tmp_path: Path) -> None:
    def answer(number: int, _body: dict[str, Any]) -> Any:
        same = {"prompt": words((number, 0)), "chosen": "a", "rejected": " a "}
        return {"records": [same, {"prompt": words((number, 1)), "chosen": "a", "rejected": "b"}]}

    task = SynthTask("preference", ("tea",), languages=("Korean",))
    server = serve(answer)
    report = synthesize(task, endpoint(server), tmp_path / "a.jsonl", count=2)
    assert report.dropped == {"chosen and rejected are the same": 2}
    assert isinstance(read_records(tmp_path / "a.jsonl")[1], PreferenceRecord)
    assert "Language: Korean." in server.bodies[0]["messages"][1]["content"]
    assert "seed" not in server.bodies[0]


def test_busy_servers_are_asked_again_and_others_are_not(serve: Callable[..., Server], tmp_path: Path) -> None:
    busy = [(429, {"error": "slow down"}, {"retry-after": "0.01"}), (503, b"<html>", {}), (500, {}, {})]
    server = serve(lambda number, _: busy[number] if number < 3 else pairs(number, 1))
    assert synthesize(TASK, endpoint(server), tmp_path / "a", count=1, concurrency=1).records == 1
    assert len(server.bodies) == 4

    always = serve(lambda *_: (503, {"error": {"message": "loading"}}, {}))
    with pytest.raises(ServiceError, match=r"\(status 503\): loading\. It was asked 3 times; try again later\."):
        synthesize(TASK, endpoint(always, retries=2), tmp_path / "b", count=1, concurrency=1)
    assert len(always.bodies) == 3

    strict = serve(lambda *_: (400, {"error": {"message": "response_format is unknown"}}, {}))
    with pytest.raises(ServiceError, match="write `structured: false` into the task"):
        synthesize(TASK, endpoint(strict), tmp_path / "c", count=1, concurrency=1)
    assert len(strict.bodies) == 1

    other = serve(lambda *_: (404, {"error": {"message": "There is no model 'writer'."}}, {}))
    with pytest.raises(ServiceError, match=r"There is no model 'writer'\.$"):
        synthesize(TASK, endpoint(other), tmp_path / "e", count=1, concurrency=1)

    odd = serve(lambda *_: (200, {"hello": 1}, {}))
    with pytest.raises(ServiceError, match="no chat completion"):
        synthesize(TASK, endpoint(odd), tmp_path / "d", count=1)


def test_endpoints_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="'localhost' is no address such as"):
        Endpoint("localhost", "m")
    nowhere = Endpoint("http://127.0.0.1:9", "m")
    with pytest.raises(ServiceError, match="cannot be reached"):
        synthesize(TASK, nowhere, tmp_path / "a", count=1, concurrency=1)


def test_a_model_that_only_repeats_itself_ends_the_run(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(lambda *_: pairs("always", 1))
    with pytest.raises(
        DataError, match=r"50 requests in a row brought no new record, with 1 kept.*50 duplicate\. Give"
    ):
        synthesize(TASK, endpoint(server), tmp_path / "a.jsonl", count=2, concurrency=8)
    assert len(lines(tmp_path / "a.jsonl")) == 1


YAML = """\
kind: instruction
topics: [ice, fire]
fields:
  output: {maxLength: 40}
"""


def test_task_files(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(YAML)
    task = SynthTask.from_yaml(path)
    assert task.record_schema["properties"]["output"] == {"type": "string", "minLength": 1, "maxLength": 40}
    assert task.fingerprint == SynthTask.from_yaml(path).fingerprint
    for change, said in {
        "topic: ice": r"line 5: topic is not a key that is known here. Did you mean topics\?",
        "per_request: 0": "line 5: per_request is 0; it is at least 1",
        "shown_examples: -1": "line 5: shown_examples is -1",
        "similarity: 2": "line 5: similarity is 2; it lies between 0 and 1",
        "temperature: -1": "line 5: temperature is -1; it lies between 0 and 2",
        "examples: [{instruction: a}]": "line 5: examples has {'instruction': 'a'}; each has the texts",
        "output_schema: {type: number, minimum: x}": "line 5: output_schema is no valid JSON schema",
    }.items():
        path.write_text(f"{YAML}{change}\n")
        with pytest.raises(ConfigError, match=said):
            SynthTask.from_yaml(path)
    for text, said in {
        "kind: poem\ntopics: [a]": "kind must be instruction or preference, not 'poem'",
        "kind: instruction\ntopics: []": "topics is empty",
        "kind: instruction": "topics is missing",
        YAML.replace("output:", "chosen:"): "fields has 'chosen'; a record of the kind instruction has",
        YAML.replace("maxLength", "maxLenght"): "no valid JSON schema: the keyword 'maxLenght' is not known",
        YAML.replace("maxLength: 40", "type: number"): "it is the JSON schema of a string",
        YAML.replace("40", "-1"): "fields holds no valid JSON schema",
    }.items():
        path.write_text(text)
        with pytest.raises(ConfigError, match=re.escape(said)):
            SynthTask.from_yaml(path)


@given(st.text(max_size=40), st.text(max_size=40))
def test_equal_texts_are_duplicates_and_only_like_ones_near(one: str, other: str) -> None:
    index = NearIndex(0.7)
    index.add(one)
    assert index.verdict(one) == "duplicate"
    verdict = index.verdict(other)
    assert (verdict == "duplicate") == (plain(one) == plain(other))
    if verdict == "near duplicate":
        assert len(set(plain(one)) & set(plain(other))) > 0


def test_near_duplicates_are_found_among_many() -> None:
    index = NearIndex(0.7)
    texts = [words(seed, 20) for seed in range(400)]
    for text in texts:
        assert index.verdict(text) is None
        index.add(text)
    changed = [text.replace(text.split()[4], "exchanged") for text in texts]
    assert [index.verdict(text) for text in changed] == ["near duplicate"] * 400
    korean = "오늘 서울의 날씨를 한 문장으로 알려 주세요"
    index.add(korean)
    assert index.verdict(korean + " 네") == "near duplicate"
    assert index.verdict("내일 부산의 축제를 세 문장으로 소개해 주세요") is None
