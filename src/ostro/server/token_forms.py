"""The bodies of `/tokenize` and `/detokenize`, which no dialect has."""

from __future__ import annotations

from typing import Annotated

from ostro.server.chat_fields import MODEL, Integers, JsonObjects
from ostro.server.fields import Body, Honoured


class Tokenize(Body):
    """`/tokenize`: a text, or a conversation as `/render` takes it."""

    model: Annotated[str | None, MODEL] = None
    prompt: Annotated[str | None, Honoured("The text; this or messages.")] = None
    messages: Annotated[JsonObjects | None, Honoured("A conversation, counted as its prompt; this or prompt.")] = None
    tools: Annotated[JsonObjects | None, Honoured("With messages: the tools that the prompt describes.")] = None
    safe_prompt: Annotated[bool | None, Honoured("With messages: Mistral's guardrail in front.")] = None
    add_special_tokens: Annotated[
        bool | None, Honoured("With prompt: False leaves BOS out, which else stands in front where the model has one.")
    ] = None


class Detokenize(Body):
    """`/detokenize`."""

    model: Annotated[str | None, MODEL] = None
    tokens: Annotated[Integers, Honoured("Token ids.")]
    skip_special_tokens: Annotated[bool | None, Honoured("False: control tokens are written by their names.")] = None
