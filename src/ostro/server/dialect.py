"""In whose words a request is written.

1. A path below `/openai`, `/mistral`, `/azure` or `/anthropic` says it. Everything else of such a path is as without.
2. A route that only one of them has says it too: `/v1/fim/completions` is Mistral's, `/info` Azure's, and so on.
3. On the routes that they share (`/v1/chat/completions`, `/v1/embeddings`, with or without `/v1`) a request with
   `api-version` in its query or with the header `extra-parameters` is Azure's.
4. Any other is of the common dialect: the fields of OpenAI and of Mistral together. They contradict each other nowhere.

The answers of OpenAI, Mistral, Azure and the common dialect are of one form, which the clients of all of them read;
what the dialect decides is which fields are documented, and the form of errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import parse_qs

Dialect: TypeAlias = Literal["common", "openai", "mistral", "azure", "anthropic"]

_NAMED = frozenset(get_args(Dialect)) - {"common"}
_OWN: dict[str, Dialect] = {
    "fim": "mistral",
    "info": "azure",
    "images": "azure",
    "completions": "openai",
    "responses": "openai",
    "messages": "anthropic",
}
"""Routes that one dialect alone has, by the first word behind `/v1`."""


def dialect_of(scope: Mapping[str, Any]) -> Dialect:
    """The dialect of a request (an ASGI scope).

    >>> dialect_of({"path": "/v1/fim/completions", "headers": [], "query_string": b""})
    'mistral'
    >>> dialect_of({"path": "/chat/completions", "headers": [], "query_string": b"api-version=2024-05-01-preview"})
    'azure'
    """
    words = scope["path"].strip("/").split("/")
    if words[0] in _NAMED:
        return words[0]  # type: ignore[no-any-return]
    word = words[1] if words[0] == "v1" and len(words) > 1 else words[0]
    if word in _OWN:
        return _OWN[word]
    is_azure = any(name == b"extra-parameters" for name, _ in scope["headers"])
    return "azure" if is_azure or "api-version" in parse_qs(scope["query_string"].decode("latin-1")) else "common"
