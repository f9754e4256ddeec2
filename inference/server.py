"""KServe's server parts, put together for a service that is bound to one address and closed where it should be.

`kserve.ModelServer` binds to all addresses, shares a taken gRPC port silently (SO_REUSEPORT), lets any caller unload
the model, and logs a traceback for every bad request. Its data plane, servicer and endpoints are used as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import uvloop
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from grpc_interceptor import AsyncExceptionToStatusInterceptor
from kserve import Model
from kserve import errors as kserve_errors
from kserve.model_repository import ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from inference import web
from inference.measured_calls import MeasuredCalls
from inference.protocol import MAX_MESSAGE_BYTES, Refusal, RefusedError
from inference.tls import Certificate
from pvforecast.errors import InvalidInput, NotReady, PvForecastError

log = logging.getLogger(__name__)

Lifespan = Callable[[], contextlib.AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Rpc:
    """A gRPC server beside the HTTP one.

    Attributes
    ----------
    servicer : makes it on KServe's data plane.
    max_message_bytes : of what comes in.
    certificate : without one it is not encrypted, as between two processes of one pod.
    """

    host: str
    port: int
    servicer: Callable[[DataPlane, ModelRepositoryExtension], InferenceServicer]
    interceptor: grpc.aio.ServerInterceptor
    max_message_bytes: int = MAX_MESSAGE_BYTES
    certificate: Certificate | None = None


async def serve(
    name: str,
    model: Model,
    build_app: Callable[[DataPlane], FastAPI],
    lifespan: Lifespan,
    *,
    host: str,
    http_port: int,
    rpc: Rpc | None = None,
    certificate: Certificate | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, finish what is under way, return.

    Parameters
    ----------
    build_app : makes the HTTP application on KServe's data plane.
    lifespan : entered before the ports answer requests, left after the last one is answered.
    certificate : of HTTP.

    Raises
    ------
    StackError
        a port is taken.
    """
    # KServe 0.21 answers V1 with it; the notice would come with the first request.
    warnings.filterwarnings("ignore", "ORJSONResponse is deprecated")
    repository = ModelRepository()
    repository.update(model)
    data_plane = DataPlane(model_registry=repository)
    listener = web.listen(host, http_port)
    grpc_server = _grpc_server(name, data_plane, repository, rpc) if rpc else None
    # what the imports left, some hundred thousand objects, is no garbage: full collections need not walk through it
    gc.collect()
    gc.freeze()
    scheme, beside = "https" if certificate else "http", f", grpc {rpc.host}:{rpc.port}" if rpc else ""
    log.info("%s listens on %s://%s:%d%s", name, scheme, host, http_port, beside)
    async with lifespan(), _started(grpc_server):
        await web.serve(build_app(data_plane), listener, certificate)
    log.info("%s stopped", name)


def run(serving: Coroutine[Any, Any, None]) -> None:
    """`asyncio.run`, on uvloop: an event loop that takes less of each request."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


def _grpc_server(name: str, data_plane: DataPlane, repository: ModelRepository, rpc: Rpc) -> grpc.aio.Server:
    server = grpc.aio.server(
        interceptors=(MeasuredCalls(name), rpc.interceptor),
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", rpc.max_message_bytes),
        ],
    )
    servicer = rpc.servicer(data_plane, _ClosedRepository(repository))
    add_GRPCInferenceServiceServicer_to_server(servicer, server)
    try:
        if rpc.certificate is None:
            server.add_insecure_port(f"{rpc.host}:{rpc.port}")
        else:
            server.add_secure_port(f"{rpc.host}:{rpc.port}", _credentials(rpc.certificate))
    except RuntimeError as error:
        raise web.taken(rpc.host, rpc.port, "the gRPC port is taken") from error
    return server


def _credentials(certificate: Certificate) -> grpc.ServerCredentials:
    """Asked for each new connection which certificate to show."""
    shown = certificate.pair

    def newer() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        if shown == certificate.pair:
            return None
        shown = certificate.pair
        return _configuration(shown)

    return grpc.dynamic_ssl_server_credentials(_configuration(shown), newer)


def _configuration(pair: tuple[bytes, bytes]) -> grpc.ServerCertificateConfiguration:
    chain, key = pair
    return grpc.ssl_server_certificate_configuration([(key, chain)])


@contextlib.asynccontextmanager
async def _started(server: grpc.aio.Server | None) -> AsyncIterator[None]:
    if server is None:
        yield
        return
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=web.GRACE_S)


class _ClosedRepository(ModelRepositoryExtension):  # type: ignore[misc]  # kserve is untyped
    """Models come and go by promotion, never at a caller's word."""

    async def load(self, model_name: str) -> NoReturn:
        raise InvalidInput(f"{model_name} is loaded by promotion", field="model_name", hint="pvf pipeline run training")

    async def unload(self, model_name: str) -> NoReturn:
        raise InvalidInput(f"{model_name} is replaced by promotion", field="model_name", hint="pvf model rollback")


class StatusInterceptor(AsyncExceptionToStatusInterceptor):
    """Every error as a gRPC status whose details are a `Refusal`; only our own mistakes leave a traceback."""

    async def handle_exception(
        self,
        ex: Exception,
        request_or_iterator: Any,  # noqa: ARG002  # the base class names it
        context: Any,
        method_name: str,
    ) -> NoReturn:
        status, refusal = _status(ex)
        if status is grpc.StatusCode.INTERNAL:
            log.error("%s failed", method_name, exc_info=ex)
        await context.abort(status, refusal.encode())
        raise ex  # not reached: abort raises


def _status(error: Exception) -> tuple[grpc.StatusCode, Refusal]:
    match error:
        case RefusedError():
            return grpc.StatusCode.INVALID_ARGUMENT, error.refusal
        case InvalidInput() | kserve_errors.InvalidInput():
            return grpc.StatusCode.INVALID_ARGUMENT, Refusal(InvalidInput.code, str(error))
        case kserve_errors.ModelNotFound():
            return grpc.StatusCode.NOT_FOUND, Refusal("unknown_model", str(error))
        case NotReady() | kserve_errors.ModelNotReady():
            return grpc.StatusCode.UNAVAILABLE, Refusal(getattr(error, "code", NotReady.code), str(error))
        case _:
            code = error.code if isinstance(error, PvForecastError) else PvForecastError.code
            return grpc.StatusCode.INTERNAL, Refusal(code, "the predictor failed, see its log")


def add_kserve_error_handlers(app: FastAPI) -> None:
    """The errors of KServe's own routes as statuses: unknown model 404, not ready 503."""

    async def answer(_: Request, error: Exception) -> JSONResponse:
        status = {kserve_errors.ModelNotFound: 404, kserve_errors.InvalidInput: 400}.get(type(error), 503)
        return JSONResponse({"error": str(error)}, status)

    for kind in (
        kserve_errors.ModelNotFound,
        kserve_errors.ModelNotReady,
        kserve_errors.InvalidInput,
        kserve_errors.ServerNotReady,
    ):
        app.add_exception_handler(kind, answer)
