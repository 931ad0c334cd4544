"""Embeddings of another server: OpenAI's, Mistral's or Azure's protocol."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ostro.endpoint import Connection, Server
from ostro.errors import RequestError, ServiceError
from ostro.rag.embedders import APIS, Api, EmbedderChoice, Role
from ostro.rag.store import Float32

MAX_INPUTS, MAX_CHARACTERS = 64, 120_000
"""Most texts, and most characters of them together, in one request."""

_AZURE_VERSION = "2024-05-01-preview"
_PIECE = re.compile(r"[A-Za-z]{1,4}|\d{1,2}|[^\W\d_a-zA-Z]|[^\w\s]|_")


class RemoteEmbedder:
    """The embedding model `model` of the server at `url` (with its /v1, if it has one).

    `api` is "openai" (which ostro's own server and most others speak), "mistral" or "azure". The key is `api_key`, or
    what the variable `api_key_env` holds. A busy server is asked again, up to `retries` times. Its tokenizer is not at
    hand, so tokens are estimated, rather too many than too few; `max_tokens` is its limit, 512 if nothing is known.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api: Api = "openai",
        api_key: str | None = None,
        api_key_env: str = "",
        max_tokens: int | None = 512,
        timeout: float = 120.0,
        retries: int = 4,
        first_pause: float = 1.0,
    ) -> None:
        if api not in APIS:
            raise RequestError(f"api must be one of {', '.join(APIS)}, not {api!r}.", param="embedder_api")
        key = api_key or (_key(api_key_env) if api_key_env else None)
        address, header = url, None
        if api == "azure":
            header = "api-key"
            if not url.partition("?")[2]:
                address = f"{url.rstrip('?')}?api-version={_AZURE_VERSION}"
        self._server = Server(address, key, name="The embedder", param="embedder_url", key_header=header)
        self._connection = Connection(self._server, timeout=timeout, retries=retries, first_pause=first_pause)
        self._model, self._api = model, api
        self.max_tokens = max_tokens
        self.choice = EmbedderChoice("remote", model, url, api, api_key_env)

    def count_tokens(self, text: str) -> int:
        """An estimate: four letters of ASCII, two digits, one mark or half a character of other scripts a token."""
        return sum(1 if piece.isascii() else 2 for piece in _PIECE.findall(text))

    def vectors(self, texts: Sequence[str], role: Role) -> Float32:
        """As `DocumentEmbedder.vectors`. ServiceError where the server cannot be reached or refuses."""
        from ostro.embeddings.base import unit_rows

        made = [self._asked(some, role) for some in _batches(texts)]
        return unit_rows(np.concatenate(made)) if made else np.empty((0, 0), np.float32)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def _asked(self, texts: Sequence[str], role: Role) -> Float32:
        body: dict[str, Any] = {"model": self._model, "input": list(texts)}
        if self._api == "azure":
            body["input_type"] = role
        return self._matrix(self._connection.post("/embeddings", body), len(texts))

    def _matrix(self, answer: Any, count: int) -> Float32:
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])
            matrix = np.array([row["embedding"] for row in rows], np.float32)
        except (TypeError, KeyError, ValueError):
            raise ServiceError(f"{self._server.name} answered with something that is no embedding.") from None
        if matrix.ndim != 2 or len(matrix) != count or not np.isfinite(matrix).all():
            raise ServiceError(f"{self._server.name} answered {count} texts with an array of shape {matrix.shape}.")
        return matrix


def _key(variable: str) -> str:
    key = os.environ.get(variable)
    if not key:
        raise RequestError(f"The environment variable {variable} is not set; it holds the embedder's key.", param=None)
    return key


def _batches(texts: Sequence[str]) -> list[list[str]]:
    batches: list[list[str]] = []
    room = 0
    for text in texts:
        if not batches or len(batches[-1]) == MAX_INPUTS or room < len(text):
            batches.append([])
            room = MAX_CHARACTERS
        batches[-1].append(text)
        room -= len(text)
    return batches
