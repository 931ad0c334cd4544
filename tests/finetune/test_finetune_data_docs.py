"""docs/finetuning-data.md: every record in it is read as the format that it stands under, and every key is told."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from ostro.finetune.record_forms import ANSWERS, FORMS, QUESTIONS
from ostro.finetune.records import read_records
from ostro.finetune.synth import SynthTask

PAGE = (Path(__file__).parents[2] / "docs" / "finetuning-data.md").read_text(encoding="utf-8")


def test_every_record_is_of_the_format_it_stands_under(tmp_path: Path) -> None:
    shown = set()
    for found in re.finditer(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        path = tmp_path / "a.jsonl"
        path.write_text(found[1], encoding="utf-8")
        format = read_records(path).files[0].format
        assert read_records(path).files[0].unused == ()
        assert (
            format in re.findall(r"^\*\*`(\w+)`\*\*(?: and \*\*`(\w+)`\*\*)?", PAGE[: found.start()], re.MULTILINE)[-1]
        )
        shown.add(format)
    assert shown == set(FORMS)


def test_every_name_of_a_field_is_told() -> None:
    assert all(f"`{name}`" in PAGE for name in (*QUESTIONS, *ANSWERS))


def test_the_task_is_one_and_every_key_is_told(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "task.yaml").write_text(block, encoding="utf-8")
    assert SynthTask.from_yaml(tmp_path / "task.yaml").topic(1) == "delivery times"
    table = PAGE.split("| key | meaning | default |")[1].split("\n\n")[0]
    told = [name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert set(told) == {field.name for field in dataclasses.fields(SynthTask)}
