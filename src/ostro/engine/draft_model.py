"""`DraftModel`: a smaller model of the same vocabulary writes ahead, the larger one verifies.

It has weights, a K/V pool and prefix reuse of its own, and drafts greedily. What it computed for a draft stays where
the larger model chose the same tokens; the rest is written again. Texts that it has not seen, a prompt or what another
drafter was right about, it catches up with before it drafts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ostro.cache import KVCache
from ostro.config import ModelConfig
from ostro.engine.runner import ModelRunner, forward_batch
from ostro.engine.scheduler import Chunk, TokenSequence
from ostro.errors import RequestError
from ostro.models.llama import LlamaWeights
from ostro.ops.base import Ops
from ostro.tokenizer.base import Tokenizer

_USUAL_ROWS = 16
"""Rows that follow from what was accepted; more are a text to be caught up with."""


def require_same_vocabulary(
    target: ModelConfig, draft: ModelConfig, target_tokenizer: Tokenizer | None, draft_tokenizer: Tokenizer | None
) -> None:
    """RequestError unless every id means the same in both models. A model without a tokenizer is taken at its word."""
    if target.vocab_size != draft.vocab_size:
        raise RequestError(
            f"The draft model has a vocabulary of {draft.vocab_size} tokens and the model one of {target.vocab_size}: "
            "choose a draft model of the same family, which shares the tokenizer.",
            param="draft_model",
        )
    if target_tokenizer is None or draft_tokenizer is None:
        return
    if target_tokenizer.control_tokens != draft_tokenizer.control_tokens:
        raise _differ(target_tokenizer, draft_tokenizer, "their control tokens are not the same")
    for token_id in range(max(target_tokenizer.vocab_size, draft_tokenizer.vocab_size)):
        ours, theirs = _bytes(target_tokenizer, token_id), _bytes(draft_tokenizer, token_id)
        if ours != theirs:
            raise _differ(
                target_tokenizer, draft_tokenizer, f"token {token_id} is {ours!r} in one and {theirs!r} in the other"
            )


def _bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    return tokenizer.token_bytes(token_id) if token_id < tokenizer.vocab_size else b""


def _differ(target: Tokenizer, draft: Tokenizer, how: str) -> RequestError:
    return RequestError(
        f"The draft model's tokenizer ({draft.source}) is not the model's ({target.source}): {how}. Choose a draft "
        "model of the same family, which shares the tokenizer.",
        param="draft_model",
    )


@dataclass(eq=False, slots=True, kw_only=True)
class _Copy(TokenSequence):
    """A sequence as the draft model knows it: `token_ids` may end with a draft of its own.

    The K/V of the first `num_written` tokens is there; the cache has those that the larger model agreed to.
    """

    num_written: int


class DraftModel:
    """The drafter that asks a second model; see `ostro.engine.speculation.Drafter`.

    `num_blocks` of `block_size` tokens hold its K/V in `kv_dtype`. At most `max_num_batched_tokens` tokens of texts
    that it does not know yet are computed for one step, so that a long prompt holds nobody up.
    """

    def __init__(
        self,
        ops: Ops,
        config: ModelConfig,
        weights: LlamaWeights,
        *,
        num_blocks: int,
        block_size: int,
        kv_dtype: str,
        max_num_batched_tokens: int,
    ) -> None:
        self.config = config
        self._runner = ModelRunner(
            ops, config, weights, num_blocks=num_blocks, block_size=block_size, kv_dtype=kv_dtype
        )
        self.cache = KVCache(num_blocks, block_size, config.max_window)
        self._budget = max_num_batched_tokens
        # Distances stay below the window however long the text is, so a windowed model may go beyond its context.
        self._max_len = sys.maxsize if config.max_window is not None else config.max_position_embeddings
        self._copies: dict[TokenSequence, _Copy] = {}
        self.seconds_per_token = 0.0
        """What a token of a draft has cost lately; texts that were caught up with are not counted."""

    @property
    def kv_cache_bytes(self) -> int:
        """Bytes of the K/V pool when all of it has been touched."""
        return self._runner.pool.nbytes

    def confidence(self, sequence: TokenSequence) -> float | None:
        """A guess, the same for every sequence that fits this model's context."""
        return 0.7 if self._room_in_context(sequence) > 0 else None

    def propose(self, limits: Mapping[TokenSequence, int]) -> dict[TokenSequence, list[int]]:
        """Greedy continuations; none for a sequence that is still being caught up with or finds no room."""
        self._drop_waiting()
        began = time.monotonic()
        copies = {target: self._follow(target) for target in limits}
        lengths = {copy: min(limits[target], self._room_in_context(target)) for target, copy in copies.items()}
        is_usual = max(map(_num_unwritten, lengths)) <= _USUAL_ROWS
        ready = self._catch_up(list(lengths))
        for place in range(1, max(lengths.values())):
            ready = self._compute([(copy, 1) for copy in ready if lengths[copy] > place])
        drafts = {target: copy.token_ids[len(target.token_ids) :] for target, copy in copies.items()}
        if is_usual and any(drafts.values()):
            self._note_cost((time.monotonic() - began) / sum(map(len, drafts.values())))
        return drafts

    def forget(self, sequence: TokenSequence) -> None:
        """Give the blocks of a sequence back."""
        copy = self._copies.pop(sequence, None)
        if copy is not None and copy.cache is not None:
            copy.cache.free()

    def clear(self) -> None:
        """Forget every prefix that no sequence holds."""
        self.cache.clear()

    def _room_in_context(self, sequence: TokenSequence) -> int:
        """How many tokens a draft may have; the last one of a draft is not computed."""
        return self._max_len - len(sequence.token_ids) + 1

    def _drop_waiting(self) -> None:
        """Free what is kept for sequences that were preempted: their places go to those that run."""
        for target in [target for target in self._copies if target.cache is None]:
            self.forget(target)

    def _follow(self, target: TokenSequence) -> _Copy:
        """The copy of a sequence, brought to what the sequence has become."""
        known = target.token_ids
        copy = self._copies.get(target)
        if copy is None:
            cache = self.cache.open(known, target.salt)
            copy = self._copies[target] = _Copy(
                order=target.order,
                token_ids=list(known),
                num_prompt_tokens=target.num_prompt_tokens,
                cache=cache,
                num_written=cache.num_tokens,
            )
            return copy
        assert copy.cache is not None
        agreed = copy.cache.num_tokens
        # The logits after the last token are wanted, so that one is computed again even if it was a right guess.
        while agreed < min(copy.num_written, len(known) - 1) and copy.token_ids[agreed] == known[agreed]:
            agreed += 1
        copy.cache.commit(agreed - copy.cache.num_tokens, known)
        copy.token_ids[agreed:] = known[agreed:]
        copy.num_written = agreed
        return copy

    def _catch_up(self, copies: list[_Copy]) -> list[_Copy]:
        """Compute what is known and not written yet, the least first and as far as the budget goes.

        Those that are done have the first token of their draft, and are returned.
        """
        budget, work = self._budget, []
        for copy in sorted(copies, key=_num_unwritten):
            if count := min(_num_unwritten(copy), budget):
                work.append((copy, count))
                budget -= count
        ready = self._compute(work)
        for copy, _ in work:
            assert copy.cache is not None
            copy.cache.commit(copy.num_written - copy.cache.num_tokens, copy.token_ids)
        return ready

    def _compute(self, work: list[tuple[_Copy, int]]) -> list[_Copy]:
        """Compute the next tokens of copies, as many of each as said and as there is room for in the pool.

        Those that have none left get the likeliest next token, and are returned.
        """
        planned: dict[_Copy, Chunk] = {}
        for copy, count in work:
            assert copy.cache is not None
            ahead = copy.num_written - copy.cache.num_tokens
            count = min(count, copy.cache.room - ahead)
            if count < 1:
                continue
            copy.cache.reserve(ahead + count)
            planned[copy] = Chunk(copy, copy.num_written, count, is_last=count == _num_unwritten(copy))
        ready = [copy for copy, chunk in planned.items() if chunk.is_last]
        if planned:
            chunks = list(planned.values())
            rows = [int(chunk.is_last) for chunk in chunks]
            hidden = self._runner.forward(forward_batch(chunks, rows, self.cache.pool.block_size))
            tokens = np.argmax(self._runner.logits(hidden), axis=1).tolist() if ready else []
            for copy, token_id in zip(ready, tokens, strict=True):
                copy.token_ids.append(token_id)
            for copy, chunk in planned.items():
                copy.num_written += chunk.count
        return ready

    def _note_cost(self, seconds: float) -> None:
        known = self.seconds_per_token or seconds
        self.seconds_per_token = known + 0.2 * (min(seconds, 2 * known) - known)


def _num_unwritten(copy: _Copy) -> int:
    return len(copy.token_ids) - copy.num_written
