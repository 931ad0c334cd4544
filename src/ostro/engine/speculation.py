"""Speculative decoding: several tokens a step, and the same tokens as one at a time.

A drafter guesses the next tokens of a sequence. The step computes them behind its last token, as rows of one batch,
and from the logits of every row a token is chosen exactly as in plain decoding: the same penalties, the same draws,
the same endings (`ostro.engine.choosing`). As long as the token chosen is the one that was guessed, the next row has
been computed for the right text and counts; the first that differs ends the step, and the rows behind it are dropped.

There is no test of acceptance by probabilities, and none is needed: on a backend whose rows do not depend on each
other (`Ops.row_independent`) every logit is, bit for bit, that of plain decoding, and so is whatever is made of it,
sampled or greedy. Only time depends on the drafts.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence as Several
from itertools import islice, takewhile
from typing import Protocol, TypeAlias

from ostro.engine.config import EngineConfig
from ostro.engine.draft_length import Acceptance, Offer, StepTimes, best_lengths
from ostro.engine.forced_text import ForcedText
from ostro.engine.prompt_lookup import PromptLookup
from ostro.engine.request import Sequence
from ostro.engine.scheduler import Chunk, TokenSequence
from ostro.errors import RequestError


class Drafter(Protocol):
    """Guesses what comes next. Drafts may be wrong; they only cost time then."""

    @property
    def seconds_per_token(self) -> float:
        """What a token of a draft costs, as far as it is worth counting."""

    @property
    def kv_cache_bytes(self) -> int:
        """Bytes of K/V that it keeps."""

    def confidence(self, sequence: TokenSequence) -> float | None:
        """The share of right tokens that may be expected, or None where there is nothing to propose.

        Drafts of the same confidence are judged together: what they turn out to be worth replaces the number.
        """

    def propose(self, limits: Mapping[TokenSequence, int]) -> dict[TokenSequence, list[int]]:
        """Drafts for sequences that `confidence` was just asked for, each of at most so many tokens; none is fine."""

    def forget(self, sequence: TokenSequence) -> None:
        """The sequence has ended, or was never seen."""

    def clear(self) -> None:
        """Forget what is kept of sequences that have ended."""


Kind: TypeAlias = tuple[Drafter, float]
"""Drafts that are judged together: those of one drafter at one confidence."""


class Speculator:
    """Sets the drafts of each step and learns from what became of them.

    Of several drafters, a sequence gets the draft of the one that has been right most often. A draft has at most
    `max_draft_tokens`, and a step `max_rows` of sequences and drafts together. When `is_adaptive`, drafts are as long
    as pays by the times of earlier steps, down to nothing; otherwise as long as they can be.
    """

    def __init__(
        self, drafters: Several[Drafter], *, vocab_size: int, max_draft_tokens: int, max_rows: int, is_adaptive: bool
    ) -> None:
        self._drafters = drafters
        self._vocab_size = vocab_size
        self._max_draft_tokens = max_draft_tokens
        self._max_rows = max_rows
        self._is_adaptive = is_adaptive
        self._times = StepTimes()
        self._acceptance: dict[TokenSequence, dict[Kind, Acceptance]] = {}
        self._kinds: dict[TokenSequence, Kind] = {}

    def propose(self, running: Several[TokenSequence]) -> None:
        """Set the drafts of the next step."""
        offers: dict[Sequence, Offer] = {}
        num_rows = num_decoding = 0
        for sequence in running:
            sequence.draft = []
            num_rows += sequence.num_uncomputed_tokens
            if isinstance(sequence, Sequence) and sequence.num_uncomputed_tokens == 1:
                num_decoding += 1
                if offer := self._offer(sequence):
                    offers[sequence] = offer
        max_draft_rows = self._max_rows - len(running)
        if offers and max_draft_rows > 0:
            lengths = self._lengths(list(offers.values()), num_decoding, num_rows, max_draft_rows)
            self._draft(dict(zip(offers, lengths, strict=True)))

    def learn(self, sequence: Sequence, num_draft: int, num_tried: int, num_accepted: int) -> None:
        """Of `num_draft` tokens that were computed, `num_tried` were compared and `num_accepted` of them were right."""
        if num_draft:
            sequence.num_draft_tokens += num_draft
            sequence.num_accepted_tokens += num_accepted
            self._known(sequence, self._kinds[sequence]).note(num_accepted, num_tried)

    def note_time(self, chunks: Several[Chunk], seconds: float) -> None:
        """The step that computed these chunks took so long; those with prompts in them say nothing about decoding."""
        if all(chunk.is_last and chunk.count - chunk.num_draft == 1 for chunk in chunks):
            self._times.note(sum(chunk.count for chunk in chunks), seconds)

    def forget(self, sequence: TokenSequence) -> None:
        """The sequence has ended."""
        self._acceptance.pop(sequence, None)
        self._kinds.pop(sequence, None)
        for drafter in self._drafters:
            drafter.forget(sequence)

    def clear(self) -> None:
        """Forget what drafters keep of sequences that have ended."""
        for drafter in self._drafters:
            drafter.clear()

    def _offer(self, sequence: Sequence) -> Offer | None:
        """The most promising draft for a sequence, if there is one."""
        # The last token that the answer may have is chosen from the row behind the draft.
        limit = min(self._max_draft_tokens, sequence.max_tokens - sequence.num_output_tokens - 1)
        if limit < 1:
            return None
        best: Offer | None = None
        for drafter in self._drafters:
            confidence = drafter.confidence(sequence)
            if confidence is not None:
                rate = self._known(sequence, (drafter, confidence)).rate
                if best is None or rate > best.rate:
                    best = Offer(limit, rate, drafter.seconds_per_token)
                    self._kinds[sequence] = drafter, confidence
        return best

    def _known(self, sequence: Sequence, kind: Kind) -> Acceptance:
        known = self._acceptance.setdefault(sequence, {})
        return known.setdefault(kind, Acceptance(kind[1]))

    def _lengths(self, offers: list[Offer], num_decoding: int, num_rows: int, max_draft_rows: int) -> list[int]:
        if self._is_adaptive:
            return best_lengths(offers, num_decoding, num_rows, max_draft_rows, self._times)
        lengths = []
        for offer in offers:
            lengths.append(min(offer.limit, max_draft_rows))
            max_draft_rows -= lengths[-1]
        return lengths

    def _draft(self, lengths: dict[Sequence, int]) -> None:
        """Have the drafts made, and keep of each what is within its length and the vocabulary."""
        limits: dict[Drafter, dict[TokenSequence, int]] = {drafter: {} for drafter in self._drafters}
        for sequence, length in lengths.items():
            kind = self._kinds[sequence]
            if length:
                limits[kind[0]][sequence] = length
            else:
                self._known(sequence, kind).fade()
        for drafter, wanted in limits.items():
            for target, draft in (drafter.propose(wanted) if wanted else {}).items():
                valid = takewhile(lambda token_id: 0 <= token_id < self._vocab_size, draft)
                target.draft = list(islice(valid, wanted[target]))
                if isinstance(target, Sequence) and target.guide is not None:
                    target.draft = target.guide.possible(target.draft)


def make_speculator(
    config: EngineConfig, draft: Drafter | None, *, backend: str, is_exact: bool, vocab_size: int, max_rows: int
) -> Speculator | None:
    """What `EngineConfig.speculation` asks for; None for plain decoding.

    `is_exact`: rows of the `backend` do not depend on each other. RequestError for what cannot be had together.
    """
    mode = config.speculation
    if draft is not None and mode not in ("auto", "draft-model"):
        raise RequestError(
            f"draft_model is given, but speculation is {mode!r}: leave draft_model out, or choose 'auto' or "
            "'draft-model'.",
            param="draft_model",
        )
    if draft is None and mode == "draft-model":
        raise RequestError(
            "speculation is 'draft-model', but no such model was given: name one with draft_model.", param="speculation"
        )
    if mode == "off" or (mode == "auto" and draft is None and not is_exact):
        return None
    if not is_exact:
        wanted = f"speculation {mode!r}" if draft is None else "draft_model"
        raise RequestError(
            f"{wanted} needs a backend that gives a row the same bits whatever stands beside it, so that no answer "
            f"changes, and {backend} does not promise that: choose the backend cpu, or leave {wanted} out.",
            param="speculation" if draft is None else "draft_model",
        )
    drafters: list[Drafter] = [] if draft is None else [draft]
    if mode != "draft-model":
        drafters.append(PromptLookup())
    if mode == "auto":
        drafters.append(ForcedText())
    return Speculator(
        drafters,
        vocab_size=vocab_size,
        max_draft_tokens=config.max_draft_tokens,
        max_rows=min(max_rows, config.max_num_batched_tokens),
        is_adaptive=mode == "auto",
    )
