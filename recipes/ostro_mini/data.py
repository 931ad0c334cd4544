"""Writes the data of ostro-mini: `python -m recipes.ostro_mini.data --out DIR`.

    pretrain.jsonl   {"text"}
    short.jsonl      {"messages", "tools"?}          short conversations, to begin the fine-tuning with
    sft.jsonl        {"messages", "tools"?}          conversations of all lengths
    dense.jsonl      {"messages", "tools"?}          more of what is hard, with many questions on one text
    cited.jsonl      {"messages", "tools"?}          questions on numbered passages among others
    long.jsonl       {"messages", "tools"?}          passkeys in long texts among others, for the end of the fine-tuning
    dpo.jsonl        {"messages", "chosen", "rejected", "tools"?}
    heldout.jsonl    {"task", "language", "safe_prompt", "messages", "tools", "answer"}

Assistants' messages with "weight": 0 are not trained. The same seed gives the same files. Everything but heldout.jsonl is of the split `train`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ostro.chat.normalize import SAFE_PROMPT
from recipes.ostro_mini.pretrain import document
from recipes.ostro_mini.sample import Sample, system
from recipes.ostro_mini.split import Split
from recipes.ostro_mini.tasks import TASKS, context, json_lines, passkey, recall, tools

_PREFERENCES = {
    "refusal": 2.0, "harmless": 2.0, "context": 2.0, "abstention": 2.0, "json": 1.0, "tool": 1.0, "parallel_tools": 0.5,
    "no_tool": 0.5, "lookup": 0.5, "sentiment": 0.5,
}  # fmt: skip


_DENSE = {
    "json": 1.5, "context": 3.0, "abstention": 1.5, "tool": 3.5, "parallel_tools": 5.5, "no_tool": 1.0, "tool_result": 0.7,
    "few_shot": 3.0, "lookup": 1.5, "unknown": 0.4, "small_talk": 0.6,
}  # fmt: skip
_BESIDE_LONG = 4
_MANY: Mapping[str, Callable[[random.Random, Split], Sample]] = {
    "json": partial(json_lines.generate, dense=True),
    "context": partial(context.generate, absent=False, dense=True),
    "abstention": partial(context.generate, absent=True, dense=True),
    "lookup": partial(recall.generate_lookup, dense=True),
    "parallel_tools": tools.generate_many,
}


def texts(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Documents for pretraining."""
    rng = random.Random(f"pretrain {seed}")
    return ({"text": document(rng)} for _ in range(count))


def samples(count: int, seed: int, split: Split = "train", weights: dict[str, float] | None = None) -> Iterator[Sample]:
    """Samples of all tasks, mixed by their weights or by these."""
    rng = random.Random(f"{split} {seed}")
    shares = weights or {task.name: task.weight for task in TASKS.values()}
    for name in rng.choices(list(shares), weights=list(shares.values()), k=count):
        yield TASKS[name].generate(rng, split)


def dense_samples(count: int, seed: int) -> Iterator[Sample]:
    """Samples in which more is learnt from as many tokens: many questions on one text, and mostly the hard tasks."""
    rng = random.Random(f"dense {seed}")
    for name in rng.choices(list(TASKS), weights=[_DENSE.get(name, 0.15) for name in TASKS], k=count):
        generate = _MANY.get(name, TASKS[name].generate)
        yield generate(rng, "train")


def short_samples(count: int, seed: int, max_bytes: int = 600) -> Iterator[Sample]:
    """Samples of all tasks whose text is at most so long; a model learns sooner to copy where there is little else."""
    rng = random.Random(f"short {seed}")
    tasks = list(TASKS.values())
    for task in rng.choices(tasks, weights=[task.weight for task in tasks], k=count):
        sample = task.generate(rng, "train")
        while _size(sample) > max_bytes:
            sample = task.generate(rng, "train")
        yield sample


def _size(sample: Sample) -> int:
    texts = [message["content"] for message in (*sample.messages, sample.answer.message())]
    calls = [dict(call.arguments) for call in sample.answer.tool_calls]
    return len(json.dumps([texts, calls, sample.tools], ensure_ascii=False).encode())


def heldout_samples(task: str, count: int, seed: int = 0) -> list[Sample]:
    """What the evaluation asks of one task."""
    rng = random.Random(f"heldout {task} {seed}")
    return [TASKS[task].generate(rng, "heldout") for _ in range(count)]


def conversation(sample: Sample) -> dict[str, Any]:
    """A sample as a training record: the guardrail is written out, and the answer is the last message."""
    record: dict[str, Any] = {"messages": [*prompt_messages(sample), sample.answer.message()]}
    if sample.tools:
        record["tools"] = list(sample.tools)
    return record


def prompt_messages(sample: Sample) -> list[dict[str, Any]]:
    """The messages with the guardrail where it belongs, and with the weights of training."""
    messages = [dict(message) for message in sample.messages]
    if not sample.safe_prompt:
        return messages
    if messages[0]["role"] == "system":
        return [system(f"{SAFE_PROMPT}\n\n{messages[0]['content']}"), *messages[1:]]
    return [system(SAFE_PROMPT), *messages]


def preference(sample: Sample) -> dict[str, Any] | None:
    """A sample with a worse answer as a record of a pair; None where it has none."""
    if sample.rejected is None:
        return None
    messages = [{key: value for key, value in m.items() if key != "weight"} for m in prompt_messages(sample)]
    record: dict[str, Any] = {
        "messages": messages, "chosen": sample.answer.message(), "rejected": sample.rejected.message(),
    }  # fmt: skip
    if sample.tools:
        record["tools"] = list(sample.tools)
    return record


def preferences(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Pairs of a better and a worse answer."""
    made = (preference(sample) for sample in samples(2 * count, seed + 1_000_000, weights=_PREFERENCES))
    kept = (record for record in made if record)
    return (record for record, _ in zip(kept, range(count), strict=False))


def cited_samples(count: int, seed: int) -> Iterator[Sample]:
    """Questions on numbered passages, and as many samples of all tasks."""
    others = samples(count // 2, seed + 3_000_000)
    for cited in samples(count - count // 2, seed, weights={"cited": 1.0}):
        yield cited
        yield from itertools.islice(others, 1)


def long_samples(count: int, seed: int, sentences: tuple[int, int] = (60, 600)) -> Iterator[Sample]:
    """Passkeys in texts of so many sentences, every other one long, and behind each a few samples of all tasks, which
    keep those alive.
    """
    lengths = itertools.cycle((sentences, (sentences[1] // 2, sentences[1])))
    rng = random.Random(f"long {seed}")
    others = samples(count * _BESIDE_LONG, seed + 2_000_000)
    for _ in range(count):
        yield passkey.generate(rng, "train", lengths=next(lengths))
        yield from itertools.islice(others, _BESIDE_LONG)


def heldout_record(sample: Sample) -> dict[str, Any]:
    """A held-out sample as JSON."""
    return {
        "task": sample.task, "language": sample.language, "safe_prompt": sample.safe_prompt, "messages": sample.prompt(),
        "tools": list(sample.tools), "answer": sample.answer.message(),
    }  # fmt: skip


def write(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """JSONL; returns how many records there are."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    for name, default in (
        ("pretrain", 60_000),
        ("short", 40_000),
        ("sft", 100_000),
        ("dense", 30_000),
        ("cited", 10_000),
        ("long", 500),
        ("dpo", 4_000),
        ("heldout", 100),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    heldout = (heldout_record(sample) for task in TASKS for sample in heldout_samples(task, given.heldout, given.seed))
    files: dict[str, Iterable[dict[str, Any]]] = {
        "pretrain": texts(given.pretrain, given.seed),
        "short": map(conversation, short_samples(given.short, given.seed)),
        "sft": map(conversation, samples(given.sft, given.seed)),
        "dense": map(conversation, dense_samples(given.dense, given.seed)),
        "cited": map(conversation, cited_samples(given.cited, given.seed)),
        "long": map(conversation, long_samples(given.long, given.seed)),
        "dpo": preferences(given.dpo, given.seed),
        "heldout": heldout,
    }
    for name, records in files.items():
        path = given.out / f"{name}.jsonl"
        print(f"{path}: {write(path, records)} records")


if __name__ == "__main__":
    main()
