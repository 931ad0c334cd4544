"""Prompts for a gap in the middle of a text, in the form of Mistral's code models: the end comes before the beginning.

    <s> [SUFFIX] what follows the gap [PREFIX] what stands before it

The model goes on behind the beginning. Source: mistral-common, which is compared id for id.
"""

from __future__ import annotations

from ostro.chat.segments import Prompt, Segment
from ostro.errors import RequestError
from ostro.tokenizer.base import Tokenizer


def has_fim(tokenizer: Tokenizer) -> bool:
    """Whether the vocabulary has the control tokens of the form."""
    return {"[SUFFIX]", "[PREFIX]"} <= tokenizer.control_tokens.keys()


def fim_prompt(tokenizer: Tokenizer, prompt: str, suffix: str | None) -> Prompt:
    """The prompt for the text between `prompt` and `suffix`; RequestError for a vocabulary without the form."""
    if not has_fim(tokenizer):
        raise RequestError(
            f"The vocabulary of {tokenizer.source} has no [SUFFIX] and [PREFIX], so the model cannot fill a gap: leave "
            "suffix out and use a completion, or use a model that was trained for it, such as Codestral.",
            param="suffix",
        )
    segments = [
        _control(tokenizer, "[SUFFIX]"),
        # SentencePiece's dummy space stands in front of the beginning alone.
        _text(tokenizer.encode_continuation(suffix or ""), suffix or "", "suffix"),
        _control(tokenizer, "[PREFIX]"),
        _text(tokenizer.encode(prompt), prompt, "prompt"),
    ]
    if (bos_id := tokenizer.bos_id) is not None:
        segments.insert(0, Segment("control", (bos_id,), tokenizer.piece(bos_id), "bos"))
    stop_ids = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
    return Prompt(tuple(each for each in segments if each.ids), "fim", stop_ids, is_open=True)


def _control(tokenizer: Tokenizer, name: str) -> Segment:
    return Segment("control", (tokenizer.control_id(name),), name, "template")


def _text(ids: list[int], text: str, origin: str) -> Segment:
    return Segment("text", tuple(ids), text, origin)
