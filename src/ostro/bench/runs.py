"""Timing an engine: prompts of a length, and steps of a batch. Everything runs through `EngineCore.step`, as for users.

What is measured is repeated until its time is up or it has been done often enough, and at least once. The first steps
of a batch are not counted.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ostro.cache import KVCache
from ostro.engine import EngineConfig, EngineCore, RequestOutput, SamplingParams
from ostro.errors import RequestError

PREFILL_RUNS = 10
DECODE_STEPS = 100
_WARM_STEPS = 3
_BLOCK_SECONDS = 0.4
"""Between two looks at the machine's ceilings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured: prompts of `prefill` tokens, and `batch` answers at once behind prompts of `context` tokens.

    About `seconds` for each number; a run that has begun is not cut short. `flexible` names those of `prefill` and
    `context` that nobody asked for: where a model's context is too short for them, they are cut to what fits.

    >>> Plan(prefill=(512, 128, 512)).prefill
    (128, 512)
    """

    prefill: tuple[int, ...] = (128, 512, 2048)
    batch: tuple[int, ...] = (1, 2, 4, 8)
    context: int = 128
    seconds: float = 10.0
    flexible: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("prefill", "batch"):
            sizes = getattr(self, name)
            if any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in sizes):
                raise RequestError(f"{name} must be whole numbers of at least 1, not {sizes!r}.", param=name)
            object.__setattr__(self, name, tuple(sorted(set(sizes))))
        if self.context < 1:
            raise RequestError(f"context must be at least 1, not {self.context}.", param="context")
        if not 0 < self.seconds < float("inf"):
            raise RequestError(f"seconds must be greater than 0, not {self.seconds}.", param="seconds")
        if not self.prefill and not self.batch:
            raise RequestError("Nothing is to be measured: give a prefill length or a batch.", param="prefill")

    @property
    def longest(self) -> int:
        """Tokens of the longest text that is run."""
        return max([length + 1 for length in self.prefill] + [self._longest_answer])

    @property
    def _longest_answer(self) -> int:
        return max((self.context + self.most_tokens(batch) for batch in self.batch), default=0)

    def within(self, limit: int) -> Plan:
        """The plan for a model that takes `limit` tokens, with what is flexible cut to that; the rest is as it was.

        >>> Plan(flexible=frozenset({"prefill", "context"})).within(256).prefill
        (128, 255)
        """
        cut: dict[str, Any] = {}
        if "prefill" in self.flexible and limit > 1:
            cut["prefill"] = tuple(min(length, limit - 1) for length in self.prefill)
        if "context" in self.flexible:
            cut["context"] = self.largest_context(limit) or self.context
        return replace(self, **cut)

    def largest_context(self, limit: int) -> int:
        """The most tokens, up to `context`, behind which every batch can be measured within `limit`; 0: none can."""
        sizes = range(self.context, 0, -1)
        return next((size for size in sizes if replace(self, context=size)._longest_answer <= limit), 0)

    def engine_config(self, kv_dtype: str, window: int | None) -> EngineConfig:
        """An engine with just the K/V cache that the plan needs; the rest is as `LLM` has it.

        `window` is the model's largest (None: every token is kept). Prompts are random, so no prefix is kept.
        """
        config = EngineConfig()
        cache = KVCache(1, config.block_size, window)

        def blocks(num_tokens: int) -> int:
            return cache.max_blocks(num_tokens, self._budget) + 1  # the scheduler wants one more for each sequence

        needed = [blocks(length + 1) for length in self.prefill]
        needed += [batch * blocks(self.context + self.most_tokens(batch)) for batch in self.batch]
        return EngineConfig(
            num_blocks=max(needed),
            kv_dtype=kv_dtype,
            max_num_seqs=max((config.max_num_seqs, *self.batch)),
            max_num_batched_tokens=self._budget,
            max_model_len=self.longest,
            enable_prefix_caching=False,
            speculation="off",
        )

    def most_tokens(self, batch: int) -> int:
        """Tokens of an answer: what it gets while the prompts of the others are computed, then what is measured."""
        ahead = -(-batch * self.context // (self._budget - batch)) + 1
        return ahead + _WARM_STEPS + DECODE_STEPS

    @property
    def _budget(self) -> int:
        """Tokens of a step: as `LLM` has it, or more for very large batches."""
        return max(EngineConfig().max_num_batched_tokens, 2 * max(self.batch, default=1))


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second of every run, in order; never empty. `context` is the mean number of tokens attended to.

    `blocks` are the numbers of runs between two looks at the machine: one look before each block, and one at the end.
    """

    values: tuple[float, ...]
    context: float
    blocks: tuple[int, ...] = ()

    @property
    def block_medians(self) -> list[float]:
        """The run in the middle of each block."""
        ends = np.cumsum(self.blocks)
        return [float(np.median(self.values[end - n : end])) for end, n in zip(ends, self.blocks, strict=True)]

    @property
    def median(self) -> float:
        """The run in the middle."""
        return float(np.median(self.values))

    @property
    def middle_half(self) -> tuple[float, float]:
        """The bounds between which half of the runs lie: the quartiles."""
        low, high = np.percentile(self.values, (25, 75))
        return float(low), float(high)


class Blocks:
    """The runs of a measurement, parted into blocks of a fraction of a second by looks at the machine."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.values: list[float] = []
        self._sizes: list[int] = []
        self._look = look
        self._open = 0
        self._look_again()

    def add(self, value: float) -> None:
        """One more run has ended."""
        self.values.append(value)
        self._open += 1
        if time.perf_counter() - self._began > _BLOCK_SECONDS:
            self._close()

    def rates(self, context: float) -> Rates:
        """All of them."""
        if self._open:
            self._close()
        return Rates(tuple(self.values), context, tuple(self._sizes))

    def _close(self) -> None:
        self._sizes.append(self._open)
        self._open = 0
        self._look_again()

    def _look_again(self) -> None:
        self._look()
        self._began = time.perf_counter()


class Meter:
    """Runs prompts of random ids, always the same, through an engine that has nothing else to do.

    `look` is called before and after every block of runs.
    """

    def __init__(self, engine: EngineCore, look: Callable[[], None] = lambda: None) -> None:
        self._engine = engine
        self._look = look
        self._random = np.random.default_rng(0)
        self._ids = itertools.count()

    def first_token_seconds(self, num_tokens: int) -> float:
        """From a request to the first token of its answer."""
        start = time.perf_counter()
        self._add(num_tokens, 1)
        while self._engine.has_unfinished:
            self._step()
        return time.perf_counter() - start

    def prefill(self, num_tokens: int, seconds: float) -> Rates:
        """Prompts of that length, one after another, each until its first token is chosen."""
        start = time.perf_counter()
        runs = Blocks(self._look)
        while not runs.values or (len(runs.values) < PREFILL_RUNS and time.perf_counter() - start < seconds):
            runs.add(num_tokens / self.first_token_seconds(num_tokens))
        return runs.rates(num_tokens / 2)

    def decode(self, batch: int, plan: Plan) -> Rates:
        """Steps in which all of `batch` answers get a token, each behind a prompt of `plan.context` tokens."""
        names = [self._add(plan.context, plan.most_tokens(batch)) for _ in range(batch)]
        begun: set[str] = set()
        while len(begun) < batch:
            begun |= {output.request_id for output in self._step()}
        for _ in range(_WARM_STEPS):
            _, total = self._timed_step()
        contexts: list[float] = []
        start = time.perf_counter()
        runs = Blocks(self._look)
        while not contexts or (len(contexts) < DECODE_STEPS and time.perf_counter() - start < plan.seconds):
            before = total
            elapsed, total = self._timed_step()
            contexts.append(total / batch)
            runs.add((total - before) / elapsed)
        for name in names:
            self._engine.abort(name)
        assert not self._engine.scheduler.num_preemptions, "the K/V cache was made too small"
        return runs.rates(float(np.mean(contexts)))

    def _add(self, num_tokens: int, max_tokens: int) -> str:
        ids = self._random.integers(0, self._engine.config.vocab_size, num_tokens).tolist()
        name = str(next(self._ids))
        params = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)
        self._engine.add_request(name, ids, params)
        return name

    def _step(self) -> list[RequestOutput]:
        outputs = self._engine.step()
        for output in outputs:
            if output.error is not None:
                raise output.error
        return outputs

    def _timed_step(self) -> tuple[float, int]:
        """Seconds of a step, and the tokens of all texts after it."""
        start = time.perf_counter()
        outputs = self._step()
        elapsed = time.perf_counter() - start
        return elapsed, sum(len(each.prompt_token_ids) + len(each.outputs[0].token_ids) for each in outputs)
