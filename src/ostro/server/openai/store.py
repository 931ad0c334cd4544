"""Responses that are kept for a while, in memory and within bounds, so that a next one can go on from them."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ostro.chat.messages import Message
from ostro.server.apart import json_pieces
from ostro.server.errors import NotStoredError


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as it was answered, the items that it answered, and the conversation that a next one goes on with."""

    body: dict[str, Any]
    input_items: list[dict[str, Any]]
    messages: tuple[Message, ...]
    owner: str = ""


class ResponseStore:
    """The newest responses: at most `max_entries`, and `max_bytes` of JSON; those that were not used longest go first.

    A response is found by those alone who send the same key as its `owner` did.
    """

    def __init__(self, max_entries: int = 1000, max_bytes: int = 64 << 20) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, tuple[StoredResponse, int]] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()  # a large response is put by a thread

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, response: StoredResponse) -> None:
        """Keep a response; one that is larger than all that may be kept is not."""
        size = _size(response)
        if size > self._max_bytes:
            return
        with self._lock:
            self._entries[response.body["id"]] = response, size
            self._num_bytes += size
            while len(self._entries) > self._max_entries or self._num_bytes > self._max_bytes:
                _, (_, freed) = self._entries.popitem(last=False)
                self._num_bytes -= freed

    def get(self, response_id: str, owner: str) -> StoredResponse:
        """The response of an id; NotStoredError where it is not, or not any more, or not for this owner."""
        with self._lock:
            found = self._entries.get(response_id)
            if found is not None and found[0].owner == owner:
                self._entries.move_to_end(response_id)
                return found[0]
        raise NotStoredError(
            f"There is no response {response_id[:80]!r}. They are kept in memory, {self._max_entries} of them and "
            f"{self._max_bytes >> 20} MiB, until the server stops; those with store: false are not."
        )

    def delete(self, response_id: str, owner: str) -> None:
        """Forget a response; NotStoredError as in `get`."""
        self.get(response_id, owner)
        with self._lock:
            _, size = self._entries.pop(response_id, (None, 0))
            self._num_bytes -= size


def _size(response: StoredResponse) -> int:
    messages: Sequence[Message] = response.messages
    texts = sum(len(repr(message)) for message in messages)
    return sum(map(len, json_pieces(response.body))) + len(json.dumps(response.input_items)) + texts
