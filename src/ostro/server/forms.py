"""The forms in which the server reads bodies of chat, and what each dialect documents of them.

All dialects are read in one form, `CommonChat`, which has every field of each: a client of one dialect may use a field
of another, and it then does the same. Azure's `extra-parameters` header alone asks for less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from ostro.server.azure.forms import AzureChat
from ostro.server.chat_fields import OstroFields, Strings
from ostro.server.dialect import Dialect
from ostro.server.fields import Body, Honoured
from ostro.server.mistral.forms import MistralChat
from ostro.server.openai.forms import OpenAIChat


class CommonChat(OpenAIChat, MistralChat, OstroFields):
    """A chat request in the words of OpenAI, Mistral and ostro together."""

    builtin_tools: Annotated[
        Strings | None, Honoured("Tools that Llama 3.1 was trained with: brave_search, wolfram_alpha.")
    ] = None


CHAT_FORMS: Mapping[Dialect, type[Body]] = {
    "openai": OpenAIChat,
    "mistral": MistralChat,
    "azure": AzureChat,
    "common": CommonChat,
}
