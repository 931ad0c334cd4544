"""What OpenAI's clients send to `/v1/responses`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ostro.server.chat_fields import (
    CACHE_HINT,
    LABEL,
    MODEL,
    ONE_TIER,
    JsonObject,
    JsonObjects,
    OstroFields,
    Strings,
)
from ostro.server.fields import Body, Honoured, Refused


class TextFormat(Body):
    """`text.format`: what `response_format` is to chat, with the schema one level up."""

    type: Annotated[
        Literal["text", "json_object", "json_schema"], Honoured("text: free; json_object: any object; json_schema.")
    ]
    name: Annotated[str | None, LABEL] = None
    description: Annotated[str | None, LABEL] = None
    schema_: Annotated[
        dict[str, Any] | bool | None, Field(alias="schema"), Honoured("With json_schema: the schema, enforced.")
    ] = None
    strict: Annotated[bool | None, Honoured("The schema is always kept strictly.")] = None


class TextOptions(Body):
    """`text`."""

    format: Annotated[TextFormat | None, Honoured("The form of the answer, enforced.")] = None
    verbosity: Annotated[Any, Refused("no model served here is trained for it; ask in the prompt.", ("medium",))] = None


class ResponseStreamOptions(Body):
    """`stream_options`."""

    include_obfuscation: Annotated[Any, Refused("events are not padded.", (False,))] = None


class OpenAIResponse(OstroFields):
    """The body of a response."""

    model: Annotated[str | None, MODEL] = None
    input: Annotated[
        str | JsonObjects,
        Honoured("A text, or items: messages, function_call, function_call_output. Content is text."),
    ]
    instructions: Annotated[str | None, Honoured("A system message in front; not carried over to the next.")] = None
    previous_response_id: Annotated[
        str | None, Honoured("Goes on with a conversation that the server keeps (store).")
    ] = None
    store: Annotated[bool | None, Honoured("False: not kept. Else the newest are kept in memory, within bounds.")] = (
        None
    )
    stream: Annotated[bool | None, Honoured("True: server-sent events.")] = None
    stream_options: Annotated[ResponseStreamOptions | None, Honoured("With stream alone.")] = None
    max_output_tokens: Annotated[
        int | None, Field(ge=1), Honoured("Most tokens of the answer; by default what the context leaves.")
    ] = None
    temperature: Annotated[
        float | None, Field(ge=0, le=2), Honoured("0 is greedy; by default what the checkpoint recommends for itself.")
    ] = None
    top_p: Annotated[float | None, Field(gt=0, le=1), Honoured("The likeliest tokens that reach this share.")] = None
    tools: Annotated[
        JsonObjects | None, Honoured("Functions: {type: function, name, description, parameters, strict}.")
    ] = None
    tool_choice: Annotated[
        str | JsonObject | None, Honoured("auto, none, required, or {type: function, name}; enforced.")
    ] = None
    parallel_tool_calls: Annotated[bool | None, Honoured("False: at most one call in an answer, enforced.")] = None
    text: Annotated[TextOptions | None, Honoured("The form of the answer.")] = None
    top_logprobs: Annotated[
        int | None, Field(ge=0, le=20), Honoured("So many of the likeliest tokens at each place of the answer.")
    ] = None
    include: Annotated[
        Strings | None,
        Honoured("message.output_text.logprobs; reasoning.encrypted_content adds nothing; others are refused."),
    ] = None
    metadata: Annotated[JsonObject | None, Honoured("Given back with the response.")] = None
    seed: Annotated[int | None, Honoured("Makes the draws repeatable.")] = None
    user: Annotated[str | None, LABEL] = None
    safety_identifier: Annotated[str | None, LABEL] = None
    prompt_cache_key: Annotated[str | None, CACHE_HINT] = None
    prompt_cache_retention: Annotated[str | None, CACHE_HINT] = None
    prompt_cache_options: Annotated[JsonObject | None, CACHE_HINT] = None
    service_tier: Annotated[Any, ONE_TIER] = None
    truncation: Annotated[
        Any, Refused("nothing of a conversation is left out silently: shorten it.", ("disabled",))
    ] = None
    background: Annotated[Any, Refused("the answer is given to the connection that asks.", (False,))] = None
    background_options: Annotated[Any, Refused("there are no background responses.")] = None
    reasoning: Annotated[
        Any, Refused("the models served here have no separate reasoning.", ({}, {"effort": "none"}))
    ] = None
    conversation: Annotated[Any, Refused("conversations are not kept; previous_response_id is honoured.")] = None
    context_management: Annotated[Any, Refused("nothing of a conversation is left out or compacted.", ([],))] = None
    prompt: Annotated[Any, Refused("prompts are not kept here: send the text.")] = None
    max_tool_calls: Annotated[Any, Refused("it counts calls of built-in tools, which there are none of.")] = None
    moderation: Annotated[Any, Refused("there is no moderation model here.")] = None
    access_programs: Annotated[Any, Refused("there are none here.")] = None
    image: Annotated[Any, Refused("the models served here answer in text.")] = None
