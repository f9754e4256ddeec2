"""The WebSocket: who may listen, what is sent when, and why a connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.websockets import WebSocketDisconnect

from inference import metrics as named
from inference.stream.hub import Hub, Subscriber
from inference.stream.options import Options
from inference.transformer.access import ParkAccess
from inference.transformer.errors import RETRY_AFTER_S, problem
from inference.transformer.model import CLIENT_HEADER, REQUEST_HEADER
from pvforecast.errors import InvalidInput, PvForecastError, UnknownPark

log = logging.getLogger(__name__)

PATH = "/v1/forecasts/stream"
MOST_PARKS = 100

CONNECTIONS = named.gauge("pvf_stream_connections")
SENT = named.counter("pvf_stream_messages_total")
ENDED = named.counter("pvf_stream_ended_total")

# close codes of ours; 1000 and 1001 are the protocol's own
TOO_SLOW = 4008
NO_ACCESS = 4004
TOO_OLD = 4009


def build_app(
    hub: Hub, access: ParkAccess, exists: Callable[[str], Any], wake: Callable[[], None], options: Options
) -> FastAPI:
    """Routes.

    Parameters
    ----------
    exists : coroutine function that says whether a park has a snapshot; raises NotReady.
    wake : tells the watcher that somebody listens to a new park.
    """
    app = FastAPI(title="pv-forecast stream", openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> dict[str, bool]:
        return {"live": True}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.get(PATH)
    async def no_upgrade(request: Request) -> JSONResponse:
        hint = "connect with a WebSocket client: ws(s)://…" + PATH + "?park=…"
        return JSONResponse(_error("this is a WebSocket", "upgrade_required", "upgrade", hint, request.headers), 426)

    @app.websocket(PATH)
    async def stream(socket: WebSocket) -> None:
        request_id = socket.headers.get(REQUEST_HEADER) or str(uuid.uuid4())
        client = socket.headers.get(CLIENT_HEADER)
        try:
            parks = _parks(socket)
            wanted = {f"park[{at}]": park for at, park in enumerate(parks)}
            access.check(client, wanted)
            unknown = [field for field, park in wanted.items() if not await exists(park)]
            if unknown:
                names = ", ".join(repr(wanted[field]) for field in unknown)
                hint = "check the id, or ask for access to the park"
                raise UnknownPark(f"no such park: {names}", field=", ".join(unknown), hint=hint)
        except PvForecastError as error:
            told = problem(error)
            body = _error(told.message, told.code, told.field, told.hint, {REQUEST_HEADER: request_id})
            later = {"retry-after": str(RETRY_AFTER_S)} if told.status == 503 else None
            await socket.send_denial_response(JSONResponse(body, told.status, later))
            log.info("stream refused %d %s client=%s request=%s", told.status, told.code, client, request_id)
            return
        begun = time.monotonic()
        await socket.accept(headers=[(REQUEST_HEADER.encode(), request_id.encode())])
        subscriber = Subscriber(parks, socket.query_params.getlist("last_id"))
        hub.join(subscriber)
        wake()
        CONNECTIONS.inc()
        reason = "client"
        try:
            reason = await _serve(socket, subscriber, lambda: _allowed(access, client, parks), options)
        finally:
            hub.leave(subscriber)
            CONNECTIONS.dec()
            ENDED.labels(reason).inc()
            lasted = time.monotonic() - begun
            log.info("stream ended %s after %.0f s client=%s request=%s", reason, lasted, client, request_id)

    return app


async def _serve(socket: WebSocket, subscriber: Subscriber, allowed: Callable[[], bool], options: Options) -> str:
    """Send until something ends it; returns why."""
    reading = asyncio.create_task(_read(socket))
    sending = asyncio.create_task(_send(socket, subscriber, allowed, options))
    try:
        done, _ = await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).result()
    finally:
        for task in (reading, sending):
            task.cancel()
        await asyncio.gather(reading, sending, return_exceptions=True)


async def _read(socket: WebSocket) -> str:
    """Nothing is expected from the client but its going."""
    try:
        while True:
            await socket.receive_text()
    except (WebSocketDisconnect, RuntimeError, KeyError):
        return "client"


async def _send(socket: WebSocket, subscriber: Subscriber, allowed: Callable[[], bool], options: Options) -> str:
    deadline = time.monotonic() + options.max_age_s
    try:
        while time.monotonic() < deadline:
            update = await subscriber.next(min(options.heartbeat_s, max(deadline - time.monotonic(), 0.0)))
            if not allowed():
                return await _close(socket, NO_ACCESS, "no_access", "the key no longer sees these parks")
            text = update.text if update else _heartbeat()
            try:
                await asyncio.wait_for(socket.send_text(text), options.send_timeout_s)
            except TimeoutError:
                said = f"too slow: a message was not taken within {options.send_timeout_s:g} s"
                return await _close(socket, TOO_SLOW, "too_slow", said)
            SENT.labels("forecast" if update else "heartbeat").inc()
        return await _close(socket, TOO_OLD, "max_age", "connect again, with last_id")
    except (WebSocketDisconnect, RuntimeError):
        return "client"


async def _close(socket: WebSocket, code: int, reason: str, said: str) -> str:
    # whoever takes no message takes no farewell either
    with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
        await asyncio.wait_for(socket.close(code, said), 1.0)
    return reason


def _error(error: str, code: str, field: str | None, hint: str | None, headers: Mapping[str, str]) -> dict[str, Any]:
    """The one shape of errors."""
    return {"error": error, "code": code, "field": field, "hint": hint, "request_id": headers.get(REQUEST_HEADER, "")}


def _heartbeat() -> str:
    return json.dumps({"type": "heartbeat", "time": datetime.now(UTC).isoformat(timespec="seconds")})


def _allowed(access: ParkAccess, client: str | None, parks: list[str]) -> bool:
    try:
        access.check(client, {park: park for park in parks})
    except UnknownPark:
        return False
    return True


def _parks(socket: WebSocket) -> list[str]:
    strange = sorted(set(socket.query_params) - {"park", "last_id"})
    if strange:
        raise InvalidInput("no such parameter", field=", ".join(strange), hint="park and last_id, each repeatable")
    parks = list(dict.fromkeys(socket.query_params.getlist("park")))
    if not parks:
        raise InvalidInput("no park is named", field="park", hint="?park=…, repeat it for several")
    if len(parks) > MOST_PARKS:
        raise InvalidInput(f"{len(parks)} parks", field="park", hint=f"at most {MOST_PARKS} on one connection")
    return parks
