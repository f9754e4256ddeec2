"""Health and metrics of the telemetry service."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from inference.ingest.metrics import Metrics


def build_app(metrics: Metrics, troubles: Callable[[], dict[str, str]], dead: Callable[[], list[str]]) -> FastAPI:
    """Routes.

    Parameters
    ----------
    troubles : part -> why it can't do its work now; empty when all is well.
    dead : threads that ended without being told to.
    """
    app = FastAPI(title="PV forecast telemetry", docs_url=None, redoc_url=None)

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        """Alive. A broker or a lake that is away is no reason to be restarted."""
        ended = dead()
        return JSONResponse({"status": "dead" if ended else "ok", "ended": ended}, 500 if ended else 200)

    @app.get("/readyz")
    def readyz() -> JSONResponse:
        """Subscribed, and the lake takes rows."""
        found = troubles()
        return JSONResponse({"status": "not ready" if found else "ready", **found}, 503 if found else 200)

    @app.get("/metrics")
    def show() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app
