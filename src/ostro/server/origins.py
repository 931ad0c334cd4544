"""Which web pages may use the server: none but its own, and those that were named.

A page that a user visits can make the browser send requests to this machine. Two things stand against it. A page whose
own name is made to point at 127.0.0.1 (DNS rebinding) sends that name in `Host`, so on the loopback device only the
names of this machine are answered. And a request that changes or computes anything is refused when its `Origin`, which
browsers add and pages cannot forge, is another one.
"""

from __future__ import annotations

from collections.abc import Sequence

from ostro.server.refusal import App, Receive, Scope, Send, headers_of, refuse
from ostro.server.settings import ServerSettings, is_loopback

_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})


class Origins:
    """Refuses, with 403, requests that address another host or come from another site's page."""

    def __init__(self, app: App, settings: ServerSettings) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in (settings.host, *settings.allowed_hosts))
        self._checks_host = settings.is_loopback or bool(settings.allowed_hosts)
        self._origins = frozenset(settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        hosts = headers_of(scope, "host")
        problem = self._wrong_host(hosts) or self._wrong_origin(scope["method"], headers_of(scope, "origin"), hosts)
        if problem is None:
            return await self._app(scope, receive, send)
        return await refuse(scope, send, 403, problem, type="permission_error", code="forbidden_origin")

    def _wrong_host(self, hosts: Sequence[str]) -> str | None:
        """None too without a Host header: HTTP/1.0 has none, and browsers always send one."""
        for host in hosts if self._checks_host else ():
            name = host_name(host)
            if name not in self._hosts and not is_loopback(name) and not name.endswith(".localhost"):
                return (
                    f"This server does not answer to the name {name[:100]!r}. If it is reached by it on purpose, start "
                    "it with --allowed-host and that name."
                )
        return None

    def _wrong_origin(self, method: str, origins: Sequence[str], hosts: Sequence[str]) -> str | None:
        for origin in origins if method not in _HARMLESS else ():
            # Browsers send "scheme://host:port" or "null"; whatever else comes is not to be parsed, only refused.
            is_own = origin.partition("://")[2].lower() in {host.lower() for host in hosts} - {""}
            if not is_own and origin not in self._origins:
                return (
                    f"A page of {origin[:100]!r} may not use this server. If it is yours, start the server with "
                    "--cors-origin and that origin."
                )
        return None


def host_name(host: str) -> str:
    """The name or address in a Host header, without the port, in lower case.

    >>> [host_name(host) for host in ("LOCALHOST:8000", "127.0.0.1", "[::1]:8000", "::1")]
    ['localhost', '127.0.0.1', '::1', '::1']
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    if host.count(":") > 1:
        return host.lower()
    return host.partition(":")[0].lower().rstrip(".")
