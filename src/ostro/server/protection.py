"""What stands before the application, in order: log, origins, CORS, key, concurrency, body."""

from __future__ import annotations

from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from ostro.server.access_log import AccessLog
from ostro.server.auth import Auth
from ostro.server.limits import Bodies, Concurrency
from ostro.server.origins import Origins
from ostro.server.settings import ServerSettings


def protection(settings: ServerSettings) -> list[Middleware]:
    """The middleware of `FastAPI(middleware=...)`, the outermost first."""
    layers: list[Any] = [Middleware(AccessLog, format=settings.access_log), Middleware(Origins, settings=settings)]
    if settings.cors_origins:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=list(settings.cors_origins),
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["*"],  # of the origins above: their clients add headers of their own
                expose_headers=["x-request-id", "retry-after"],
            )
        )
    return [
        *layers,
        Middleware(Auth, keys=settings.api_keys),
        Middleware(Concurrency, max_concurrent=settings.max_concurrent),
        Middleware(Bodies, settings=settings),
    ]
