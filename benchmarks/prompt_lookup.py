"""Prompt lookup against plain decoding, on texts of which it is known how much they repeat.

    python benchmarks/prompt_lookup.py --threads 2 --repeats 5 --out benchmarks/prompt_lookup.md

Speed depends on the answer alone: on how many of its tokens stand in the prompt, and in how long passages. So no
trained model is needed, but one that gives the wanted answer. Such a one is made of any shape: the layers are random,
each embedding is so large that they do not change its direction, and the row of the output matrix for token f(t) is
the embedding of token t. Greedy decoding then writes t, f(t), f(f(t)), ... at the full cost of the shape, and f is
chosen so that this is the answer. Its tokens are the same with and without lookup, which is checked.

The answers, of about 100 tokens behind a prompt of about 256:
- extraction: seven fields, each a key of four tokens and a passage of 2 to 24 tokens of the document. The prompt ends
  with the list of the keys, as a prompt that asks for JSON of a given form does;
- extraction, keys not given: the same with keys that stand nowhere in the prompt;
- quotation: one passage of the document;
- nothing repeated: no token of the answer stands in the prompt or twice in the answer.
All tokens of a text differ, so that nothing is found by chance.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cpu_speed import say
from ostro import SamplingParams, __version__, machine
from ostro.bench import find_shape
from ostro.bench.weights import random_weights
from ostro.config.model import ModelConfig
from ostro.engine import EngineConfig, EngineCore
from ostro.models.llama import LlamaWeights
from ostro.models.load import load_weights
from ostro.ops import get_ops
from ostro.ops.base import Ops
from ostro.ops.packing import pack

Ids: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]
DOCUMENT = 240
VALUES = (2, 4, 6, 9, 12, 16, 24)
"""Tokens of the passages of an extraction."""
KEY = 4
_LOUD = 1000.0  # an embedding against what the layers add to it
_FIRST_WORD = 300


Found: TypeAlias = dict[str, dict[str, list["Run"]]]
"""The runs of a task, by its name and by the mode of speculation."""


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt and the answer that the model is to give."""

    name: str
    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def copied(self) -> float:
        """The share of the answer's tokens that stand in the prompt."""
        return sum(token in self.prompt for token in self.answer) / len(self.answer)


def tasks(vocab: int) -> list[Task]:
    """The four tasks."""
    fresh = iter(np.random.default_rng(0).permutation(np.arange(_FIRST_WORD, vocab)).tolist())

    def some(count: int) -> list[int]:
        return [next(fresh) for _ in range(count)]

    def extraction(name: str, given: bool) -> Task:
        document, keys, last = some(DOCUMENT), [some(KEY) for _ in VALUES], some(2)
        gap = DOCUMENT // len(VALUES)
        passages = [document[place * gap : place * gap + length] for place, length in enumerate(VALUES)]
        answer = [token for key, passage in zip(keys, passages, strict=True) for token in (*key, *passage)]
        listed = [token for key in keys for token in (*key, *some(1))] if given else []
        return Task(name, (*document, *listed, *last), tuple(answer))

    document, last = some(DOCUMENT), some(2)
    quotation = Task("quotation", (*document, *last), tuple(document[20:120]))
    nothing = Task("nothing repeated", tuple(some(DOCUMENT)), tuple(some(100)))
    return [extraction("extraction", True), extraction("extraction, keys not given", False), quotation, nothing]


def successors(all_tasks: list[Task], vocab: int) -> Ids:
    """f as a permutation (vocab,): every task's prompt leads to its answer; other tokens lead anywhere."""
    chosen: dict[int, int] = {}
    for task in all_tasks:
        chosen.update(zip((task.prompt[-1], *task.answer), task.answer, strict=False))
    assert len(set(chosen.values())) == len(chosen), "two tokens lead to the same one"
    free = iter(sorted(set(range(vocab)) - set(chosen.values())))
    return np.array([chosen[token] if token in chosen else next(free) for token in range(vocab)])


def reciting_weights(ops: Ops, config: ModelConfig, following: Ids, threads: int) -> LlamaWeights:
    """Packed weights of the shape whose greedy answers follow `following`."""
    tensors = random_weights(config, 4, num_threads=threads)
    shape = (config.vocab_size, config.hidden_size)
    embedding = np.random.default_rng(1).standard_normal(shape, np.float32) * np.float32(_LOUD)
    tensors["model.embed_tokens.weight"] = pack(embedding, "P4")
    tensors["lm_head.weight"] = pack(head_of(embedding, following) / np.float32(_LOUD), "P8")
    return load_weights(ops, config, tensors)


def head_of(embedding: Floats, following: Ids) -> Floats:
    """The output matrix (vocab, K) whose row for token `following[t]` is the embedding of token t."""
    head = np.empty_like(embedding)
    head[following] = embedding
    return head


@dataclass(frozen=True, slots=True)
class Run:
    """An answer: tokens per second behind its first one, and tokens a step."""

    rate: float
    per_step: float


def decode(engine: EngineCore, task: Task) -> Run:
    """Have the model answer. SystemExit where the answer is another than the one that was built in."""
    engine.reset_prefix_cache()
    params = SamplingParams(temperature=0, max_tokens=len(task.answer), ignore_eos=True)
    engine.add_request("answer", list(task.prompt), params)
    first = steps = 0
    begun = ended = 0.0
    tokens: list[int] = []
    while engine.has_unfinished:
        steps += bool(first)
        for output in engine.step():
            if output.error is not None:
                raise output.error
            tokens, ended = list(output.outputs[0].token_ids), time.perf_counter()
            if not first:
                first, begun = len(tokens), ended
    if tuple(tokens) != task.answer:
        raise SystemExit(f"{task.name}: the answer is not the one that was built in, but {tokens}.")
    return Run((len(tokens) - first) / (ended - begun), (len(tokens) - first) / steps)


def measure(options: argparse.Namespace, tell: Callable[[str], None]) -> Found:
    """The runs of every task, plain and with lookup, in every round."""
    config = find_shape(options.shape, options.layers)
    if config.tie_word_embeddings:
        raise SystemExit(f"{options.shape} has one matrix for embeddings and output; choose a shape that has two.")
    ops = get_ops("cpu", num_threads=options.threads)
    all_tasks = tasks(config.vocab_size)
    tell("making the weights")
    weights = reciting_weights(ops, config, successors(all_tasks, config.vocab_size), options.threads)
    engines = {mode: EngineCore(ops, config, weights, engine_config=engine_config(mode)) for mode in ("off", "auto")}
    found: Found = {task.name: {"off": [], "auto": []} for task in all_tasks}
    for number in range(options.repeats + 1):  # the first round is not counted: engines learn what a step takes
        for task in all_tasks:
            for mode, engine in engines.items():
                run = decode(engine, task)
                if number:
                    found[task.name][mode].append(run)
                    tell(f"round {number}, {task.name}, speculation {mode}: {run.rate:.2f} tokens/s")
    return found


def engine_config(speculation: str) -> EngineConfig:
    """An engine for one of the texts at a time."""
    blocks = -(-2 * (DOCUMENT + 400) // 16)
    return EngineConfig(num_blocks=blocks, kv_dtype="float16", max_num_seqs=1, speculation=speculation)


def page(options: argparse.Namespace, found: Found, load: float) -> str:
    """The table as Markdown."""
    config = find_shape(options.shape, options.layers)
    lines = [
        "# Prompt lookup",
        "",
        f"`python benchmarks/prompt_lookup.py --shape {options.shape} --layers {config.num_hidden_layers} --threads "
        f"{options.threads} --repeats {options.repeats}`, {datetime.now(UTC).date()}: {machine.cpu_model()}, "
        f"{platform.system()} {platform.release()}; ostro {__version__}, Python {platform.python_version()}; load "
        f"average before the start {load:.2f}.",
        "",
        f"{options.shape}, {config.num_hidden_layers} layers, 4 bits; tokens/s of the answer behind its first token, "
        f"medians of {options.repeats} rounds in which plain decoding and lookup took turns. Both gave the same "
        "tokens. What the tasks are, and how random layers come to give the wanted answer, stands in the script.",
        "",
        "| task | of the answer in the prompt | plain | with lookup | gain | tokens a step |",
        "|---|---|---|---|---|---|",
    ]
    gains = {}
    for task in tasks(config.vocab_size):
        plain, lookup = (statistics.median(run.rate for run in found[task.name][mode]) for mode in ("off", "auto"))
        steps = statistics.median(run.per_step for run in found[task.name]["auto"])
        gains[task.name] = lookup / plain
        lines.append(
            f"| {task.name} | {100 * task.copied:.0f} % | {plain:.2f} | {lookup:.2f} | {lookup / plain:.2f} x "
            f"| {steps:.1f} |"
        )
    verdicts = [f"{bound} x: {'' if gains['extraction'] >= bound else 'not '}reached" for bound in (1.8, 3)]
    lines += ["", f"Target for extraction: {verdicts[0]}; aim {verdicts[1]}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="mistral-7b", help="a shape that ostro bench knows (default %(default)s)")
    parser.add_argument("--layers", type=int, help="its first layers only (default all)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default %(default)s)")
    parser.add_argument("--out", type=Path, help="the Markdown page that is written (default: print it)")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    text = page(options, measure(options, say), load)
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")
        say(f"written to {options.out}")


if __name__ == "__main__":
    main()
