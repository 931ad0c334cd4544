"""One JSON object a line for every step and every evaluation: `metrics.jsonl` in the run's folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

FILE = "metrics.jsonl"


class MetricsFile:
    """Appends lines; on resume the lines after the checkpoint are cut off, so that each step stands there once.

    Of several processes one writes; in the others `is_written` is False and nothing happens.
    """

    def __init__(self, output_dir: Path, *, resume_after: int | None, is_written: bool = True) -> None:
        self.path = output_dir / FILE if is_written else Path(os.devnull)
        if not is_written:
            return
        output_dir.mkdir(parents=True, exist_ok=True)
        if resume_after is None:
            self.path.write_text("", encoding="utf-8")
        else:
            kept = [line for line in read_metrics(self.path) if line["step"] <= resume_after]
            self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def __enter__(self) -> Self:
        self._file = self.path.open("a", encoding="utf-8", buffering=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, line: dict[str, Any]) -> None:
        """One line."""
        self._file.write(json.dumps(line) + "\n")


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics file, without a last one that a kill cut; none where there is no file."""
    if not path.is_file():
        return
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            return
        yield line
