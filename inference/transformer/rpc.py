"""Open Inference v2 over gRPC: the same answers and errors as over REST, and a log line a request."""

from __future__ import annotations

import contextvars
import json
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_interceptor import AsyncExceptionToStatusInterceptor
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from inference.transformer import errors, tensors, v2
from inference.transformer.errors import REQUEST_ID
from inference.transformer.model import CLIENT_HEADER, REQUEST_HEADER
from pvforecast.errors import InvalidInput

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_MAX_DETAILS = 1_500  # characters of a message: all details travel in one header, of which 8 KB is safe
_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")


class Servicer(InferenceServicer):  # type: ignore[misc]  # kserve is untyped
    """KServe's servicer with readiness and metadata of the forecast service."""

    def __init__(self, data_plane: DataPlane, repository: ModelRepositoryExtension, status: v2.Status) -> None:
        super().__init__(data_plane, repository)
        self._status = status

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: object) -> pb.ServerMetadataResponse:  # noqa: ARG002  # gRPC passes them
        return pb.ServerMetadataResponse(**v2.server_metadata(self._data_plane))

    async def ServerReady(self, request: pb.ServerReadyRequest, context: object) -> pb.ServerReadyResponse:  # noqa: ARG002
        return pb.ServerReadyResponse(ready=await self._status.ready())

    async def ModelReady(self, request: pb.ModelReadyRequest, context: object) -> pb.ModelReadyResponse:  # noqa: ARG002
        self._data_plane.get_model_from_registry(request.name)
        return pb.ModelReadyResponse(ready=await self._status.ready())

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: object) -> pb.ModelMetadataResponse:  # noqa: ARG002
        self._data_plane.get_model_from_registry(request.name)
        return pb.ModelMetadataResponse(**v2.metadata(self._status))

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: grpc.aio.ServicerContext
    ) -> pb.ModelInferResponse:
        self._data_plane.get_model_from_registry(request.model_name)
        headers = _metadata(context) | {REQUEST_HEADER: _request_id.get()}
        asked = tensors.from_grpc(request)
        raw = bool(request.raw_input_contents) or asked.parameters.get("binary_data_output") is True
        response = await v2.infer(self._data_plane, asked, headers, raw=raw)
        return response.to_grpc()


class Edge(AsyncExceptionToStatusInterceptor):
    """Request ids, one log line a request, and every error as a status whose details are the one shape of errors."""

    async def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """What is no message comes to `intercept` as the error: gRPC itself answers UNKNOWN and logs a traceback."""
        handler = await super().intercept_service(continuation, handler_call_details)  # type: ignore[no-untyped-call]
        if handler is None or handler.request_deserializer is None:
            return handler
        read = handler.request_deserializer

        def careful(data: bytes) -> Any:
            try:
                return read(data)
            except DecodeError as error:
                return error

        return handler._replace(request_deserializer=careful)

    async def intercept(
        self, method: Callable[..., Any], request_or_iterator: Any, context: grpc.aio.ServicerContext, method_name: str
    ) -> Any:
        begin, given = time.perf_counter(), _metadata(context)
        request_id = given.get(REQUEST_HEADER, "")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = str(uuid.uuid4())
        _request_id.set(request_id)
        context.set_trailing_metadata(((REQUEST_HEADER, request_id),))
        try:
            broken = isinstance(request_or_iterator, DecodeError)
            return await super().intercept(_refuse if broken else method, request_or_iterator, context, method_name)
        finally:
            log.info(
                "grpc %s %s %.1f ms client=%s request=%s",
                method_name.rsplit("/", 1)[-1],
                context.code() or grpc.StatusCode.OK.value[0],
                (time.perf_counter() - begin) * 1e3,
                given.get(CLIENT_HEADER, "-"),
                request_id,
            )

    async def handle_exception(
        self,
        ex: Exception,
        request_or_iterator: Any,  # noqa: ARG002  # the base class names it
        context: grpc.aio.ServicerContext,
        method_name: str,
    ) -> NoReturn:
        told, request_id = errors.problem(ex), _request_id.get()
        status = _STATUS.get(told.status, grpc.StatusCode.INTERNAL)
        if status is grpc.StatusCode.INTERNAL:
            log.error("%s failed, request %s", method_name, request_id, exc_info=ex)
        elif told.status >= 500:
            log.warning("request %s: %s %s", request_id, type(ex).__name__, ex)
        trailers = [(REQUEST_HEADER, request_id)]
        if told.status == 503:
            trailers.append(("retry-after", str(errors.RETRY_AFTER_S)))
        context.set_trailing_metadata(tuple(trailers))
        body = told.as_dict(request_id)
        for name in ("error", "field", "hint"):
            body[name] = (body[name] or "")[:_MAX_DETAILS] or None
        await context.abort(status, json.dumps(body))
        raise ex  # not reached: abort raises


async def _refuse(error: DecodeError, context: object) -> NoReturn:  # noqa: ARG001  # called as a method of gRPC
    raise InvalidInput("the message cannot be read", field="message", hint=tensors.SEE) from error


def _metadata(context: grpc.aio.ServicerContext) -> dict[str, str]:
    """What came with the request, names in lower case; binary values are left out."""
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def servicer(status: v2.Status) -> Callable[[DataPlane, ModelRepositoryExtension], InferenceServicer]:
    """Makes the servicer of a data plane."""
    return lambda data_plane, repository: Servicer(data_plane, repository, status)
