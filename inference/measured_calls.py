"""Inferences counted by outcome and timed, over gRPC. Apart from HTTP's, for images that have no gRPC."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from inference.measured import OK, note


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
                note(self._service, "grpc", code, begin)
            return answer

        return grpc.unary_unary_rpc_method_handler(measured, handler.request_deserializer, handler.response_serializer)


def _code(details: str | None) -> str:
    try:
        return str(json.loads(details or "")["code"])
    except (ValueError, KeyError, TypeError):
        return "grpc_error"
