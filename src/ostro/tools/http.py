"""HTTP of the tools: bounded in time and size, and silent about keys."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ostro.endpoint import value_of
from ostro.errors import ServiceError

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


def get_json(
    service: str, url: str, *, params: Mapping[str, str], headers: Mapping[str, str], timeout: float
) -> tuple[int, Any]:
    """Status and JSON of a GET; None where the body is no JSON. ServiceError where there is no answer."""
    import httpx

    _be_discreet()
    with httpx.Client(timeout=timeout, follow_redirects=False) as client:
        try:
            with client.stream("GET", url, params=dict(params), headers=dict(headers)) as response:
                body = _body(service, response)
                return response.status_code, value_of(body)
        except httpx.TimeoutException:
            raise ServiceError(f"{service} did not answer within {timeout:g} seconds; try again later.") from None
        except httpx.HTTPError as error:
            raise ServiceError(f"{service} cannot be reached: {_reason(error)}.") from None


def _be_discreet() -> None:
    log = logging.getLogger("httpx")
    if not any(isinstance(each, _Discreet) for each in log.filters):
        log.addFilter(_Discreet())


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
