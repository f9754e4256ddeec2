"""The stand-in for Open-Meteo behaves as the real one is documented to: shapes, defaults, errors, limits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest

from pvf.stack.ports import Ports
from pvf.stub import sky
from pvf.stub.__main__ import main
from pvf.stub.app import Stub
from pvforecast.sources.open_meteo_budget import Limits
from pvforecast.sources.open_meteo_models import VARIABLES
from pvforecast.sources.pvdaq_samples import PARKS, hourly_weather
from tests.contract.tree import ROOT
from tests.open_meteo import serving

NOW = datetime(2026, 6, 21, 9, 20, tzinfo=UTC)
HERE = {"latitude": "52.09", "longitude": "5.12"}
TWO = {"latitude": "52.09,40.41", "longitude": "5.12,-3.7"}
Get = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Stub, str]]:
    with serving(NOW) as running:
        yield running


@pytest.fixture
def get(server: tuple[Stub, str]) -> Get:
    def ask(service: str = "api", **params: str) -> httpx.Response:
        return httpx.get(server[1].format(service=service) + "/v1/forecast", params=params)

    return ask


def test_one_place_is_an_object_and_more_are_an_array(get: Get) -> None:
    one = get(**HERE, hourly="temperature_2m").json()
    assert isinstance(one, dict)
    assert "location_id" not in one
    many = get(**TWO, hourly="temperature_2m").json()
    assert [place.get("location_id") for place in many] == [None, 1]
    assert {"latitude", "longitude", "generationtime_ms", "utc_offset_seconds", "timezone", "timezone_abbreviation",
            "elevation", "hourly_units", "hourly"} == set(one)  # fmt: skip


def test_coordinates_come_back_on_the_grid(get: Get) -> None:
    place = get(**HERE, hourly="temperature_2m", models="ecmwf_ifs025").json()
    assert (place["latitude"], place["longitude"]) == (52.0, 5.0)


def test_defaults_are_seven_days_in_local_iso_time_and_kilometres_an_hour(get: Get) -> None:
    hourly = get(**HERE, hourly="wind_speed_10m").json()
    assert len(hourly["hourly"]["time"]) == 7 * 24
    assert hourly["hourly"]["time"][0] == "2026-06-21T00:00"
    assert hourly["hourly_units"] == {"time": "iso8601", "wind_speed_10m": "km/h"}
    in_ms = get(**HERE, hourly="wind_speed_10m", wind_speed_unit="ms", timeformat="unixtime").json()
    assert in_ms["hourly"]["time"][0] == datetime(2026, 6, 21, tzinfo=UTC).timestamp()
    assert hourly["hourly"]["wind_speed_10m"][0] == pytest.approx(3.6 * in_ms["hourly"]["wind_speed_10m"][0], abs=0.03)
    local = get(**HERE, hourly="wind_speed_10m", timezone="Europe/Amsterdam").json()
    assert (local["utc_offset_seconds"], local["hourly"]["time"][0]) == (7200, "2026-06-21T00:00")
    assert local["hourly"]["wind_speed_10m"][2] == hourly["hourly"]["wind_speed_10m"][0]


def test_quarter_hours_are_three_days_unless_more_are_asked_for(get: Get) -> None:
    assert len(get(**HERE, minutely_15="temperature_2m").json()["minutely_15"]["time"]) == 72 * 4
    assert len(get(**HERE, minutely_15="temperature_2m", forecast_days="5").json()["minutely_15"]["time"]) == 5 * 96
    counted = get(**HERE, minutely_15="temperature_2m", forecast_minutely_15="20").json()["minutely_15"]["time"]
    assert (len(counted), counted[0]) == (20, "2026-06-21T09:15")


def test_beyond_a_model_s_horizon_stand_nulls(get: Get) -> None:
    found = get(**HERE, hourly="temperature_2m,shortwave_radiation", models="icon_eu").json()["hourly"]
    assert found["temperature_2m"][-1] is None
    assert found["temperature_2m"][120] is not None
    assert None not in found["temperature_2m"][:120]


def test_several_models_share_an_answer_by_their_names(get: Get) -> None:
    found = get(**HERE, hourly="temperature_2m,cloud_cover", models="icon_eu,ecmwf_ifs025").json()
    expected = {
        f"{name}_{model}" for name in ("temperature_2m", "cloud_cover") for model in ("icon_eu", "ecmwf_ifs025")
    }
    assert set(found["hourly"]) == set(found["hourly_units"]) == expected | {"time"}


@pytest.mark.parametrize(
    ("service", "params", "status", "reason"),
    [
        ("api", {**HERE, "hourly": "sunshine"}, 400,
         "Data corrupted at path ''. Cannot initialize .* from invalid String value sunshine."),
        ("api", {**HERE, "hourly": "temperature_2m_previous_day1"}, 400, "Cannot initialize"),
        ("api", {**HERE, "hourly": "temperature_2m", "models": "moon"}, 400, "Cannot initialize MultiDomains"),
        ("api", {"latitude": "91", "longitude": "0", "hourly": "rain"}, 400, "Latitude must be in range of -90 to 90°"),
        ("api", {"latitude": "1,2", "longitude": "0", "hourly": "rain"}, 400, "same number of elements"),
        ("api", {"hourly": "rain"}, 400, "required for key 'latitude'"),
        ("api", {**HERE, "hourly": "temperature_2m", "forecast_days": "17"}, 400, "Allowed range 0 to 16"),
        ("api", {**HERE, "hourly": "temperature_2m", "start_date": "2026-01-01", "end_date": "2026-01-02"}, 400,
         "Parameter 'start_date' is out of allowed range from 2026-03-20 to 2026-07-07"),
        ("api", {**HERE, "hourly": "temperature_2m", "timezone": "Mars"}, 400, "Invalid timezone"),
        ("api", {**HERE, "hourly": "temperature_2m", "wind_speed_unit": "furlong"}, 400, "Cannot initialize"),
        ("api", {"latitude": "10", "longitude": "10", "hourly": "temperature_2m", "models": "icon_d2"}, 400,
         "No data is available for this location"),
        ("api", {**HERE, "hourly": "temperature_2m", "run": "2026-06-21T00:00"}, 400, "'run'"),
        ("single-runs-api", {**HERE, "hourly": "temperature_2m"}, 400, "Parameter 'run' is required"),
        ("single-runs-api", {**HERE, "hourly": "temperature_2m", "run": "2026-06-22T00:00"}, 400, "No data"),
        ("customer-api", {**HERE, "hourly": "temperature_2m"}, 401, "API key required"),
        ("historical-forecast-api", {**HERE, "hourly": "temperature_2m"}, 404, "Not Found"),
        ("api", {"latitude": ",".join(["50"] * 1001), "longitude": ",".join(["5"] * 1001), "hourly": "rain"}, 400,
         "maximum of 1000"),
    ],
)  # fmt: skip
def test_errors_are_those_of_the_real_one(
    get: Get, service: str, params: dict[str, str], status: int, reason: str
) -> None:
    answer = get(service, **params)
    assert answer.status_code == status
    assert answer.json()["error"] is True
    assert re.search(reason, answer.json()["reason"])


def test_a_single_run_begins_where_it_started(get: Get) -> None:
    params = {**HERE, "hourly": "shortwave_radiation,temperature_2m", "models": "icon_eu", "run": "2026-06-20T06:00"}
    found = get("single-runs-api", **params, start_hour="2026-06-20T06:00", end_hour="2026-06-20T18:00").json()[
        "hourly"
    ]
    assert found["time"][0] == "2026-06-20T06:00"
    assert found["shortwave_radiation"][0] is None  # no hour has ended yet
    assert found["temperature_2m"][0] is not None
    assert None not in found["shortwave_radiation"][1:]


def test_previous_days_are_other_runs(get: Get) -> None:
    names = ["shortwave_radiation", *(f"shortwave_radiation_previous_day{day}" for day in (1, 3))]
    found = get("previous-runs-api", **HERE, hourly=",".join(names), forecast_days="1").json()["hourly"]
    columns = np.array([found[name] for name in names], float)
    assert np.abs(np.diff(columns, axis=0)).max(axis=1).min() > 5


def test_the_newest_run_of_a_model_is_said_apart_from_the_data(server: tuple[Stub, str]) -> None:
    url = server[1].format(service="api")
    meta = httpx.get(f"{url}/data/dwd_icon_eu/static/meta.json").json()
    assert meta["last_run_initialisation_time"] % (3 * 3600) == 0
    assert meta["last_run_initialisation_time"] < meta["last_run_availability_time"] <= NOW.timestamp()
    assert meta["update_interval_seconds"] == 3 * 3600
    assert httpx.get(f"{url}/data/moon/static/meta.json").status_code == 404


def test_limits_count_weights_and_errors_and_tell_which(get: Get) -> None:
    with serving(NOW, limits=Limits(20, 0, 0, 5)) as (stub, url):
        ask = lambda **params: httpx.get(url.format(service="api") + "/v1/forecast", params=params)  # noqa: E731
        names = ",".join(variable.name for variable in VARIABLES)
        assert ask(**TWO, hourly=names).status_code == 200
        assert stub.meter.weighted == pytest.approx(2.8)
        assert ask(**HERE, hourly="nonsense").status_code == 400
        assert stub.meter.weighted == pytest.approx(3.8)
        many = {"latitude": ",".join(["50"] * 17), "longitude": ",".join(["5"] * 17)}
        refused = ask(**many, hourly="temperature_2m")
        assert refused.status_code == 429
        assert refused.json()["reason"] == "Minutely API request limit exceeded. Please try again in one minute."
        assert "retry-after" not in refused.headers


def test_some_answers_fail_in_every_way_the_real_ones_do(get: Get) -> None:
    with serving(NOW, faults=0.6) as (_, url):
        found = [httpx.get(url.format(service="api") + "/v1/forecast", params={**HERE, "hourly": "temperature_2m"})
                 for _ in range(40)]  # fmt: skip
    kinds = {(answer.status_code, answer.text[-14:] == "timeoutReached") for answer in found}
    assert kinds == {(200, False), (200, True), (429, False), (502, False), (503, False)}


def test_near_the_roofs_it_is_what_was_observed_with_errors_that_grow() -> None:
    park = PARKS[0]
    hourly = hourly_weather(park.id)
    days = [datetime(2013, 5, 1 + day, tzinfo=UTC).timestamp() for day in range(30)]
    errors: dict[int, list[float]] = {0: [], 1: [], 3: []}
    for day in days:
        ends = np.arange(int(day) + 3600, int(day) + 25 * 3600, 3600)
        truth = hourly.ghi.reindex(hourly.index[hourly.index.as_unit("s").asi8.searchsorted(ends - 3600)]).to_numpy()
        for ahead, found in errors.items():
            made = sky.values(park.latitude, park.longitude, "icon_global", int(day) - ahead * 86_400, ends, 3600)
            found.append(float(np.nanmean(np.abs(made["shortwave_radiation"] - truth))))
    means = [float(np.mean(found)) for found in errors.values()]
    assert 5 < means[0] < means[1] < means[2] < 90


def test_the_same_question_has_the_same_answer_in_any_window() -> None:
    labels = np.arange(1_781_900_000 // 3600 * 3600, 1_781_900_000 + 60 * 3600, 3600)
    whole = sky.values(52.09, 5.12, "icon_eu", int(labels[0]), labels, 3600)
    part = sky.values(52.09, 5.12, "icon_eu", int(labels[0]), labels[20:30], 3600)
    for name, values in whole.items():
        np.testing.assert_array_equal(values[20:30], part[name])


def test_the_parts_of_radiation_belong_together() -> None:
    labels = np.arange(1_781_900_000 // 3600 * 3600, 1_781_900_000 + 60 * 3600, 3600)
    found = sky.values(52.09, 5.12, "icon_eu", int(labels[0]), labels, 3600)
    np.testing.assert_allclose(
        found["direct_radiation"] + found["diffuse_radiation"], found["shortwave_radiation"], atol=1e-9
    )
    assert (found["direct_normal_irradiance"] >= found["direct_radiation"] - 1e-9).all()
    assert found["direct_normal_irradiance"].max() < 1200


def test_it_runs_as_a_program(tmp_path: Any) -> None:
    port = Ports(tmp_path / "ports.json", {}).get("stub")
    words = [sys.executable, "-m", "pvf.stub", "--port", str(port), "--clock", "2013-08-10T06:00:00+00:00"]
    with subprocess.Popen(words, cwd=ROOT, env={**os.environ}) as process:
        try:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                try:
                    state = httpx.get(f"http://127.0.0.1:{port}/stub").json()
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            assert state["now"] == "2013-08-10T06:00:00+00:00"
        finally:
            process.terminate()
    assert main([*words[3:-1], "noon"]) == 2
