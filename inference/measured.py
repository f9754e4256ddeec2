"""Requests counted by outcome and timed, over HTTP and gRPC."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
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
            _note(self._service, protocol(scope["path"]), code, begin)


class MeasuredCalls(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc is untyped
    """Inferences of a gRPC server whose errors carry JSON with a `code`. It goes before what makes errors statuses."""

    def __init__(self, service: str) -> None:
        self._service = service

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], call: Any) -> Any:
        handler = await continuation(call)
        if handler is None or handler.unary_unary is None or not call.method.endswith("/ModelInfer"):
            return handler

        async def measured(request: Any, context: grpc.aio.ServicerContext) -> Any:
            begin, code = time.perf_counter(), "cancelled"
            try:
                answer = await handler.unary_unary(request, context)
                code = OK
            except grpc.aio.AbortError:
                code = _code(context.details())
                raise
            finally:
                _note(self._service, "grpc", code, begin)
            return answer

        return grpc.unary_unary_rpc_method_handler(measured, handler.request_deserializer, handler.response_serializer)


def protocol(path: str) -> str:
    """How a forecast was asked for; ``http`` for everything that is none."""
    if path.startswith("/v1/") and (path.endswith(":predict") or path == "/v1/forecasts"):
        return "v1"
    if path.startswith("/v2/") and path.endswith("/infer"):
        return "v2"
    return "portfolio" if path.startswith("/v1/portfolio") else "http"


def _code(details: str | None) -> str:
    try:
        return str(json.loads(details or "")["code"])
    except (ValueError, KeyError, TypeError):
        return "grpc_error"


def _note(service: str, kind: str, code: str, begin: float) -> None:
    REQUESTS.labels(service, kind, code).inc()
    DURATION.labels(service, kind).observe(time.perf_counter() - begin)
