"""What a request must be like to be let in: everything that can be refused is refused before it is queued."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ostro.engine.params import SamplingParams
from ostro.errors import ContextLengthError, RequestError


def check_token_ids(token_ids: Sequence[int], vocab_size: int) -> list[int]:
    """The ids as a list; RequestError if there are none or one lies outside the vocabulary."""
    ids = [int(token_id) for token_id in token_ids]
    if not ids:
        raise RequestError("The prompt is empty: give at least one token, such as BOS.", param="prompt")
    _within("prompt", ids, vocab_size)
    return ids


def check_params(params: SamplingParams, vocab_size: int, *, has_tokenizer: bool) -> None:
    """RequestError for what this model cannot honour."""
    _within("logit_bias", params.logit_bias, vocab_size)
    _within("stop_token_ids", params.stop_token_ids, vocab_size)
    if params.logprobs is not None and params.logprobs > vocab_size:
        raise RequestError(
            f"logprobs must be at most the model's {vocab_size} tokens, not {params.logprobs}.", param="logprobs"
        )
    if not has_tokenizer:
        needing = {
            "stop": bool(params.stop),
            "skip_special_tokens": not params.skip_special_tokens,
            "guided": params.guided is not None,
        }
        for name, used in needing.items():
            if used:
                raise RequestError(f"{name} needs a tokenizer, and this model was loaded without one.", param=name)


def room_for_answer(num_prompt_tokens: int, params: SamplingParams, max_model_len: int) -> int:
    """The most tokens that the answer may have; ContextLengthError, with the numbers, if it does not fit."""
    room = max_model_len - num_prompt_tokens
    if room < 1 or (params.max_tokens or 1) > room:
        raise ContextLengthError(num_prompt_tokens, max_model_len, params.max_tokens)
    if params.min_tokens > room:
        raise RequestError(
            f"min_tokens ({params.min_tokens}) does not fit: the prompt has {num_prompt_tokens} tokens and the context "
            f"{max_model_len}, which leaves {room}.",
            param="min_tokens",
        )
    return params.max_tokens or room


def _within(param: str, token_ids: Iterable[int], vocab_size: int) -> None:
    for token_id in token_ids:
        if not 0 <= token_id < vocab_size:
            raise RequestError(
                f"{param} has the token id {token_id}, but the model's ids go from 0 to {vocab_size - 1}.", param=param
            )
