"""The HTTP side of the prediction log: takes KServe-logger CloudEvents, answers when they are committed.

A batch is taken as a whole or refused as a whole; what is in it already is dropped by its id when it comes again.
"""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from inference import metrics as named
from inference.prediction_log.events import BATCH, decode, unpack
from inference.prediction_log.writer import Writer
from pvforecast.errors import InvalidInput, NotReady, PvForecastError

EVENTS = named.counter("pvf_prediction_log_sink_events_total")
MAX_BODY_BYTES = 16 * 2**20


def build_app(writer: Writer) -> Starlette:
    """POST / takes an event or a batch; GET /healthz and /metrics."""

    async def take(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                return _answer(413, InvalidInput(f"more than {MAX_BODY_BYTES} bytes", field="body"))
        try:
            if request.headers.get("content-type", "").split(";")[0].strip() == BATCH:
                events = unpack(bytes(body))
            else:
                events = [decode(request.headers, bytes(body))]
            await writer.store(*events)
        except InvalidInput as error:
            return _answer(400, error)
        except NotReady as error:
            return _answer(503, error)
        EVENTS.labels("202").inc(len(events))
        return Response(status_code=202)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/", take, methods=["POST"]), Route("/healthz", health), Route("/metrics", metrics)])


def _answer(status: int, error: PvForecastError) -> Response:
    EVENTS.labels(str(status)).inc()
    body = {"error": error.message, "code": error.code, "field": error.field, "hint": error.hint}
    return JSONResponse(body, status, {"retry-after": "2"} if status == 503 else None)
