"""Fields that the chat requests of several dialects share, and those that are ostro's own.

Where two dialects have a field, it means the same in both; so a body may use the fields of all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from ostro.server.fields import Body, Honoured, Mark, Refused

Strings: TypeAlias = Annotated[list[str], Field(fail_fast=True)]
Integers: TypeAlias = Annotated[list[int], Field(fail_fast=True)]
JsonObject: TypeAlias = dict[str, Any]
JsonObjects: TypeAlias = Annotated[list[JsonObject], Field(fail_fast=True)]

# What several forms say alike.
MODEL = Honoured("A name or alias of a served model; the first one served where it is left out.")
LABEL = Honoured("A label of the caller's, which asks nothing of the answer.")
CACHE_HINT = Honoured("A hint; every request already reuses whatever stands at the head of an earlier prompt.")
ONE_TIER = Refused("there is one tier of service.", ("auto", "default"))
NO_REASONING = Refused("the models served here have no separate reasoning.", ("none",))


class StreamOptions(Body):
    """`stream_options`."""

    include_usage: Annotated[
        bool | None, Honoured("True: usage comes in a chunk of its own at the end; else with the last choice's end.")
    ] = None
    include_obfuscation: Annotated[Any, Refused("chunks are not padded.", (False,))] = None


class JsonSchemaFormat(Body):
    """`response_format.json_schema`."""

    name: Annotated[str | None, LABEL] = None
    description: Annotated[str | None, LABEL] = None
    schema_: Annotated[
        dict[str, Any] | bool | None,
        Field(alias="schema"),
        Honoured("The JSON schema; no token that breaks it can be generated. A keyword that cannot be kept is a 400."),
    ] = None
    strict: Annotated[bool | None, Honoured("The schema is always kept strictly.")] = None


class ResponseFormat(Body):
    """`response_format`."""

    type: Annotated[
        Literal["text", "json_object", "json_schema"], Honoured("text: free; json_object: any object; json_schema.")
    ]
    json_schema: Annotated[JsonSchemaFormat | None, Honoured("Needed with the type json_schema.")] = None


_EMPTY = Refused("no prompt can hold it.", ("", []))
MESSAGE_FIELDS: Mapping[str, Mark] = {
    "role": Honoured("system, developer (the same), user, assistant or tool."),
    "content": Honoured("A string or a list of text parts; of an assistant or a tool it may be null or missing."),
    "tool_calls": Honoured("Of an assistant: {id, function: {name, arguments}}; type and index may stand beside them."),
    "tool_call_id": Honoured(
        "Of a tool: which call it answers, by an id of any form; without one its name or order tells."
    ),
    "name": Honoured("Of a tool: the function; of others it must be empty, since no prompt can hold it."),
    "prefix": Honoured("Of the last message, an assistant's: true has it continued, and the answer begins with it."),
    **dict.fromkeys(("refusal", "audio", "function_call", "annotations", "reasoning_content", "weight"), _EMPTY),
}
"""What `ostro.chat.messages` reads of a message; the rest is refused there."""

TOOL_FIELDS: Mapping[str, Mark] = {
    "type": Honoured("function, also where it is missing."),
    "function.name": Honoured("What calls name."),
    "function.description": Honoured("Written into the prompt."),
    "function.parameters": Honoured("A JSON schema, written into the prompt; calls that are enforced follow it."),
    "function.strict": Honoured("Calls that are enforced follow the schema in any case."),
}
"""What it reads of a tool."""


class SamplingFields(Body):
    """How tokens are drawn: fields of every generating route."""

    model: Annotated[str | None, MODEL] = None
    stream: Annotated[bool | None, Honoured("True: server-sent events; nothing else decides about them.")] = None
    temperature: Annotated[
        float | None, Field(ge=0, le=2), Honoured("0 is greedy; by default what the checkpoint recommends for itself.")
    ] = None
    top_p: Annotated[float | None, Field(gt=0, le=1), Honoured("The likeliest tokens that reach this share.")] = None
    max_tokens: Annotated[
        int | None, Field(ge=1), Honoured("Most tokens of an answer; by default what the context leaves.")
    ] = None
    stop: Annotated[
        str | Strings | None, Honoured("A string, or up to 64, at the first of which the answer ends, without it.")
    ] = None


class PenaltyFields(Body):
    """Penalties of tokens that an answer has already."""

    presence_penalty: Annotated[float | None, Field(ge=-2, le=2), Honoured("Subtracted from a repeated token.")] = None
    frequency_penalty: Annotated[
        float | None, Field(ge=-2, le=2), Honoured("Subtracted from a token for each time that it came.")
    ] = None


class ToolFields(Body):
    """Tools and the form of the answer."""

    tools: Annotated[
        JsonObjects | None, Honoured("Functions: {type: function, function: {name, description, parameters, strict}}.")
    ] = None
    tool_choice: Annotated[
        str | JsonObject | None,
        Honoured("auto, none, required or any (the same), or {type: function, function: {name}}; enforced."),
    ] = None
    response_format: Annotated[ResponseFormat | None, Honoured("The form of the answer, enforced.")] = None


class ChatFields(SamplingFields, PenaltyFields, ToolFields):
    """What OpenAI, Mistral and Azure AI Inference have in common."""

    messages: Annotated[
        JsonObjects,
        Honoured("The conversation; docs/prompts.md says what each prompt format mends. Content is text."),
    ]


class OstroFields(Body):
    """What SamplingParams has beside the dialects, for every generating route; OpenAI's client sends extra_body."""

    top_k: Annotated[int | None, Field(ge=-1), Honoured("Only the k likeliest tokens; 0 or -1 is off.")] = None
    min_p: Annotated[
        float | None, Field(ge=0, le=1), Honoured("Only tokens this many times as likely as the likeliest.")
    ] = None
    repetition_penalty: Annotated[
        float | None, Field(ge=0.01, le=100), Honoured("Divides the scores of tokens in prompt and answer; 1 is off.")
    ] = None
    min_tokens: Annotated[int | None, Field(ge=0), Honoured("No end before this many tokens.")] = None
    stop_token_ids: Annotated[Integers | None, Honoured("Token ids that end the answer.")] = None
    ignore_eos: Annotated[bool | None, Honoured("True: end-of-sequence tokens do not end the answer.")] = None
    skip_special_tokens: Annotated[
        bool | None, Honoured("False: control tokens are written into the text by their names.")
    ] = None
    include_stop_str_in_output: Annotated[bool | None, Honoured("True: the stop string stays in the answer.")] = None
    guided_json: Annotated[
        dict[str, Any] | bool | None, Honoured("A JSON schema for the answer, as response_format has it.")
    ] = None
    guided_regex: Annotated[str | None, Honoured("A regular expression that the whole answer matches.")] = None
    guided_grammar: Annotated[str | None, Honoured("A grammar in llguidance's Lark for the answer.")] = None
    guided_choice: Annotated[Strings | None, Honoured("The answer is one of these.")] = None
    cache_salt: Annotated[
        str | None, Field(max_length=256), Honoured("Prefixes are shared with requests of the same salt only.")
    ] = None
