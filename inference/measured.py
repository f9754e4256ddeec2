"""Requests counted by outcome and timed, over HTTP; `measured_calls` does it over gRPC."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference import metrics

REQUESTS = metrics.counter("pvf_requests_total")
DURATION = metrics.histogram("pvf_request_duration_seconds")

ERROR_CODE = "error_code"
"""Where an error handler leaves the error's code in the request's scope."""
OK = "ok"
_QUIET = ("/", "/metrics", "/healthz")


class Measured:
    """ASGI middleware. Probes and scrapes are not requests."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _QUIET:
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            code = OK if status < 400 else scope.get(ERROR_CODE, "http_error")
            note(self._service, protocol(scope["path"]), code, begin)


def protocol(path: str) -> str:
    """How a forecast was asked for; ``http`` for everything that is none."""
    if path.startswith("/v1/") and (path.endswith(":predict") or path == "/v1/forecasts"):
        return "v1"
    if path.startswith("/v2/") and path.endswith("/infer"):
        return "v2"
    return "portfolio" if path.startswith("/v1/portfolio") else "http"


def note(service: str, kind: str, code: str, begin: float) -> None:
    """One request, begun at this reading of the performance counter."""
    REQUESTS.labels(service, kind, code).inc()
    DURATION.labels(service, kind).observe(time.perf_counter() - begin)
