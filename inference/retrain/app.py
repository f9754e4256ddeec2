"""The trigger's HTTP side: events in, runs and their events out."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from inference import metrics as named
from inference.metric_names import MOST_PARKS
from inference.retrain import cloudevent
from inference.retrain.service import Trigger
from inference.retrain.store import Row, Store
from pvforecast.errors import InvalidInput, NotReady, PvForecastError, UnknownPark

log = logging.getLogger(__name__)


def build_app(trigger: Trigger, token: str = "") -> FastAPI:
    """Routes over a started trigger.

    Parameters
    ----------
    token : what a sender must show as ``Authorization: Bearer``; empty lets everybody send who reaches the port.
    """
    app = FastAPI(title="PV forecast retrain trigger", docs_url=None, redoc_url=None)
    registry = CollectorRegistry()
    registry.register(_FromDatabase(trigger.store))
    answers = named.counter("pvf_retrain_answers_total", registry)
    refusals = named.counter("pvf_retrain_refusals_total", registry)

    @app.post("/")
    async def receive(request: Request) -> Response:
        try:
            _authorise(request, token)
            body = await _body(request)
            event = cloudevent.parse({k.lower(): v for k, v in request.headers.items()}, body)
            answer = await run_in_threadpool(trigger.accept, event)
        except cloudevent.UnsupportedType as error:
            answers.labels("unsupported").inc()
            return _taken("ignored", str(error))
        except InvalidInput as error:
            answers.labels("invalid").inc()
            refusals.labels(error.code).inc()
            log.warning("refused an event: %s", error)
            raise
        answers.labels(answer.outcome).inc()
        return _taken(answer.outcome, answer.reason)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """Alive. Postgres being away is no reason to be restarted: a run may be under way."""
        return {"status": "ok"}

    @app.get("/runs")
    def runs(limit: int = 100) -> dict[str, list[Row]]:
        return {"runs": [_public(run) for run in trigger.store.runs(max(1, min(limit, 1000)))]}

    @app.get("/events/{event_id}")
    def event(event_id: str) -> dict[str, Any]:
        row = trigger.store.event(event_id)
        if row is None:
            raise _NotFound(
                f"no event {event_id!r} has come in", field="event_id", hint="GET /runs names the known ones"
            )
        run = trigger.store.run(row["run_id"]) if row["run_id"] is not None else None
        return {**row, "run": None if run is None else _public(run)}

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    app.add_exception_handler(PvForecastError, _error)
    return app


def _taken(outcome: str, reason: str) -> Response:
    """Without a body: a Knative broker takes one that is no CloudEvent for a failed delivery, and sends again."""
    plain = reason.encode("ascii", "replace").decode().replace("\n", " ")
    headers = {"x-pvforecast-outcome": outcome, "x-pvforecast-reason": plain}
    return Response(status_code=200 if outcome == "duplicate" else 202, headers=headers)


class _NotFound(InvalidInput):
    code = "not_found"


class _Unauthenticated(InvalidInput):
    code = "unauthenticated"


class _TooLarge(InvalidInput):
    code = "too_large"


class _FromDatabase(Collector):
    """Counts as they stand in Postgres: right after a restart too. Without Postgres they are missing."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            counts, drifted, last = self._store.counts(), self._store.drifted(), self._store.last_ended()
        except NotReady as error:
            log.warning("metrics without counts: %s", error)
            yield named.value("pvf_retrain_database_up", 0)
            return
        yield named.value("pvf_retrain_database_up", 1)
        for kind in ("event", "run"):
            family = named.family(f"pvf_retrain_{kind}s")
            for row in counts:
                if row["kind"] == kind:
                    family.add_metric([row["status"]], row["n"])
            yield family
        if last is not None:
            yield named.value("pvf_retrain_last_run_failed", last["status"] != "succeeded")
        drift = named.family("pvf_drift_open")
        for row in drifted[:MOST_PARKS]:
            drift.add_metric(_told(row), 1)
        yield drift

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: registering must not ask Postgres."""
        yield from ()


def _told(row: Row) -> list[str]:
    """The labels of `pvf_drift_open`: what an alert has to say of the event."""
    data = row["data"]
    evidence = ", ".join(f"{name} {value}" for name, value in sorted(data["cause"]["evidence"].items()))
    severity = data.get("severity", "warning")
    return [row["park"], severity, data["cause"]["likely"], data["advice"], row["id"], evidence[:300]]


def _authorise(request: Request, token: str) -> None:
    given = request.headers.get("authorization", "")
    if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise _Unauthenticated(
            "no valid token", field="authorization", hint="send Bearer and what PVF_TRIGGER_TOKEN says"
        )


async def _body(request: Request) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > cloudevent.MAX_BYTES:
        raise _TooLarge(f"{declared} bytes are announced", field="body", hint=f"at most {cloudevent.MAX_BYTES}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > cloudevent.MAX_BYTES:
            raise _TooLarge(f"more than {cloudevent.MAX_BYTES} bytes", field="body", hint="drift events are small")
    return bytes(body)


def _public(run: Row) -> Row:
    return {name: value for name, value in run.items() if name not in ("pid_created", "heartbeat_at")}


def _error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PvForecastError)
    statuses: dict[type[PvForecastError], int] = {
        _NotFound: 404, _TooLarge: 413, _Unauthenticated: 401, UnknownPark: 404, InvalidInput: 400, NotReady: 503,
    }  # fmt: skip
    status = next((status for kind, status in statuses.items() if isinstance(error, kind)), 500)
    body = {"error": error.message, "code": error.code, "field": error.field, "hint": error.hint}
    headers = {503: {"Retry-After": "5"}, 401: {"WWW-Authenticate": "Bearer"}}.get(status)
    return JSONResponse(body, status, headers=headers)
