"""What a request gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ostro.errors import OstroError

FinishReason: TypeAlias = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class Logprob:
    """One token at one step: natural `logprob`, `rank` (1 is the likeliest), and its text (None without a tokenizer).

    Bytes that are no whole character stand as U+FFFD in `decoded_token`.
    """

    logprob: float
    rank: int
    decoded_token: str | None


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """One answer, so far or whole.

    `token_ids` holds every token that was generated, the one that ended the answer included; `text` only what is
    certain: not a part of a character or of a stop string. `logprobs` has one table (token id -> `Logprob`) for each
    token, and `cumulative_logprob` is the sum of the chosen ones; both are None unless they were asked for.
    `stop_reason` is the stop string or the id out of `stop_token_ids` that ended the answer; None for an
    end-of-sequence token and for any other `finish_reason` than "stop".
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: FinishReason | None
    stop_reason: int | str | None

    @property
    def finished(self) -> bool:
        """Whether this answer has ended."""
        return self.finish_reason is not None


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """Times in seconds of `time.monotonic()`, None for what has not happened yet."""

    arrival_time: float
    first_scheduled_time: float | None
    first_token_time: float | None
    finished_time: float | None


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """A request and its `n` answers, as they stand after a step; each step gives a new one.

    `num_cached_tokens` of the prompt were found in the prefix cache and not computed (of the first answer's pass:
    the others always share its prompt). `num_draft_tokens` were guessed and computed beside the answers' last tokens;
    `num_accepted_tokens` of them were right and saved a step each. `error` says why an answer could not be finished;
    it has then the `finish_reason` "abort".
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool
    num_cached_tokens: int
    num_draft_tokens: int
    num_accepted_tokens: int
    metrics: RequestMetrics
    error: OstroError | None
