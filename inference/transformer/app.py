"""The HTTP application: V1 predict and Open Inference v2; around them request ids, a size limit, a log line."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from kserve.errors import ModelNotReady
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.rest.server import metrics_handler
from kserve.protocol.rest.v1_endpoints import V1Endpoints
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.measured import Measured
from inference.transformer import errors, openapi, portfolio, v2
from inference.transformer.errors import REQUEST_ID, TooLarge
from inference.transformer.model import CLIENT_HEADER, REQUEST_HEADER
from inference.transformer.newest import PATH as NEWEST
from inference.transformer.newest import Newest
from inference.transformer.portfolio import Portfolios

log = logging.getLogger(__name__)

PORTFOLIO = "/v1/portfolio"
MAX_BODY_BYTES = 4 * 1024 * 1024

_QUIET = ("/", "/metrics")


def build_app(data_plane: DataPlane, status: v2.Status, portfolios: Portfolios, newest: Newest) -> FastAPI:
    """Routes, errors and middleware."""
    app = FastAPI(title="pv-forecast", openapi_url=None)
    v1 = V1Endpoints(data_plane)

    async def model_ready(model_name: str) -> dict[str, Any]:
        data_plane.get_model_from_registry(model_name)
        if not await status.ready():
            raise ModelNotReady(model_name)
        return {"name": model_name, "ready": True}

    async def together(request: Request) -> Response:
        asked = portfolio.parse(await request.body())
        answer = await portfolios.answer(asked, dict(request.headers))
        return Response(orjson.dumps(answer), media_type="application/json")

    app.add_api_route("/", data_plane.live)
    app.add_api_route("/metrics", metrics_handler)
    app.add_api_route("/v1/models", v1.models)
    app.add_api_route("/v1/models/{model_name}", model_ready)
    app.add_api_route("/v1/models/{model_name}:predict", v1.predict, response_model=None, methods=["POST"])

    async def forecasts(request: Request) -> Response:
        return await newest.answer(request.query_params, dict(request.headers))

    described = orjson.dumps(openapi.document())

    async def description() -> Response:
        return Response(described, media_type="application/json")

    app.add_api_route("/v1/openapi.json", description)
    app.add_api_route(NEWEST, forecasts)
    app.add_api_route(PORTFOLIO, together, methods=["POST"])
    v2.add_routes(app, data_plane, status)
    errors.add_handlers(app)
    app.add_middleware(RequestLine)
    app.add_middleware(Measured, service="transformer")
    return app


class RequestLine:
    """Gives each request an id that every answer carries, limits the body, logs one line."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, headers = time.perf_counter(), MutableHeaders(scope=scope)
        request_id = headers.get(REQUEST_HEADER, "")
        if not REQUEST_ID.fullmatch(request_id):
            request_id = str(uuid.uuid4())
        headers[REQUEST_HEADER] = scope["request_id"] = request_id
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_HEADER] = request_id
            await send(message)

        try:
            await self._app(scope, _limited(receive, Headers(scope=scope)), answer)
        finally:
            if scope["path"] not in _QUIET:
                log.info(
                    "%s %s %d %.1f ms client=%s request=%s",
                    scope["method"],
                    scope["path"],
                    status,
                    (time.perf_counter() - begin) * 1e3,
                    headers.get(CLIENT_HEADER, "-"),
                    request_id,
                )


def _limited(receive: Receive, headers: Headers) -> Receive:
    """`receive` that raises TooLarge before or while more than the limit comes in."""
    announced = headers.get("content-length", "0")
    taken = int(announced) if announced.isdigit() and int(announced) > MAX_BODY_BYTES else 0

    async def limited() -> Message:
        nonlocal taken
        if taken <= MAX_BODY_BYTES:
            message = await receive()
            taken += len(message.get("body", b""))
        if taken > MAX_BODY_BYTES:
            raise TooLarge(
                f"the body is larger than {MAX_BODY_BYTES // 2**20} MiB", field="body", hint="send several requests"
            )
        return message

    return limited
