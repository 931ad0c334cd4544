"""`ServerSettings`: where the server listens, who may use it, and how much one request may ask for."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ostro.errors import RequestError

MIB = 1 << 20
MIN_PUBLIC_KEY = 16
"""Fewest characters of a key where the server can be reached from other machines."""

_KEY = re.compile(r"[\x21-\x7e]{1,512}")
_HOST_NAME = re.compile(r"(?!-)[a-z0-9._-]{1,253}")
_MOST = 1 << 40
_LOG_FORMATS = ("text", "json", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What holds for the server as a whole. RequestError, naming the field, for a value that is not allowed.

    Where it listens: `host` is an address or a name, `port` 0 is any free one. `tls_cert` and `tls_key` are PEM files;
    both or neither.

    Who may use it: `api_keys`, any of which opens everything; empty: everyone who can reach it, which a host other
    than this machine's loopback device refuses. `allowed_hosts` are further names (or addresses) under which a client
    may address the server, `cors_origins` the web pages of other origins that may (such as https://chat.example.org).

    How much at once: `max_concurrent` requests are worked on, beyond that the answer is 429; of these `max_queue` may
    wait for the model. After the signal to stop, running answers have `grace_seconds`.

    How much in one request: `max_body_bytes`, `max_json_depth` levels and `max_json_values` values of the body, which
    must have arrived within `body_seconds`; `max_tokens_limit` tokens of an answer (None: what the context holds),
    `max_choices` answers (`n`), `max_inputs` prompts or texts in a list.

    `strict` refuses fields that no dialect documents, instead of naming them in a header and in the log. `access_log`
    is "text", "json" or "off".

    >>> ServerSettings(port=0).origin
    'http://127.0.0.1:0'
    """

    host: str = "127.0.0.1"
    port: int = 8000
    tls_cert: Path | None = None
    tls_key: Path | None = None
    api_keys: Sequence[str] = field(default=(), repr=False)
    allowed_hosts: Sequence[str] = ()
    cors_origins: Sequence[str] = ()
    max_concurrent: int = 256
    max_queue: int = 128
    grace_seconds: float = 30.0
    max_body_bytes: int = 32 * MIB
    max_json_depth: int = 64
    max_json_values: int = 250_000
    body_seconds: float = 60.0
    max_tokens_limit: int | None = None
    max_choices: int = 16
    max_inputs: int = 2048
    strict: bool = False
    access_log: str = "text"

    def __post_init__(self) -> None:
        for name in ("api_keys", "allowed_hosts", "cors_origins"):
            object.__setattr__(self, name, _strings(name, getattr(self, name)))
        _check_host("host", self.host)
        _check_number("port", self.port, 0, 65535)
        for name, least in _NUMBERS.items():
            _check_number(name, getattr(self, name), least, _MOST)
        if self.max_tokens_limit is not None:
            _check_number("max_tokens_limit", self.max_tokens_limit, 1, _MOST)
        for name in ("grace_seconds", "body_seconds"):
            _check_seconds(name, getattr(self, name))
        if not isinstance(self.strict, bool):
            raise RequestError(f"strict must be True or False, not {self.strict!r}.", param="strict")
        if self.access_log not in _LOG_FORMATS:
            raise RequestError(
                f"access_log must be one of {', '.join(_LOG_FORMATS)}, not {self.access_log!r}.", param="access_log"
            )
        for host in self.allowed_hosts:
            _check_host("allowed_hosts", host)
        for origin in self.cors_origins:
            _check_origin(origin)
        _check_tls(self.tls_cert, self.tls_key)
        self._check_keys()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    @property
    def origin(self) -> str:
        """The address as a URL without a path."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls_cert else 'http'}://{shown}:{self.port}"

    def _check_keys(self) -> None:
        for key in self.api_keys:
            if not _KEY.fullmatch(key):
                raise RequestError(
                    "An API key is 1 to 512 printable ASCII characters without spaces, as it travels in an HTTP "
                    "header; one of the keys given is not.",
                    param="api_keys",
                )
        if self.is_loopback:
            return
        if not self.api_keys:
            raise RequestError(
                f"The host {self.host} can be reached from other machines, so a key is needed: give api_keys, or use "
                "the host 127.0.0.1.",
                param="api_keys",
            )
        if any(len(key) < MIN_PUBLIC_KEY for key in self.api_keys):
            raise RequestError(
                f"The host {self.host} can be reached from other machines, so a key must have at least "
                f"{MIN_PUBLIC_KEY} characters; one of the keys given is shorter.",
                param="api_keys",
            )


_NUMBERS = {
    "max_concurrent": 1,
    "max_queue": 0,
    "max_body_bytes": 1024,
    "max_json_depth": 8,
    "max_json_values": 1000,
    "max_choices": 1,
    "max_inputs": 1,
}


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone: an address of the loopback device, or the name localhost.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _strings(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(each, str) for each in value):
        shown = "" if name == "api_keys" else f", not {value!r}"
        raise RequestError(f"{name} must be a list of strings{shown}.", param=name)
    return tuple(value)


def _check_number(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise RequestError(f"{name} must be a whole number from {least} to {most}, not {value!r}.", param=name)


def _check_seconds(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise RequestError(f"{name} must be a number of seconds of at least 0, not {value!r}.", param=name)


def _check_host(name: str, value: object) -> None:
    if isinstance(value, str):
        try:
            ipaddress.ip_address(value)
            return
        except ValueError:
            if _HOST_NAME.fullmatch(value.lower()):
                return
    raise RequestError(
        f"{name}: {value!r} is neither an address nor a host name (without a port), such as 127.0.0.1 or "
        "models.example.org.",
        param=name,
    )


def _check_origin(value: str) -> None:
    if value == "*":
        raise RequestError(
            "cors_origins does not take '*': every web page that a user of this server visits could then use it. Name "
            "the origins of the pages that may, such as https://chat.example.org.",
            param="cors_origins",
        )
    try:
        parts = urlsplit(value)
        is_origin = bool(parts.scheme and parts.netloc) and value == f"{parts.scheme}://{parts.netloc}".lower()
    except ValueError:  # such as a bracket without its other one
        is_origin = False
    if not is_origin or "@" in value:
        raise RequestError(
            f"cors_origins: {value!r} is not an origin: a scheme, a host in lower case and, where it is not the usual "
            "one, a port, with no path, such as https://chat.example.org or http://localhost:3000.",
            param="cors_origins",
        )


def _check_tls(cert: Path | None, key: Path | None) -> None:
    if (cert is None) != (key is None):
        missing = "tls_key" if key is None else "tls_cert"
        raise RequestError(f"{missing} is missing: TLS needs tls_cert and tls_key, both PEM files.", param=missing)
    for name, path in (("tls_cert", cert), ("tls_key", key)):
        if path is not None and not Path(path).is_file():
            raise RequestError(f"{name}: there is no file {path}.", param=name)
