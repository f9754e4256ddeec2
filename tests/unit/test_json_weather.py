"""A second source behind the same protocol: any JSON service, by a mapping, against a real local server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from pvforecast import fleet, ingestion, refining
from pvforecast.errors import InvalidInput
from pvforecast.lake import Lake, records
from pvforecast.settings import Settings
from pvforecast.sources.base import WeatherSource
from pvforecast.sources.catalogue import weather_source
from pvforecast.sources.fetching import Patience
from pvforecast.sources.json_weather import JsonWeather, mapping
from pvforecast.sources.pvdaq_samples import PARKS
from tests.open_meteo import served

RUN_AT = datetime(2026, 6, 21, 6, tzinfo=UTC)
NOW = datetime(2026, 6, 21, 9, 20, tzinfo=UTC)
SINCE = NOW - timedelta(days=1)
HERE, THERE = PARKS[0], PARKS[1]


@dataclass
class Service:
    """A provider of its own making: Kelvin, kJ per hour, octas, local offsets, labels at the end."""

    url: str = ""
    broken: dict[str, Response] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    def answer(self, request: Request) -> Response:
        self.asked.append(request)
        latitude = request.query_params["lat"]
        if latitude in self.broken:
            return self.broken[latitude]
        hours = [RUN_AT + timedelta(hours=i + 1) for i in range(60)]
        rows = [
            {
                "end": at.astimezone(None).isoformat(),
                "sun": {"global_kj": 3600.0 * i, "diffuse_w": 50.0},
                "t": 273.15 + i,
                "clouds": 4,
                "haze": None if i > 55 else 0.25,
            }
            for i, at in enumerate(hours)
        ]
        return JSONResponse({"model": {"start": int(RUN_AT.timestamp())}, "data": {"hours": rows}})

    def mapping(self, **changes: Any) -> dict[str, Any]:
        values = {
            "ghi": {"path": "sun.global_kj", "unit": "kJ/m2"},
            "dhi": {"path": "sun.diffuse_w", "unit": "W/m2"},
            "temp_air": {"path": "t", "unit": "K", "instant": True},
            "cloud_cover": {"path": "clouds", "unit": "octa"},
            "x_haze": {"path": "haze"},
        }
        return {
            "name": "own_service", "url": self.url + "/w?lat={latitude}&lon={longitude}", "rows": "data.hours",
            "time": "end", "label": "end", "run_at": "model.start", "delay_minutes": 180, "values": values,
            "key_header": "X-Key", "attribution": "Weather by Own Service", **changes,
        }  # fmt: skip


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    service, app = Service(), FastAPI()
    app.get("/w", response_model=None)(service.answer)
    app.get("/columns", response_model=None)(
        lambda: JSONResponse({"time": [int(RUN_AT.timestamp()) + 900 * i for i in range(5)], "g": [1, 2, 3, 4, None]})
    )
    with served(app) as url:
        service.url = url
        yield service


@pytest.fixture
def service(running: Service) -> Service:
    running.broken.clear()
    running.asked.clear()
    return running


def made(options: dict[str, Any], **settings: Any) -> WeatherSource:
    return weather_source("json", options, Settings(**settings))


def impatient(options: dict[str, Any]) -> WeatherSource:
    return JsonWeather(mapping(options), patience=Patience(attempts=2, first_pause_s=0.001))


def test_its_run_becomes_rows_of_ours(service: Service) -> None:
    delivery = made(service.mapping()).weather([HERE, THERE], SINCE, NOW)
    assert delivery.failed == {}
    rows = delivery.rows[delivery.rows.park_id == HERE.id]
    assert set(rows.source) == {"own_service"}
    assert set(rows.run_at) == {pd.Timestamp(RUN_AT)}
    assert set(rows.available_at) == {pd.Timestamp(RUN_AT + timedelta(hours=3))}
    assert rows.valid_at.iloc[0] == pd.Timestamp(RUN_AT) + pd.Timedelta(hours=1)  # the first label only bounds one
    assert rows.ghi.tolist()[:3] == pytest.approx([1000.0, 2000.0, 3000.0])  # kJ/m² of an hour / 3.6
    assert rows.temp_air.tolist()[:3] == pytest.approx([0.5, 1.5, 2.5])
    assert set(rows.cloud_cover) == {0.5}
    assert rows.dni.isna().all()
    assert rows.extra.iloc[0] == [("x_haze", 0.25)]
    assert rows.extra.iloc[-1] is None


def test_it_takes_the_same_way_into_the_lake_as_every_source(service: Service, tmp_path: Any) -> None:
    lake = Lake(str(tmp_path))
    fleet.register(lake, HERE)
    options = service.mapping()
    options["values"]["ghi"]["path"] = "sun.diffuse_w"
    options["values"]["ghi"]["unit"] = "W/m2"
    source = made(options)
    report = ingestion.ingest_weather(lake, source, [HERE], SINCE, NOW)
    assert (report.rows, report.failed, report.attribution) == ({HERE.id: 59}, {}, "Weather by Own Service")
    refining.validate(lake, [HERE], SINCE, NOW)
    [run] = records.load(lake, HERE.id).runs
    assert run.source == "own_service"
    assert np.nanmax(run.variables["x_haze"]) == 0.25
    assert ingestion.ingest_weather(lake, source, [HERE], SINCE, NOW).rows == {HERE.id: 0}


def test_what_is_not_known_yet_is_not_loaded(service: Service) -> None:
    early = made(service.mapping()).weather([HERE], SINCE, RUN_AT + timedelta(hours=2))
    assert (len(early.rows), early.failed) == (0, {})
    assert "not loaded" in early.notes[0]


def test_a_park_whose_answer_is_broken_fails_alone(service: Service) -> None:
    service.broken[f"{THERE.latitude:.4f}"] = JSONResponse({"data": {"hours": [{"end": "yesterday"}]}})
    delivery = impatient(service.mapping()).weather([HERE, THERE], SINCE, NOW)
    assert set(delivery.rows.park_id) == {HERE.id}
    assert delivery.failed == {THERE.id: "own_service: end: 'yesterday' is no instant"}


def test_lists_side_by_side_in_quarter_hours(service: Service) -> None:
    options = {
        "name": "lists", "url": service.url + "/columns", "columns": True, "time": "time", "period_s": 900,
        "label": "start", "values": {"ghi": {"path": "g"}},
    }  # fmt: skip
    rows = made(options).weather([HERE], SINCE, NOW).rows
    assert rows.ghi.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert set(rows.period_s) == {900}
    assert rows.valid_at.iloc[0] == pd.Timestamp(RUN_AT)
    assert set(rows.available_at) == {pd.Timestamp(NOW)}  # nothing says when: known since it was asked


def test_the_key_is_a_setting_and_goes_into_a_header(service: Service) -> None:
    made(service.mapping(), weather_api_key="s3cret").weather([HERE], SINCE, NOW)
    assert service.asked[0].headers["x-key"] == "s3cret"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"data": {}}, "data.hours: is missing"),
        ({"data": {"hours": {}}}, "rows: is no list"),
        ({"data": {"hours": []}}, "fewer than two rows"),
        ({"data": {"hours": [{"end": "2026-06-21T07:00:00"}]}}, "has no UTC offset"),
        ({"data": {"hours": [{"end": 0}, {"end": 1800}]}}, "not 3600 s apart"),
        ({"data": {"hours": [{"end": 0}, {"end": 3600}]}}, r"\[0\].sun.global_kj: is missing"),
        (
            {"data": {"hours": [{"end": 0, "sun": {"global_kj": "1"}}, {"end": 3600, "sun": {"global_kj": 1}}]}},
            "numbers",
        ),
        ({"data": {"hours": [{"end": True}, {"end": 3600}]}}, "True is no instant"),
    ],
)
def test_an_answer_that_is_not_as_mapped_is_named(service: Service, body: Any, said: str) -> None:
    service.broken[f"{HERE.latitude:.4f}"] = JSONResponse(body)
    options = service.mapping()
    source = impatient({**options, "values": {"ghi": options["values"]["ghi"]}})
    assert re.search(said, source.weather([HERE], SINCE, NOW).failed[HERE.id])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"label": "middle"}, "weather_options.label"),
        ({"url": "ftp://x"}, "weather_options.url"),
        ({"url": "http://x/{park}"}, "weather_options.url"),
        ({"values": {"ghi": {"path": "x", "unit": "furlong"}}}, "weather_options.values.ghi.unit"),
        ({"values": {"sunshine": {"path": "x"}}}, "weather_options"),
        ({"colour": 1}, "weather_options.colour"),
    ],
)
def test_a_wrong_mapping_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        made(Service("http://127.0.0.1:1").mapping(**changes))
    assert caught.value.field == field
