"""Running the server: the socket, uvicorn around the application, and an end that lets running answers finish."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from ostro.errors import RequestError
from ostro.log import logger
from ostro.server.connections import Connection
from ostro.server.garbage import short_waits
from ostro.server.settings import ServerSettings

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_KEEP_ALIVE = 30  # seconds that an idle connection is kept: longer than clients keep theirs, so that they close first
_UNFINISHED = "ASGI callable returned without completing response"
_LAST = 2.0  # seconds after the grace time in which connections end


def open_socket(settings: ServerSettings) -> socket.socket:
    """A listening socket at the host and port. RequestError with the reason and the remedy where there can be none."""
    host, port = settings.host, settings.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server((address[0], port), family=family, backlog=2048)
    except socket.gaierror as error:
        raise RequestError(f"host: {host!r} is not known ({error.strerror}); try 127.0.0.1.", param="host") from error
    except OSError as error:
        raise _explained(error, host, port) from error


def _explained(error: OSError, host: str, port: int) -> RequestError:
    if error.errno == errno.EADDRINUSE:
        return RequestError(
            f"port: {port} is already in use on {host}, perhaps by another `ostro serve`. Stop that one, or choose "
            "another port; 0 takes any free one.",
            param="port",
        )
    if error.errno == errno.EACCES:
        return RequestError(
            f"port: {port} may be opened by the administrator only; choose one above 1023.", param="port"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return RequestError(
            f"host: {host} is no address of this machine; 0.0.0.0 stands for all of them.", param="host"
        )
    return RequestError(f"{host}, port {port}, cannot be listened at: {error.strerror or error}.", param="host")


def address_of(sock: socket.socket, settings: ServerSettings) -> str:
    """The URL at which the socket is reached, without a path: with the port that it really has.

    For a host that stands for all addresses of the machine it is the loopback one.
    """
    host, port = sock.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, settings.host)
    return f"{'https' if settings.tls_cert else 'http'}://{f'[{shown}]' if ':' in shown else shown}:{port}"


def serve(
    start: Callable[[], Awaitable[Any]],
    settings: ServerSettings,
    sock: socket.socket,
    *,
    ready: Callable[[], None],
    stop: Callable[[float], Awaitable[None]],
) -> bool:
    """Serve an application until SIGINT or SIGTERM; False if a second signal cut the end short.

    `start` is awaited in the event loop of the server and returns the ASGI application; Ctrl-C meanwhile is a
    KeyboardInterrupt. `ready` is called when requests are answered. At the signal no more connections are taken, and
    `stop` is called with the seconds that running answers have: it is to refuse new ones and return when all have
    ended.
    """
    context = _tls(settings)
    _hear_uvicorn()

    async def main() -> bool:
        config = uvicorn.Config(await start(), **_options(settings))
        config.timeout_graceful_shutdown = settings.grace_seconds + _LAST  # type: ignore[assignment]  # as good as int
        config.load()
        config.ssl = context
        server = Server(config, settings, ready, stop)
        async with short_waits():
            await server.serve(sockets=[sock])
        return not server.force_exit

    return asyncio.run(main())


def _options(settings: ServerSettings) -> dict[str, Any]:
    """How uvicorn runs: what it would do beside serving, others do here."""
    return {
        "http": _protocol(settings),
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "timeout_keep_alive": _KEEP_ALIVE,
    }


def _tls(settings: ServerSettings) -> ssl.SSLContext | None:
    """The context with certificate and key; RequestError where they cannot be used."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise RequestError(
            f"tls_cert {settings.tls_cert} and tls_key {settings.tls_key} cannot be used ({reason}): give a PEM "
            "certificate and the key that belongs to it, without a password.",
            param="tls_cert",
        ) from error
    return context


class Server(uvicorn.Server):
    """uvicorn's server, with signals that end it in good order and leave the process its own exit code."""

    def __init__(
        self,
        config: uvicorn.Config,
        settings: ServerSettings,
        ready: Callable[[], None],
        stop: Callable[[float], Awaitable[None]],
    ) -> None:
        super().__init__(config)
        self._grace = settings.grace_seconds
        self._ready = ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets=sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let the running answers finish, while no connection is taken any more."""
        stopping = asyncio.ensure_future(self._stop(self._grace))
        await super().shutdown(sockets=sockets)
        if self.force_exit:
            stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=self.force_exit)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Hear the signals in the event loop; uvicorn would raise them once more at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)

    def _signalled(self, number: int) -> None:
        if self.should_exit:
            self.force_exit = True
            logger.warning("Stopped at once: running answers were cut off.")
        else:
            self.should_exit = True
            name = signal.Signals(number).name
            logger.warning("%s: stopping; running answers have %g s. Once more stops at once.", name, self._grace)


def _protocol(settings: ServerSettings) -> type[Connection]:
    class Bounded(Connection):
        most = 4 * settings.max_concurrent

    return Bounded


def _hear_uvicorn() -> None:
    """Let what uvicorn has to say pass through our log: its warnings, but no traceback of a fault at this level."""
    theirs = logging.getLogger("uvicorn.error")
    theirs.handlers = [_Relay()]
    theirs.propagate = False
    theirs.setLevel(logging.WARNING)


class _Relay(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, asyncio.CancelledError):
            return  # an answer that was cut off when the grace time had passed
        if record.getMessage().startswith(_UNFINISHED):
            return  # an answer that broke off: its line in the access log says why
        if error is None:
            logger.log(min(record.levelno, logging.WARNING), "%s", record.getMessage().strip())
        else:
            logger.error("%s (%s: %s)", record.getMessage().strip(), type(error).__name__, error)
            logger.debug("where it came from:", exc_info=error)
