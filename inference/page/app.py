"""Routes, errors and headers of the page's server. Forecasts and portfolios the browser asks of the API itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference import metrics as named
from inference.measured import ERROR_CODE, Measured
from inference.page import fleet, series, session
from inference.page.facts import Facts
from inference.page.fleet import Fleet
from inference.page.numbers import Numbers
from inference.transformer.access import ParkAccess
from pvforecast import snapshot
from pvforecast.errors import InvalidInput, NotReady, PvForecastError, UnknownPark
from pvforecast.known import Known
from pvforecast.objects import ObjectStore

log = logging.getLogger(__name__)

LOGINS = named.counter("pvf_logins_total")
CLIENT_HEADER, REQUEST_HEADER = "x-client-id", "x-request-id"  # set by the gateway
ASSETS = Path(__file__).parent / "assets"
_PREDICT = "/v1/models/pv-forecast:predict"
_FORMATS: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "csv": ("text/csv; charset=utf-8", series.as_csv),
    "parquet": ("application/vnd.apache.parquet", series.as_parquet),
}
# Nothing is loaded from elsewhere and nobody may frame the page. uPlot sets sizes and places through the DOM.
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Page:
    """The handlers, over what they read.

    Parameters
    ----------
    transformer : asked for what is exported, in the name of the caller.
    """

    def __init__(
        self,
        parks: Fleet,
        facts: Facts,
        access: ParkAccess,
        store: ObjectStore,
        transformer: httpx.AsyncClient,
        numbers: Numbers,
    ) -> None:
        self._fleet = parks
        self._facts = facts
        self._access = access
        self._store = store
        self._transformer = transformer
        self._numbers = numbers

    async def fleet(self, request: Request) -> Response:
        """The parks that the caller may see, and which of them have drifted."""
        parks, drifted = await asyncio.gather(self._visible(request), asyncio.to_thread(self._facts.drifted))
        return JSONResponse(
            {
                "client": request.headers.get(CLIENT_HEADER),
                "parks": [fleet.entry(park) for park in parks.values()],
                "drift": None if drifted is None else [_plain(row) for row in drifted if row["park_id"] in parks],
            }
        )

    async def status(self, request: Request) -> Response:
        """Drift and training runs. Runs name parks in words, so only who sees the whole fleet is shown them."""
        visible, everything = await self._visible(request), await asyncio.to_thread(self._fleet.parks)
        drifted, runs = await asyncio.gather(*map(asyncio.to_thread, (self._facts.drifted, self._facts.runs)))
        shown = runs if len(visible) == len(everything) else []
        return JSONResponse(
            {
                "parks": len(visible),
                "database": drifted is not None,
                "drift": [_plain(row) for row in drifted or () if row["park_id"] in visible],
                "runs": [_plain(row) for row in shown or ()],
            }
        )

    async def numbers(self, request: Request) -> Response:
        """What the dashboards show, for who sees the whole fleet: `dashboards` is null where nobody knows."""
        visible, everything = await self._visible(request), await asyncio.to_thread(self._fleet.parks)
        whole = len(visible) == len(everything)
        return JSONResponse({"whole_fleet": whole, "dashboards": await self._numbers.now() if whole else None})

    async def past(self, request: Request) -> Response:
        """What was metered of a park, and what was forecast a day before `issued_at`."""
        park = await self._park(request)
        issued_at = _instant(request.query_params.get("issued_at", ""))
        known, yesterday = await self._past(park, issued_at)
        return JSONResponse({"metered": series.metered(known), "yesterday": yesterday})

    async def export(self, request: Request) -> Response:
        park, wanted = await self._park(request), request.query_params.get("format", "csv")
        if wanted not in _FORMATS:
            raise InvalidInput(f"{wanted[:20]!r} is no format", field="format", hint="csv or parquet")
        hours = request.query_params.get("horizon_hours", "48")
        if not hours.isdecimal():
            raise InvalidInput("it is no whole number", field="horizon_hours", hint="1 to 168")
        prediction = await self._forecast(park, int(hours[:6]), request)
        known, yesterday = await self._past(park, _instant(prediction["issued_at"]))
        rows = series.table(prediction, series.metered(known), yesterday)
        media, write = _FORMATS[wanted]
        name = f"{park}-{prediction['issued_at'][:13]}.{wanted}"
        disposition = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(await asyncio.to_thread(write, rows), media_type=media, headers=disposition)

    async def _visible(self, request: Request) -> dict[str, Any]:
        parks = await asyncio.to_thread(self._fleet.parks)
        return {park: parks[park] for park in self._access.visible(request.headers.get(CLIENT_HEADER), sorted(parks))}

    async def _park(self, request: Request) -> str:
        park: str = request.path_params["park"]
        if park not in await self._visible(request):
            raise UnknownPark(
                f"no such park: {park[:80]!r}", field="park", hint="check the id, or ask for access to the park"
            )
        return park

    async def _past(self, park: str, issued_at: datetime) -> tuple[Known, dict[str, Any] | None]:
        now = datetime.now(UTC)
        known, yesterday = await asyncio.gather(
            asyncio.to_thread(_newest, self._store, park),
            asyncio.to_thread(self._facts.yesterdays_forecast, park, issued_at, now),
        )
        return known, yesterday

    async def _forecast(self, park: str, hours: int, request: Request) -> dict[str, Any]:
        headers = {name: value for name in (CLIENT_HEADER, REQUEST_HEADER) if (value := request.headers.get(name))}
        body = {"instances": [{"park_id": park, "horizon_hours": hours}]}
        try:
            answer = await self._transformer.post(_PREDICT, json=body, headers=headers)
            told: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise NotReady("the forecast service does not answer", hint="try again") from error
        if answer.status_code >= 500:
            raise NotReady(str(told.get("error")), hint=told.get("hint"))
        if answer.status_code >= 400:
            raise InvalidInput(str(told.get("error")), field="horizon_hours", hint=told.get("hint"))
        prediction: dict[str, Any] = told["predictions"][0]
        return prediction


def build_app(page: Page) -> ASGIApp:
    """The application. Whoever reaches `/page/api` has shown a key at the gateway."""

    async def log_in(request: Request) -> Response:
        response = session.log_in(request)
        LOGINS.labels("ok" if response.status_code == 204 else "refused").inc()
        return response

    async def log_out(request: Request) -> Response:
        return session.log_out(request)

    async def shell(_: Request) -> Response:
        return FileResponse(ASSETS / "index.html", headers={"cache-control": "no-cache"})

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/healthz", health),
            Route("/metrics", metrics),
            Route("/page/", shell),
            Route("/page/login", log_in, methods=["POST"]),
            Route("/page/logout", log_out, methods=["POST"]),
            Route("/page/api/fleet", page.fleet),
            Route("/page/api/status", page.status),
            Route("/page/api/numbers", page.numbers),
            Route("/page/api/parks/{park}/past", page.past),
            Route("/page/api/parks/{park}/export", page.export),
            Mount("/page/assets", StaticFiles(directory=ASSETS)),
        ],
        middleware=[Middleware(Measured, service="page"), Middleware(_Headers)],
        exception_handlers={PvForecastError: _error},
    )


class _Headers:
    """Adds the headers that hold for every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in _HEADERS.items()),
                ]
            await send(message)

        await self._app(scope, receive, answer)


async def _error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PvForecastError)
    statuses: dict[type[PvForecastError], int] = {UnknownPark: 404, InvalidInput: 400}
    status = next((status for kind, status in statuses.items() if isinstance(error, kind)), 503)
    request.scope[ERROR_CODE] = error.code
    told = error.message if status < 500 else "a part that is needed does not answer"
    if status >= 500:
        log.warning("%s: %s", request.url.path, error)
    body = {"error": told, "code": error.code, "field": error.field, "hint": error.hint}
    body["request_id"] = request.headers.get(REQUEST_HEADER, "")
    return JSONResponse(body, status, {"retry-after": "2"} if status == 503 else None)


def _newest(store: ObjectStore, park: str) -> Known:
    found = snapshot.latest_entry(store, park)
    if found is None:
        raise UnknownPark(f"nothing is known of {park!r} yet", field="park", hint="run the ingestion pipeline")
    return snapshot.read(store, park, found["snapshot_id"])


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise InvalidInput(f"{text[:40]!r} is no instant", field="issued_at", hint="e.g. 2013-06-01T06:00:00Z")
    return instant


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
