"""A result as the JSON object that `--json` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ostro import RequestOutput
    from ostro.engine.outputs import CompletionOutput, Logprob, RequestMetrics


def result(model: str, output: RequestOutput) -> dict[str, Any]:
    """The request and its answers. Times are in seconds since the request came."""
    num_prompt, num_answer = len(output.prompt_token_ids), sum(len(c.token_ids) for c in output.outputs)
    return {
        "model": model,
        "prompt": output.prompt,
        "prompt_token_ids": output.prompt_token_ids,
        "outputs": [_completion(completion) for completion in output.outputs],
        "usage": {
            "prompt_tokens": num_prompt,
            "completion_tokens": num_answer,
            "total_tokens": num_prompt + num_answer,
            "cached_tokens": output.num_cached_tokens,
        },
        "speculation": {"draft_tokens": output.num_draft_tokens, "accepted_tokens": output.num_accepted_tokens},
        "seconds": _seconds(output.metrics),
    }


def _completion(completion: CompletionOutput) -> dict[str, Any]:
    steps = completion.logprobs
    return {
        "index": completion.index,
        "text": completion.text,
        "token_ids": completion.token_ids,
        "finish_reason": completion.finish_reason,
        "stop_reason": completion.stop_reason,
        "cumulative_logprob": completion.cumulative_logprob,
        "logprobs": None if steps is None else [[_logprob(i, value) for i, value in s.items()] for s in steps],
    }


def _logprob(token_id: int, value: Logprob) -> dict[str, Any]:
    return {"id": token_id, "token": value.decoded_token, "logprob": _finite(value.logprob), "rank": value.rank}


def _finite(number: float) -> float | None:
    """JSON has no infinity: a token that could not be chosen has no logarithm of its chance."""
    return number if number > float("-inf") else None


def _seconds(metrics: RequestMetrics) -> dict[str, float | None]:
    def since(time: float | None) -> float | None:
        return None if time is None else round(time - metrics.arrival_time, 6)

    return {"to_first_token": since(metrics.first_token_time), "in_all": since(metrics.finished_time)}
