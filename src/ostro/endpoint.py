"""A connection to a server elsewhere, of OpenAI's protocol or its kin: the one home of what clients repeat.

Address and key are checked before anything is sent, no redirect is followed, a busy server is asked again, an error
says what the server said, and no text has the key. What is asked, and what an answer means, is the caller's.

    server = Server("https://api.mistral.ai/v1", key)
    with Connection(server, retries=5) as connection:
        answer = connection.post("/embeddings", {"model": "mistral-embed", "input": ["Hello"]})
"""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from ostro.errors import RequestError, ServiceError
from ostro.log import logger

if TYPE_CHECKING:
    import httpx

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LONGEST_PAUSE = 60.0
_ROUTE = re.compile(r"(/chat/completions|/completions|/embeddings)$")
_USER = re.compile(r"(?<=//)[^/]*@")
_SHORTEST_SECRET = 8  # shorter keys are made up, such as "x", and may be parts of words


class RefusedError(ServiceError):
    """The server refuses a request, and would again. `status` is HTTP's, `body` the JSON of its answer or None."""

    def __init__(self, message: str, status: int, body: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class Server:
    """Where a server is, what errors call it, and the headers with which it is asked.

    `url` has its /v1, if the server has one; a route behind it is cut, and a query goes into every request. The key
    stands in `Authorization`, and in the header `key_header` too if that is given. `name` begins errors, before the
    address. RequestError for an address or a key that is none; `param` names the argument that holds the address.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        name: str = "The endpoint",
        param: str = "endpoint",
        key_header: str | None = None,
    ) -> None:
        base, mark, query = url.partition("?")
        self.base_url = _ROUTE.sub("", base.rstrip("/")).rstrip("/")
        self.address = _USER.sub("", self.base_url)  # who logs in, and a query, are the user's secrets
        self.name = f"{name} {self.address}"
        self.headers: dict[str, str] = {}
        self._query = mark + query if query else ""
        self._key = api_key or ""
        if not _can_be_asked(self.base_url):
            shown = re.sub("//.*@", "//", base)
            raise RequestError(f"{shown!r} is no address such as http://127.0.0.1:8000/v1.", param=param)
        if api_key:
            # The error of sending it would show it.
            if not (api_key.isascii() and api_key.isprintable() and api_key == api_key.strip()):
                words = "The key has characters that cannot be sent: is it whole, and alone?"
                raise RequestError(words, param="api_key")
            self.headers["Authorization"] = f"Bearer {api_key}"
            if key_header:
                self.headers[key_header] = api_key

    def url_of(self, path: str, *, is_beside: bool = False) -> str:
        """Of a route below the /v1, such as /embeddings, or of one that stands beside it, as /tokenize does."""
        return (self.base_url.removesuffix("/v1") if is_beside else self.base_url) + path + self._query

    def told(self, text: str) -> str:
        """A text for users: without the key, which some servers repeat."""
        return text.replace(self._key, "(hidden)") if len(self._key) >= _SHORTEST_SECRET else text


class Connection:
    """Requests to a server; may be made from several threads, and closed by another.

    `timeout` is the longest silence in seconds. A busy server, or one that was there and cannot be reached, is asked
    again up to `retries` times, after `first_pause`, twice that, ... seconds or as long as it says. ServiceError where
    that did not help, and RefusedError where it could not.
    """

    def __init__(self, server: Server, *, timeout: float = 600.0, retries: int = 0, first_pause: float = 1.0) -> None:
        import httpx

        self.server = server
        self._client = httpx.Client(timeout=timeout, headers=server.headers, follow_redirects=False)
        self._timeout, self._retries, self._first_pause = timeout, retries, first_pause
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._num_under_way = 0
        self._has_answered = self._has_warned = False

    def close(self) -> None:
        """Ask no more; requests that wait for their turn give up. The last that is under way closes the sockets."""
        with self._lock:
            self._closed.set()
            is_idle = self._num_under_way == 0
        if is_idle:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def post(self, path: str, body: Mapping[str, Any], *, is_beside: bool = False) -> Any:
        """The JSON of the answer, or None where it is none. `is_beside`: as for `Server.url_of`."""
        with self._under_way():
            return value_of(self._asked(self.server.url_of(path, is_beside=is_beside), body).content)

    def events(self, path: str, body: Mapping[str, Any], *, may_be_whole: bool = False) -> Iterator[Mapping[str, Any]]:
        """The chunks of a streamed completion, whose `choices` and `delta` have the right types if they are there.

        It is asked again only as long as nothing came. ServiceError for an error amid the chunks, and where they end
        before [DONE] and before a finish_reason. Of a server that does not stream the answer is one chunk, with the
        message as its delta, if it `may_be_whole`.
        """
        import httpx

        with self._under_way():
            response = self._asked(self.server.url_of(path), body, is_streamed=True)
            try:
                if may_be_whole and "text/event-stream" not in response.headers.get("content-type", ""):
                    yield self._checked(_as_chunk(value_of(response.read())))
                else:
                    yield from self._chunks(response)
            except httpx.HTTPError as error:
                raise ServiceError(f"{self.server.name} broke its answer off: {_reason(error)}") from None
            finally:
                response.close()

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        with self._lock:
            if self._closed.is_set():
                raise ServiceError(f"{self.server.name} is asked no more: the connection is closed.")
            self._num_under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_under_way -= 1
                is_last = self._closed.is_set() and self._num_under_way == 0
            if is_last:
                self._client.close()

    def _asked(self, url: str, body: Mapping[str, Any], *, is_streamed: bool = False) -> httpx.Response:
        """The response, whose status is 200; it is read whole unless it is streamed."""
        for attempt in range(self._retries + 1):
            try:
                return self._sent(url, body, is_streamed)
            except _BusyError as busy:
                if attempt == self._retries or self._gives_up(busy, attempt):
                    remedy = f"It was asked {attempt + 1} times; try again later." if attempt else "Try again later."
                    raise ServiceError(f"{busy} {remedy}") from None
        raise AssertionError("a request without an end")

    def _gives_up(self, busy: _BusyError, attempt: int) -> bool:
        """After the pause: whether the connection was closed before or meanwhile."""
        if not self._has_warned and not self._closed.is_set():
            self._has_warned = True
            logger.warning("%s It is asked again, up to %d times.", busy, self._retries)
        pause = self._first_pause * 2.0**attempt * random.uniform(0.8, 1.2)
        return self._closed.wait(min(_LONGEST_PAUSE, max(pause, busy.retry_after)))

    def _sent(self, url: str, body: Mapping[str, Any], is_streamed: bool) -> httpx.Response:
        import httpx

        try:
            response = self._client.send(self._client.build_request("POST", url, json=body), stream=is_streamed)
            self._has_answered = True
            if response.status_code == 200:
                return response
            response.read()
        except httpx.TimeoutException:
            raise _BusyError(f"{self.server.name} was silent for {self._timeout:g} seconds.") from None
        except httpx.HTTPError as error:
            words = f"{self.server.name} cannot be reached: {_reason(error)}"
            if isinstance(error, httpx.ConnectError) and not self._has_answered:  # not there, rather than busy
                raise ServiceError(f"{words} Check the address.") from None
            raise _BusyError(words) from None
        raise self._refusal(response)

    def _refusal(self, response: httpx.Response) -> Exception:
        status, body = response.status_code, value_of(response.content)
        said = self.server.told(message_of(body))
        words = f"{self.server.name} refuses the request (status {status}): {said}"
        if status in _AGAIN:
            return _BusyError(words, retry_after(response.headers.get("retry-after")))
        return RefusedError(words, status, body)

    def _chunks(self, response: httpx.Response) -> Iterator[Mapping[str, Any]]:
        is_whole = False
        for line in _lines(response):
            data = line[5:].strip() if line.startswith(b"data:") else b""
            if data == b"[DONE]":
                return
            if data:
                chunk = self._checked(value_of(data))
                is_whole |= any(choice.get("finish_reason") for choice in chunk.get("choices") or ())
                yield chunk
        if not is_whole:
            raise ServiceError(f"{self.server.name} ended its answer before it was whole.")

    def _checked(self, chunk: Any) -> Mapping[str, Any]:
        if isinstance(chunk, Mapping) and chunk.get("error"):
            raise ServiceError(f"{self.server.name} failed amid its answer: {self.server.told(message_of(chunk))}")
        if not isinstance(chunk, Mapping) or not _has_choices(chunk):
            raise ServiceError(f"{self.server.name} answered with something that is no completion.")
        return chunk


class _BusyError(Exception):
    """To be tried again."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def value_of(content: str | bytes) -> Any:
    """The JSON, or None where it is none.

    >>> value_of(b'{"a": 1}'), value_of("<html>")
    ({'a': 1}, None)
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def message_of(body: Any) -> str:
    """What the JSON of an error says, as a sentence; OpenAI, Mistral, Azure and FastAPI put it in different places.

    >>> message_of({"error": {"message": "full"}}), message_of({"detail": "Not Found"}), message_of(None)
    ('full.', 'Not Found.', 'it gives no reason.')
    """
    error = body.get("error", body) if isinstance(body, Mapping) else body
    message = error.get("message") or error.get("detail") if isinstance(error, Mapping) else error
    text = str(message).strip() if message else "it gives no reason"
    return text if text.endswith(".") else f"{text}."


def retry_after(header: str | None) -> float:
    """The seconds of a Retry-After, or 0 where it has none.

    >>> retry_after("2.5"), retry_after("Fri, 31 Dec 1999 23:59:59 GMT"), retry_after(None)
    (2.5, 0.0, 0.0)
    """
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0


def _can_be_asked(url: str) -> bool:
    import httpx

    try:
        host = httpx.URL(url).host
        host.encode("idna")  # as the socket will: parts of the name may be empty or too long
    except (httpx.InvalidURL, UnicodeError):
        return False
    return url.startswith(("http://", "https://")) and host != ""


def _reason(error: Exception) -> str:
    return message_of(str(error) or type(error).__name__)


def _lines(response: httpx.Response) -> Iterator[bytes]:
    """The lines of a stream of events. (httpx's own end at U+2028 and its like, which may stand inside JSON.)"""
    rest = b""
    for piece in response.iter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    yield rest


def _has_choices(chunk: Mapping[str, Any]) -> bool:
    choices = chunk.get("choices") or []
    return isinstance(choices, list) and all(
        isinstance(each, Mapping) and isinstance(each.get("delta") or {}, Mapping) for each in choices
    )


def _as_chunk(body: Any) -> Any:
    """A whole completion in the form of a chunk; an error as it is, and None for anything else."""
    if isinstance(body, Mapping) and body.get("error"):
        return body
    try:
        return {**body, "choices": [{**choice, "delta": choice["message"]} for choice in body["choices"]]}
    except (TypeError, KeyError):
        return None
