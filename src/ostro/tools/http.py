"""HTTP of the tools and endpoints: bounded in time and size, and silent about keys."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ostro.errors import MissingExtraError, ServiceError

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 4_000_000
_SECRETS = re.compile(r"(?<=[?&]appid=)[^&\s]*")


class _Discreet(logging.Filter):
    """httpx logs every URL, and Wolfram|Alpha takes its key in the URL."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "appid=" in message:
            record.msg, record.args = _SECRETS.sub("(hidden)", message), ()
        return True


def client(service: str, timeout: float, **options: Any) -> httpx.Client:
    """A client that follows no redirect; `service` is what its user calls it."""
    try:
        import httpx
    except ImportError:
        raise MissingExtraError("httpx", "tools", service) from None
    log = logging.getLogger("httpx")
    if not any(isinstance(each, _Discreet) for each in log.filters):
        log.addFilter(_Discreet())
    return httpx.Client(timeout=timeout, follow_redirects=False, **options)


def get_json(
    service: str, url: str, *, params: Mapping[str, str], headers: Mapping[str, str], timeout: float
) -> tuple[int, Any]:
    """Status and JSON of a GET; None where the body is no JSON. ServiceError where there is no answer."""
    import httpx

    with client(service, timeout) as opened:
        try:
            with opened.stream("GET", url, params=dict(params), headers=dict(headers)) as response:
                body = _body(service, response)
                return response.status_code, _value(body)
        except httpx.TimeoutException:
            raise ServiceError(f"{service} did not answer within {timeout:g} seconds; try again later.") from None
        except httpx.HTTPError as error:
            raise ServiceError(f"{service} cannot be reached: {_reason(error)}.") from None


def unreachable(service: str, error: Exception) -> ServiceError:
    """What to say of an error of httpx; its own texts may hold the URL."""
    return ServiceError(f"{service} cannot be reached: {_reason(error)}.")


def _reason(error: Exception) -> str:
    return _SECRETS.sub("(hidden)", str(error)) or type(error).__name__


def _body(service: str, response: httpx.Response) -> bytes:
    pieces, size = [], 0
    for piece in response.iter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > MAX_BYTES:
            raise ServiceError(f"{service} answered with more than {MAX_BYTES:,} bytes, which no tool needs.")
    return b"".join(pieces)


def _value(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
