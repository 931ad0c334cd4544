"""What Mistral's clients send to `/v1/chat/completions` and `/v1/fim/completions`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ostro.server.chat_fields import (
    CACHE_HINT,
    LABEL,
    NO_REASONING,
    ONE_TIER,
    ChatFields,
    JsonObject,
    OstroFields,
    SamplingFields,
)
from ostro.server.fields import Body, Honoured, Refused

_RANDOM_SEED = Honoured("Makes the draws repeatable; the same as seed.")


class _Common(Body):
    random_seed: Annotated[int | None, _RANDOM_SEED] = None
    metadata: Annotated[JsonObject | None, LABEL] = None
    prompt_cache_key: Annotated[str | None, CACHE_HINT] = None


class MistralChat(ChatFields, _Common):
    """The body of a chat request. `prefix: true` is a field of the last message: the answer begins with its text."""

    safe_prompt: Annotated[bool | None, Honoured("True: Mistral's guardrail in front of the system text.")] = None
    safe_mode: Annotated[bool | None, Honoured("The older name of safe_prompt.")] = None
    n: Annotated[int | None, Field(ge=1), Honoured("How many answers, drawn with seed, seed + 1, ...")] = None
    min_tokens: Annotated[int | None, Field(ge=0), Honoured("No end before this many tokens.")] = None
    top_k: Annotated[int | None, Field(ge=-1), Honoured("Only the k likeliest tokens; 0 or -1 is off.")] = None
    repetition_penalty: Annotated[
        float | None, Field(ge=0.01, le=100), Honoured("Divides the scores of tokens in prompt and answer; 1 is off.")
    ] = None
    logprobs: Annotated[bool | None, Honoured("True: log-probabilities of the answer's tokens.")] = None
    top_logprobs: Annotated[
        int | None, Field(ge=0, le=20), Honoured("With logprobs: so many of the likeliest tokens at each place.")
    ] = None
    parallel_tool_calls: Annotated[bool | None, Honoured("False: at most one call in an answer, enforced.")] = None
    prompt_logprobs: Annotated[Any, Refused("log-probabilities are given for the answer alone.", (False,))] = None
    top_prompt_logprobs: Annotated[Any, Refused("the likeliest tokens are given for the answer alone.", (0,))] = None
    prediction: Annotated[
        Any,
        Refused("the server drafts from the prompt by itself; put the text there, and nothing has to be predicted."),
    ] = None
    reasoning_effort: Annotated[Any, NO_REASONING] = None
    prompt_mode: Annotated[Any, NO_REASONING] = None
    guardrails: Annotated[Any, Refused("there is no moderation model here; safe_prompt adds a guardrail.", ([],))] = (
        None
    )
    service_tier: Annotated[Any, ONE_TIER] = None


class MistralFIM(SamplingFields, _Common, OstroFields):
    """The body of a fill-in-the-middle request."""

    prompt: Annotated[str, Honoured("The text in front of the gap.")]
    suffix: Annotated[
        str | None, Honoured("The text behind the gap; the model's vocabulary must have [SUFFIX] and [PREFIX].")
    ] = None
