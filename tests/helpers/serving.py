"""An application behind a real socket, in a thread of this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from ostro.server.run import Server, _options, _tls, address_of, open_socket
from ostro.server.settings import ServerSettings


async def _nothing(grace: float) -> None:
    pass


@contextmanager
def serving(app: Any, settings: ServerSettings, stop: Callable[[float], Awaitable[None]] = _nothing) -> Iterator[str]:
    """Serve `app`; the value is its address. `settings` should have port 0."""
    sock = open_socket(settings)
    is_ready = threading.Event()
    made = uvicorn.Config(app, **_options(settings))
    made.timeout_graceful_shutdown = 5
    made.load()
    made.ssl = _tls(settings)
    server = Server(made, settings, is_ready.set, stop)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[sock])))
    thread.start()
    try:
        assert is_ready.wait(60)
        yield address_of(sock, settings)
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()
