"""What azure-ai-inference sends to `/chat/completions`."""

from __future__ import annotations

from typing import Annotated

from ostro.server.chat_fields import ChatFields
from ostro.server.fields import Honoured


class AzureChat(ChatFields):
    """The body of a chat request; `model_extras` of the client stand beside these fields."""

    seed: Annotated[int | None, Honoured("Makes the draws repeatable; the same as random_seed.")] = None
