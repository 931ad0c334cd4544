"""`/health` and `/metrics`: whether the server works, and how it does."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from ostro.server.metrics import CONTENT_TYPE
from ostro.server.models import Models


def status_router(models: Models) -> APIRouter:
    """The two routes over these models. Neither waits for a model, so both answer at once however busy they are."""
    router = APIRouter(tags=["status"])

    @router.get("/health", responses={503: {"description": "The server takes no requests"}})
    async def health() -> JSONResponse:
        """Whether requests are taken: 200 and `{"status": "ok"}`, or 503 with "stopping" or "failed"."""
        status = models.status
        return JSONResponse({"status": status}, 200 if status == "ok" else 503, headers={"cache-control": "no-store"})

    @router.get("/metrics", response_class=Response, responses={200: {"content": {CONTENT_TYPE: {}}}})
    async def metrics() -> Response:
        """Counters, times and how things stand, in Prometheus's text format."""
        return Response(models.metrics.text(), media_type=CONTENT_TYPE)

    return router
