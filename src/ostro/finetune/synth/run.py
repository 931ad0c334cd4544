"""Requests made side by side, their records kept in order: what is written does not depend on who answers first."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostro.errors import DataError
from ostro.finetune.synth.checks import records_of
from ostro.finetune.synth.endpoint import Endpoint, Written
from ostro.finetune.synth.near import NearIndex
from ostro.finetune.synth.task import FIELDS, SynthTask

FRUITLESS = 50
"""So many requests in a row without a new record end the run; or twice as many as there are topics."""
_FORMAT = 1


@dataclass
class SynthReport:
    """What came of a run, earlier parts of it included."""

    path: str
    records: int = 0
    requests: int = 0
    tokens: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        dropped = dict(self.dropped.most_common())
        kept = {"path": self.path, "records": self.records, "requests": self.requests}
        return {**kept, "completion_tokens": self.tokens, "dropped": dropped}


def synthesize(
    task: SynthTask,
    endpoint: Endpoint,
    out: str | os.PathLike[str],
    *,
    count: int,
    concurrency: int = 4,
    overwrite: bool = False,
    progress: Callable[[SynthReport], None] = lambda _: None,
) -> SynthReport:
    """Ask until `out`, a file of JSON lines, has `count` records; every kept record is written at once.

    A file that an earlier run began is gone on with; beside it lies FILE.progress.json, which says how far it was.
    DataError where the file was made by another task, or where nothing new comes any more; ServiceError from the
    endpoint. What was kept until then stays.
    """
    with _Store(Path(out).expanduser(), task, overwrite=overwrite) as store:
        limit = max(FRUITLESS, 2 * len(task.topics))
        requests: deque[Future[Written]] = deque()
        number, fruitless = store.report.requests, 0
        while store.report.records < count:
            while len(requests) < concurrency:
                requests.append(_begun(endpoint, task.body(number)))
                number += 1
            written = requests.popleft().result()
            fruitless = 0 if store.take(written, count) else fruitless + 1
            progress(store.report)
            if fruitless >= limit:
                raise DataError(_fruitless(store.report, limit))
        return store.report


def _begun(endpoint: Endpoint, body: dict[str, Any]) -> Future[Written]:
    """A request under way in a thread of its own, which nobody waits for when the run ends before it."""
    future: Future[Written] = Future()

    def ask() -> None:
        try:
            future.set_result(endpoint.write(body))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=ask, name="ostro-synth", daemon=True).start()
    return future


def _fruitless(report: SynthReport, limit: int) -> str:
    reasons = "; ".join(f"{number} {reason}" for reason, number in report.dropped.most_common(3))
    return (
        f"{limit} requests in a row brought no new record, with {report.records} kept in {report.path}. Dropped so "
        f"far: {reasons}. Give more topics, looser limits, or a stronger model."
    )


class _Store:
    """The file of records, its index of what is in it, and the progress beside it."""

    def __init__(self, path: Path, task: SynthTask, *, overwrite: bool) -> None:
        self._path, self._task = path, task
        self._progress = path.with_name(f"{path.name}.progress.json")
        self.report = SynthReport(str(path))
        self._known = NearIndex(task.similarity)
        self._question = FIELDS[task.kind][0]
        for example in task.examples:
            self._known.add(example[self._question])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if overwrite:
                path.unlink(missing_ok=True)
                self._progress.unlink(missing_ok=True)
            size = self._resume() if path.exists() else 0
            self._file = path.open("ab")
            self._file.truncate(size)
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}.") from None

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _resume(self) -> int:
        """Take in the records of an earlier run; the size of the file without a line that was cut."""
        content = self._path.read_bytes()
        try:
            state = json.loads(self._progress.read_text(encoding="utf-8"))
            report = SynthReport(
                str(self._path), 0, int(state["requests"]), int(state["tokens"]), Counter(state["dropped"])
            )
            known = state["format"] == _FORMAT and state["task"] == self._task.fingerprint
            size = int(state["bytes"])
        except (OSError, ValueError, KeyError, TypeError):
            if not content:
                return 0
            known = False
        if not known or len(content) < size:
            raise DataError(
                f"{self._path} exists, and was not begun by this task: give another file, or replace it (--overwrite)."
            )
        # What was written behind the last progress belongs to a request that will be made again.
        for line in content[:size].splitlines():
            self._known.add(json.loads(line)[self._question])
            report.records += 1
        self.report = report
        return size

    def take(self, written: Written, count: int) -> int:
        """Keep the records of an answer that are new, while there are fewer than `count`; how many were kept."""
        self.report.requests += 1
        self.report.tokens += written.num_tokens
        topic, kept = self._task.topic(self.report.requests - 1), 0
        for record, problem in records_of(self._task, written.content, written.finish_reason):
            if record is None:
                self.report.dropped[problem] += 1
            elif verdict := self._known.verdict(record[self._question]):
                self.report.dropped[verdict] += 1
            elif self.report.records < count:
                self._known.add(record[self._question])
                self._file.write(json.dumps({**record, "topic": topic}, ensure_ascii=False).encode() + b"\n")
                self.report.records += 1
                kept += 1
        self._file.flush()
        self._note()
        return kept

    def _note(self) -> None:
        """Write the progress, all or nothing."""
        report = self.report
        state = {
            "format": _FORMAT, "task": self._task.fingerprint, "requests": report.requests, "tokens": report.tokens,
            "dropped": report.dropped, "bytes": self._file.tell(),
        }  # fmt: skip
        made = self._progress.with_name(f"{self._progress.name}.new")
        made.write_text(json.dumps(state), encoding="utf-8")
        os.replace(made, self._progress)
