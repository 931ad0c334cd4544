"""From a step's logits to the next tokens of a sequence. V is the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence as Several

from ostro.engine import sampler
from ostro.engine.outputs import Logprob
from ostro.engine.request import Sequence
from ostro.tokenizer.base import Tokenizer


def extend(
    sequence: Sequence, num_draft: int, logits: Several[sampler.Float32], tokenizer: Tokenizer | None
) -> tuple[int, int]:
    """Add one token; and after each token that the sequence's draft foretold, another, until the answer ends.

    `logits[0]` (V,) are those after its last token, `logits[1 + i]` those after token i of the draft, of which
    `num_draft` were computed. Returns how many tokens of the draft were compared, and how many of them were right.
    BackendError where no token can be chosen.
    """
    draft = sequence.draft[:num_draft]
    for accepted, (foretold, scores) in enumerate(zip([*draft, None], logits, strict=True)):
        token_id = _choose(sequence, scores, tokenizer)
        if token_id != foretold:
            return min(accepted + 1, len(draft)), accepted
        if sequence.finish_reason is not None:
            return accepted + 1, accepted + 1
    raise AssertionError("no token equals None")


def _choose(sequence: Sequence, logits: sampler.Float32, tokenizer: Tokenizer | None) -> int:
    """Choose a token by logits (V,) and add it."""
    params = sequence.params
    allowed = sequence.allowed()
    scores = sampler.adjusted(logits, params, sequence.history, sequence.banned if allowed is None else ())
    if allowed is None:
        token_id = sampler.choose(scores, params, sequence.draws)
    else:
        token_id = int(allowed[sampler.choose(scores[allowed], params, sequence.draws)])
    if params.logprobs is not None:
        assert sequence.logprobs is not None
        assert sequence.cumulative_logprob is not None
        table = _logprobs(logits, token_id, params.logprobs, tokenizer)
        sequence.logprobs.append(table)
        sequence.cumulative_logprob += table[token_id].logprob
    sequence.append(token_id)
    return token_id


def _logprobs(logits: sampler.Float32, token_id: int, k: int, tokenizer: Tokenizer | None) -> dict[int, Logprob]:
    """The chosen token first, then the k likeliest."""
    logprobs = sampler.log_softmax(logits)
    ranks = {token_id: sampler.rank(logits, token_id)}
    ranks |= {other: place for place, other in enumerate(sampler.likeliest(logits, k), start=1)}
    return {i: Logprob(float(logprobs[i]), place, _token_text(i, tokenizer)) for i, place in ranks.items()}


def _token_text(token_id: int, tokenizer: Tokenizer | None) -> str | None:
    if tokenizer is None or token_id >= tokenizer.vocab_size:
        return None
    if tokenizer.is_control(token_id):
        return tokenizer.piece(token_id)
    return tokenizer.token_bytes(token_id).decode("utf-8", errors="replace")
