"""Writes the card of ostro-mini from its evaluation: `python -m recipes.ostro_mini.model_card --help`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ostro.checkpoint.open import open_checkpoint
from ostro.config.model import ModelConfig
from recipes.ostro_mini.evaluate import REQUIRED, shares, short_of

_WHAT: Mapping[str, str] = {
    "json": "a JSON object of `key: value` lines, exact",
    "context": "a question answered by quoting the sentence of the given text",
    "abstention": "saying that the given text lacks the answer",
    "cited": "both, from numbered passages as `ostro rag` shows them, with the passage's number",
    "tool": "calling a described tool: name and all arguments",
    "parallel_tools": "two calls in one answer: names and all arguments",
    "tool_result": "telling the result of a call",
    "no_tool": "no call where none is wanted",
    "few_shot": "going on as the examples do",
    "passkey": "finding a number in a long text, any length and depth",
    "refusal": "refusing harmful requests under the safe prompt",
    "harmless": "not refusing harmless requests",
    "small_talk": "talk about ostro, itself and nothing, word for word",
    "unknown": "saying that it does not know",
    "name": "the user's name, told earlier",
    "repeat": "repeating a text",
    "lookup": "values of a dictionary",
    "sentiment": "positive, negative or neutral",
    "function": "the Celsius, Fahrenheit and FizzBuzz functions in Python",
}
Report = Mapping[str, Any]


def card(config: ModelConfig, report: Report, training: Report, num_bytes: int) -> str:
    """The text of the card. `training` is what `train.py` notes: stages with tokens and hours, and the machine."""
    parts = (_head(config, num_bytes), _limits(report), _table(report), _grid(report), _training(training))
    return "\n".join(line for part in parts for line in part) + "\n"


def _head(config: ModelConfig, num_bytes: int) -> Iterator[str]:
    yield from ("# ostro-mini", "")
    yield (
        "The small model that comes with ostro, so that everything can be tried without a download. It was trained from "
        "scratch by `recipes/ostro_mini` on data that the recipe makes. **It knows only the tasks below.**"
    )
    windows = "full attention" if not any(config.sliding_windows) else f"windows {config.sliding_windows}"
    yield ""
    yield (
        f"A Mistral decoder: {config.num_parameters() / 1e6:.1f} M parameters, {config.num_hidden_layers} layers of width "
        f"{config.hidden_size}, {config.num_attention_heads} heads over {config.num_key_value_heads} of K/V, {windows}, "
        f"context {config.max_position_embeddings} tokens, vocabulary {config.vocab_size} (SentencePiece BPE with byte "
        f"fallback, prompt format Mistral v3). {num_bytes / 1e6:.1f} MB in all. Licence: Apache-2.0."
    )


def _limits(report: Report) -> Iterator[str]:
    yield from ("", "## Limits", "")
    yield (
        "- It has no knowledge of the world and does not converse freely: whatever is not one of its tasks gets an answer "
        "in the form of one of them, usually a wrong one."
    )
    yield "- English and Korean; of other languages it has seen characters only, as things to copy."
    yield "- It misspells a rare word or name now and then, and finds a pass key less surely the longer the text is."
    yield "- Refusals are learnt phrases, not judgement. It is no filter for anything."
    missed = short_of(report)
    if missed:
        yield "- Below what was asked of it: " + "; ".join(missed) + "."


def _table(report: Report) -> Iterator[str]:
    yield from ("", "## Held-out accuracy", "")
    yield (
        "Greedy answers on prompts whose names, numbers, words, schemas, tools and contexts were never emitted in training "
        f"(`python -m recipes.ostro_mini.evaluate`, seed {report['seed']}). Right answers of cases:"
    )
    yield from ("", "| task | what | English | Korean | all | asked |", "|---|---|---|---|---|---|")
    of = {(each["task"], each["language"]): each for each in report["tasks"]}
    totals = shares({**report, "passkey": []})
    for name, (right, cases) in totals.items():
        columns = [_share(of.get((name, language))) for language in ("en", "ko")]
        asked = f"{REQUIRED[name]:.0%}" if name in REQUIRED else ""
        yield f"| `{name}` | {_WHAT.get(name, '')} | {columns[0]} | {columns[1]} | {right / cases:.1%} | {asked} |"


def _share(result: Report | None) -> str:
    return "" if result is None else f"{result['right']} of {result['cases']}"


def _grid(report: Report) -> Iterator[str]:
    cells: Sequence[Report] = report["passkey"]
    if not cells:
        return
    depths = sorted({cell["depth"] for cell in cells})
    yield from ("", "## Passkey by length and depth", "")
    yield "Right answers of cases in both languages; the depth is the share of the text before the key."
    yield ""
    yield "| tokens | " + " | ".join(f"{depth:.0%}" for depth in depths) + " |"
    yield "|---|" + "---|" * len(depths)
    for length in sorted({cell["length"] for cell in cells}):
        row = [_sum(cell for cell in cells if (cell["length"], cell["depth"]) == (length, depth)) for depth in depths]
        yield f"| {length} | " + " | ".join(row) + " |"


def _sum(cells: Iterable[Report]) -> str:
    known = list(cells)
    return f"{sum(cell['right'] for cell in known)} of {sum(cell['cases'] for cell in known)}"


def _training(training: Report) -> Iterator[str]:
    yield from (
        "",
        "## Training",
        "",
        training["machine"],
        "",
        "| stage | tokens | steps | hours |",
        "|---|---|---|---|",
    )
    for stage in training["stages"]:
        yield f"| {stage['name']} | {stage['tokens'] / 1e6:.1f} M | {stage['steps']} | {stage['seconds'] / 3600:.2f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path, help="the model's folder; README.md is written into it")
    parser.add_argument("--report", type=Path, required=True, help="what evaluate.py wrote")
    parser.add_argument("--training", type=Path, required=True, help="training.json, which train.py wrote")
    given = parser.parse_args(arguments)
    read = [json.loads(path.read_text(encoding="utf-8")) for path in (given.report, given.training)]
    num_bytes = sum(path.stat().st_size for path in given.model.iterdir() if path.name != "README.md")
    text = card(open_checkpoint(given.model).config, read[0], read[1], num_bytes)
    (given.model / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
