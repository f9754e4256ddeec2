"""The server: Open-Meteo's services below one address, each under its own name.

/<service>/v1/forecast                      api, previous-runs-api, single-runs-api, and with `customer-` before them
/<service>/data/<domain>/static/meta.json   a model's newest run; not counted
/stub                                       what was asked so far
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from pvf.stub import query, sky
from pvf.stub.limits import HARD_AT_ONCE, Meter
from pvf.stub.query import Query, Section, WrongError
from pvforecast.known import Floats
from pvforecast.sources.open_meteo_budget import NONE, Limits
from pvforecast.sources.open_meteo_models import BY_NAME, MODELS, Model

SERVICES = ("api", "previous-runs-api", "single-runs-api")
PUBLISHED_AFTER = 0.6  # of the delay that the client assumes for archived runs: it is on the late side
_DECIMALS = {"W/m²": 1, "°C": 1, "m/s": 2, "%": 0, "mm": 2, "cm": 2, "m": 2}
_WITHOUT_ECMWF_ARCHIVE = ("cloud_cover_low", "cloud_cover_mid", "cloud_cover_high", "snow_depth")


@dataclass
class Stub:
    """How it behaves; may be changed while it runs.

    Attributes
    ----------
    now : the clock; a replay holds it at an instant.
    limits : what it allows.
    faults : share of answers that fail, each in a way drawn by `seed`.
    api_key : what the services named `customer-` want.
    """

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    limits: Limits = NONE
    faults: float = 0.0
    seed: int = 1
    api_key: str = ""

    def __post_init__(self) -> None:
        self.meter = Meter(self.limits)
        self._draw = random.Random(self.seed)

    def draw_fault(self) -> str | None:
        if self._draw.random() >= self.faults:
            return None
        return self._draw.choice(["503", "502", "429", "truncated", "slow"])


def make(stub: Stub) -> FastAPI:
    app = FastAPI(title="A stand-in for Open-Meteo", openapi_url=None)

    @app.get("/stub")
    async def state() -> dict[str, Any]:
        meter = stub.meter
        return {
            "now": stub.now().isoformat(), "requests": meter.requests, "weighted": meter.weighted,
            "refused": meter.refused, "at_once": meter.at_once,
        }  # fmt: skip

    @app.get("/{service}/data/{domain}/static/meta.json")
    async def meta(service: str, domain: str) -> Response:
        found = [model for model in MODELS.values() if model.domain == domain]
        if service.removeprefix("customer-") not in SERVICES or not found:
            return JSONResponse({"error": True, "reason": "Not Found"}, 404)
        run_at, available_at = newest_run(found[0], stub.now().timestamp())
        return JSONResponse(
            {
                "chunk_time_length": 121,
                "crs_wkt": "",
                "data_end_time": run_at + 180 * 3600,
                "last_run_availability_time": available_at,
                "last_run_initialisation_time": run_at,
                "last_run_modification_time": available_at - 300,
                "temporal_resolution_seconds": 3600,
                "update_interval_seconds": found[0].every_hours * 3600,
            }
        )

    @app.get("/{service}/v1/forecast")
    async def forecast(service: str, request: Request) -> Response:
        meter = stub.meter
        meter.running += 1
        meter.at_once = max(meter.at_once, meter.running)
        try:
            if meter.running > HARD_AT_ONCE:
                return _error(429, "Too many concurrent requests")
            return await _forecast(stub, service, request)
        finally:
            meter.running -= 1

    return app


async def _forecast(stub: Stub, service: str, request: Request) -> Response:
    plain = service.removeprefix("customer-")
    if plain not in SERVICES:
        return JSONResponse({"error": True, "reason": "Not Found"}, 404)
    key = request.headers.get("x-api-key") or request.query_params.get("apikey", "")
    if plain != service and not key:
        return _error(401, "API key required. Please add &apikey= to the URL.")
    if key and key != stub.api_key:
        return _error(400, "The supplied API key is invalid.")
    try:
        asked = query.understand(dict(request.query_params), plain, stub.now())
    except WrongError as error:
        stub.meter.count(1.0)
        return _error(400, str(error))
    refused = stub.meter.count(asked.weight)
    if refused:
        return _error(429, refused)
    fault = stub.draw_fault()
    if fault in ("502", "503", "429"):
        return {
            "502": lambda: Response("<html><h1>502 Bad Gateway</h1></html>", 502, media_type="text/html"),
            "503": lambda: _error(503, "The service is overloaded"),
            "429": lambda: _error(429, "Too many concurrent requests"),
        }[fault]()
    begun = time.perf_counter()
    try:
        locations = [_location(i, place, asked, plain, stub.now().timestamp()) for i, place in enumerate(asked.places)]
    except WrongError as error:
        return _error(400, str(error))
    spent = (time.perf_counter() - begun) * 1000.0 / len(locations)
    body = orjson.dumps(
        [{**one, "generationtime_ms": spent} for one in locations]
        if len(locations) > 1
        else {**locations[0], "generationtime_ms": spent}
    )
    if fault == "truncated":
        return StreamingResponse(_broken(body), media_type="application/json; charset=utf-8")
    if fault == "slow":
        await asyncio.sleep(0.2)
    return Response(body, media_type="application/json; charset=utf-8")


async def _broken(body: bytes) -> AsyncIterator[bytes]:
    """What the real server does when it fails half-way: the status was 200 already."""
    yield body[: len(body) * 2 // 3]
    yield b"Unexpected error while streaming data: timeoutReached"


def newest_run(model: Model, now: float) -> tuple[int, int]:
    """Start and availability of a model's newest run, seconds since the epoch."""
    every, after = model.every_hours * 3600, int(model.delay_hours * PUBLISHED_AFTER * 3600)
    run_at = int((now - after) // every * every)
    return run_at, run_at + after


def _location(number: int, place: tuple[float, float], asked: Query, service: str, now: float) -> dict[str, Any]:
    latitude, longitude = place
    grid, _, _ = query.grid_of(asked.models[0])
    one: dict[str, Any] = {
        "latitude": round(round(latitude / grid) * grid, 6),
        "longitude": round(round(longitude / grid) * grid, 6),
        "utc_offset_seconds": asked.offset_s,
        "timezone": "GMT" if asked.zone.key == "UTC" else asked.zone.key,
        "timezone_abbreviation": "GMT" if asked.zone.key == "UTC" else f"GMT{asked.offset_s / 3600:+g}",
        "elevation": float(round(abs(latitude) * 7.0)),
        **({"location_id": number} if number else {}),
    }
    known = [model for model in asked.models if _covers(model, place)]
    if not known:
        raise WrongError("No data is available for this location")
    for section in asked.sections:
        units: dict[str, str] = {"time": "unixtime" if asked.unix else "iso8601"}
        columns: dict[str, list[Any]] = {"time": _times(section, asked)}
        for model in asked.models:
            suffix = f"_{model}" if len(asked.models) > 1 else ""
            for name, values in _section(section, place, model, asked, service, now).items():
                variable = BY_NAME[section.variables[name][0]]
                wind = variable.unit == "m/s"
                units[name + suffix] = asked.wind[0] if wind else variable.unit
                shown = values * asked.wind[1] if wind else values
                columns[name + suffix] = _rounded(shown, _DECIMALS[variable.unit])
        one[f"{section.name}_units"], one[section.name] = units, columns
    return one


def _section(
    section: Section, place: tuple[float, float], name: str, asked: Query, service: str, now: float
) -> dict[str, Floats]:
    """Each variable as asked -> its values, NaN where the model has none."""
    model, labels = query.model_named(name), section.labels
    reach = query.grid_of(name)[1] * 3600
    newest, _ = newest_run(model, now)
    every = model.every_hours * 3600
    columns = {}
    for days in sorted({days for _, days in section.variables.values()}):
        if asked.run is not None:
            runs = np.full(len(labels), int(asked.run.timestamp()))
            if runs[0] > newest or runs[0] % every:
                raise WrongError("No data is available for this run")
        else:
            runs = np.minimum((labels - 1 - days * 86_400) // every * every, newest)
        made = _by_run(place, name, runs, labels, section.step_s)
        for wanted, (plain, before) in section.variables.items():
            if before == days:
                sums = BY_NAME[plain].kind != "instant"
                there = (labels - runs <= reach) & (labels >= runs + (section.step_s if sums else 0))
                there &= _covers(name, place) & (labels <= newest + reach)
                absent = service == "previous-runs-api" and name.startswith("ecmwf") and plain in _WITHOUT_ECMWF_ARCHIVE
                columns[wanted] = np.where(there & (not absent), made[plain], np.nan)
    return {wanted: columns[wanted] for wanted in section.variables}


def _by_run(place: tuple[float, float], name: str, runs: sky.Ints, labels: sky.Ints, step_s: int) -> dict[str, Floats]:
    parts = []
    edges = np.flatnonzero(np.append(True, runs[1:] != runs[:-1]))
    for begin, end in zip(edges, [*edges[1:], len(runs)], strict=True):
        parts.append(sky.values(*place, name, int(runs[begin]), labels[begin:end], step_s))
    return {variable: np.concatenate([part[variable] for part in parts]) for variable in parts[0]}


def _covers(model: str, place: tuple[float, float]) -> bool:
    south, west, north, east = query.grid_of(model)[2]
    return south <= place[0] <= north and west <= place[1] <= east


def _times(section: Section, asked: Query) -> list[Any]:
    if asked.unix:
        found: list[Any] = section.labels.tolist()
        return found
    local = (section.labels + asked.offset_s).astype("datetime64[s]")
    return [str(at)[:16] for at in local]


def _rounded(values: Floats, decimals: int) -> list[float | int | None]:
    shown = np.round(values, decimals) + 0.0
    if decimals == 0:
        return [None if value != value else int(value) for value in shown.tolist()]
    return [None if value != value else value for value in shown.tolist()]


def _error(status: int, reason: str) -> Response:
    return JSONResponse({"error": True, "reason": reason}, status)
