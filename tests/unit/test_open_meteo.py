"""Weather from Open-Meteo, against a real server that stands in for it: labels, runs, lead times, what fails."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pvlib
import pytest

from pvf.stub import sky
from pvf.stub.app import Stub
from pvforecast.errors import DataError, InvalidInput
from pvforecast.parks import Park
from pvforecast.sources import open_meteo_answer as answers
from pvforecast.sources.base import Delivery
from pvforecast.sources.fetching import Patience
from pvforecast.sources.open_meteo import OpenMeteo
from pvforecast.sources.open_meteo_budget import NONE, Budget, Limits
from pvforecast.sources.open_meteo_models import BY_NAME, MODELS, VARIABLES, weight
from pvforecast.sources.open_meteo_options import Options
from pvforecast.sources.pvdaq_samples import PARKS
from tests.open_meteo import serving

NOW = datetime(2026, 6, 21, 9, 20, tzinfo=UTC)
SINCE = NOW - timedelta(days=3)
QUICK = Patience(attempts=8, first_pause_s=0.001, longest_pause_s=1.0)
UTRECHT = PARKS[0].model_copy(
    update={"id": "utrecht", "latitude": 52.0907, "longitude": 5.1214, "timezone": "Europe/Amsterdam"}
)
MADRID = UTRECHT.model_copy(update={"id": "madrid", "latitude": 40.4168, "longitude": -3.7038})
Ask = Callable[..., tuple[Delivery, Stub]]


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Ask once, with options, for some parks; gives the delivery and the server."""

    def asked(
        parks: list[Park],
        options: dict[str, Any],
        *,
        limits: Limits = NONE,
        key: str = "",
        until: datetime = NOW,
        since: datetime = SINCE,
        stored: frozenset[Any] = frozenset(),
        **how: Any,
    ) -> tuple[Delivery, Stub]:
        with serving(NOW, **how) as (stub, url):
            source = OpenMeteo(Options.of(options), url, Budget(tmp_path, limits), api_key=key, patience=QUICK)
            return source.weather(parks, since, until, stored), stub

    return asked


def answer(hours: pd.DatetimeIndex, **columns: list[float | None]) -> dict[str, Any]:
    """One location's answer with these labels."""
    return {
        "latitude": 40.42, "longitude": -3.7, "utc_offset_seconds": 0,
        "hourly_units": {"time": "unixtime", **{name: BY_NAME[name].unit for name in columns}},
        "hourly": {"time": [int(at.timestamp()) for at in hours], **columns},
    }  # fmt: skip


def read(document: Any, *names: str) -> pd.DataFrame:
    asked = {name: BY_NAME[name] for name in names}
    [sections] = answers.read(orjson.dumps(document), [(40.4168, -3.7038)], {"hourly": asked})
    return answers.frame(sections["hourly"], asked)


# -- labels and units ------------------------------------------------------------------------------------------------


def test_radiation_stands_where_the_sun_was() -> None:
    """The API labels the mean of an hour by its end. Made by pvlib and read back, noon is where the sun puts it."""
    place = pvlib.location.Location(MADRID.latitude, MADRID.longitude, "UTC")
    labels = pd.date_range("2026-06-21", periods=25, freq="h", tz="UTC")
    minutes = pd.date_range("2026-06-20T23:00", "2026-06-22", freq="1min", tz="UTC", inclusive="left")
    ghi = place.get_clearsky(minutes, model="haurwitz").ghi
    before = ghi.resample("1h", label="right").mean().reindex(labels)
    rows = read(answer(labels, shortwave_radiation=before.tolist()), "shortwave_radiation")
    middle = rows.valid_at + pd.Timedelta(minutes=30)
    hours = (middle - labels[0]).dt.total_seconds() / 3600
    noon = float((hours * rows.ghi).sum() / rows.ghi.sum())
    transit = place.get_sun_rise_set_transit(labels[:1]).transit.iloc[0]
    assert noon == pytest.approx((transit - labels[0]).total_seconds() / 3600, abs=1 / 30)
    as_labelled = float((np.arange(25) * before).sum() / before.sum()) + 0.5  # as if the label were the start
    assert as_labelled - noon == pytest.approx(1.0, abs=1 / 30)


def test_an_instant_becomes_the_mean_of_the_two_that_bound_the_hour() -> None:
    labels = pd.date_range("2026-06-21", periods=3, freq="h", tz="UTC")
    rows = read(
        answer(labels, temperature_2m=[10.0, 12.0, 20.0], precipitation=[9.0, 1.0, 2.0], cloud_cover=[0, 50, 100]),
        "temperature_2m", "precipitation", "cloud_cover",
    )  # fmt: skip
    assert rows.temp_air.tolist() == [11.0, 16.0]
    assert rows.precipitation.tolist() == [1.0, 2.0]  # the sum of the hour before its label
    assert rows.cloud_cover.tolist() == [0.25, 0.75]
    assert rows.valid_at.tolist() == labels[:2].tolist()
    assert rows.period_s.tolist() == [3600, 3600]


def test_nulls_at_the_horizon_are_not_rows_and_a_null_within_is_no_number() -> None:
    labels = pd.date_range("2026-06-21", periods=5, freq="h", tz="UTC")
    document = answer(
        labels, shortwave_radiation=[None, 1.0, 2.0, None, None], temperature_2m=[1.0, 2.0, None, 4.0, None]
    )
    rows = read(document, "shortwave_radiation", "temperature_2m")
    assert rows.ghi.tolist() == [1.0, 2.0]
    assert np.isnan(rows.temp_air.tolist()[1])


GOOD = answer(pd.date_range("2026-06-21", periods=3, freq="h", tz="UTC"), temperature_2m=[1.0, 2.0, 3.0])


def changed(**paths: Any) -> dict[str, Any]:
    document = orjson.loads(orjson.dumps(GOOD))
    for path, value in paths.items():
        *way, last = path.split("__")
        inner = document
        for name in way:
            inner = inner[name]
        inner[last] = value
    return document


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (orjson.dumps(GOOD)[:-20] + b"Unexpected error while streaming data: timeoutReached", "no JSON"),
        (orjson.dumps(GOOD) + b"Unexpected error while streaming data: timeoutReached", "no JSON"),
        (b'{"latitude": NaN}', "no JSON"),
        (orjson.dumps({"error": True, "reason": "too bad"}), "status 200: too bad"),
        (orjson.dumps([GOOD, GOOD]), "2 locations for 1"),
        (orjson.dumps([3]), r"\[0\]: a location is no object"),
        (orjson.dumps(changed(latitude=52.0)), "latitude: 52.0 for 40.4168 asked"),
        (orjson.dumps(changed(longitude="-3.7")), "longitude"),
        (orjson.dumps(changed(utc_offset_seconds=7200)), "times are not UTC"),
        (orjson.dumps(changed(hourly=None)), "hourly: is missing"),
        (orjson.dumps(changed(hourly_units__time="iso8601")), "not unixtime"),
        (orjson.dumps(changed(hourly__time=["2026-06-21T00:00"] * 3)), "hourly.time: is no list"),
        (orjson.dumps(changed(hourly__time=[0, 3600, 10800])), "labels are not 3600 s apart"),
        (orjson.dumps(changed(hourly__time=[60, 3660, 7260])), "labels are not 3600 s apart"),
        (orjson.dumps(changed(hourly__temperature_2m=[1.0, 2.0])), "temperature_2m: is no list of 3"),
        (orjson.dumps(changed(hourly__temperature_2m=[1.0, "2", 3.0])), "temperature_2m: is no list of 3"),
        (orjson.dumps(changed(hourly__temperature_2m=[1.0, True, 3.0])), "temperature_2m: is no list of 3"),
        (orjson.dumps(changed(hourly_units__temperature_2m="°F")), "unit '°F', not '°C'"),
    ],
)
def test_an_answer_that_is_not_exactly_one_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        answers.read(body, [(40.4168, -3.7038)], {"hourly": {"temperature_2m": BY_NAME["temperature_2m"]}})


def test_all_variables_arrive_in_our_units_and_the_free_ones_as_free_columns(ask: Ask) -> None:
    delivery, _ = ask([UTRECHT, MADRID], {})
    rows = delivery.rows
    assert delivery.failed == {}
    assert rows.ghi.between(0, 1100).all()
    assert rows.ghi.max() > 500
    assert rows[["cloud_cover", "relative_humidity"]].max().max() <= 1.0
    assert rows[["cloud_cover", "relative_humidity"]].max().min() > 0.2
    assert rows.wind_speed.between(0, 40).all()
    free = {variable.column for variable in VARIABLES if variable.column.startswith("x_")}
    assert {name for name, _ in rows.extra.iloc[0]} == free
    assert rows.notna().all().all()


# -- runs and when they were known -----------------------------------------------------------------------------------


def test_the_newest_run_is_known_ten_minutes_after_it_was_announced(ask: Ask) -> None:
    delivery, _ = ask([UTRECHT], {"models": ["icon_eu"]})
    [run_at], [available_at] = delivery.rows.run_at.unique(), delivery.rows.available_at.unique()
    assert run_at == pd.Timestamp("2026-06-21T06:00Z")
    assert available_at == pd.Timestamp("2026-06-21T09:10Z")  # announced at 09:00
    assert delivery.rows.valid_at.min() == run_at
    assert delivery.rows.valid_at.max() >= NOW + timedelta(hours=48)
    early, _ = ask([UTRECHT], {"models": ["icon_eu"]}, until=datetime(2026, 6, 21, 9, 9, tzinfo=UTC))
    assert len(early.rows) == 0
    assert early.failed == {}
    assert "counts from 2026-06-21T09:10Z on" in early.notes[0]


def test_a_run_that_is_stored_is_not_asked_for_again(ask: Ask) -> None:
    first, _ = ask([UTRECHT, MADRID], {})
    stored = {(park, "open_meteo:icon_global", first.rows.run_at.iloc[0].to_pydatetime()) for park in ("utrecht",)}
    second, stub = ask([UTRECHT, MADRID], {}, stored=frozenset(stored))
    assert set(second.rows.park_id) == {"madrid"}
    assert stub.meter.requests == 1
    both = stored | {("madrid", "open_meteo:icon_global", first.rows.run_at.iloc[0].to_pydatetime())}
    third, stub = ask([UTRECHT, MADRID], {}, stored=frozenset(both))
    assert len(third.rows) == stub.meter.requests == 0


def test_models_are_kept_apart_by_source(ask: Ask) -> None:
    delivery, _ = ask([UTRECHT], {"models": ["icon_eu", "ecmwf_ifs025"], "label": "my_server"})
    assert set(delivery.rows.source) == {"my_server:icon_eu", "my_server:ecmwf_ifs025"}
    ghi = delivery.rows.pivot_table(index="valid_at", columns="source", values="ghi").dropna()
    assert (ghi.diff(axis=1).iloc[:, 1].abs() > 1).any()


def test_parks_in_quarter_hours_get_quarter_hours_too(ask: Ask) -> None:
    quarterly = MADRID.model_copy(update={"resolution": "PT15M"})
    delivery, _ = ask([UTRECHT, quarterly], {})
    rows = delivery.rows
    assert set(rows[rows.park_id == "utrecht"].period_s) == {3600}
    own = rows[rows.park_id == "madrid"]
    assert own.groupby("period_s").size()[900] == 4 * own.groupby("period_s").size()[3600]
    # Beyond the 72 hours that the API gives by itself, and the mean of the quarters is the hour.
    quarters = own[own.period_s == 900].set_index("valid_at").ghi.resample("1h").mean()
    hours = own[own.period_s == 3600].set_index("valid_at").ghi
    assert np.abs(quarters - hours).max() < 40


def test_archived_runs_are_known_late_and_no_later_than_asked(ask: Ask) -> None:
    delivery, stub = ask([UTRECHT, MADRID], {"service": "single_runs", "models": ["icon_eu"], "run_hours": [0, 12]})
    runs = delivery.rows[["run_at", "available_at"]].drop_duplicates()
    assert (runs.available_at - runs.run_at).unique().tolist() == [pd.Timedelta(hours=5)]
    assert runs.available_at.between(SINCE, NOW).all()
    assert set(runs.run_at.dt.hour) == {0, 12}
    assert len(runs) == stub.meter.requests == 6
    reach = delivery.rows.groupby("run_at").valid_at.max() - runs.set_index("run_at").available_at
    assert (reach >= pd.Timedelta(hours=48 + 12 - 1)).all()  # until the next one is known


def test_what_an_archive_lacks_is_a_note_and_no_failure(ask: Ask) -> None:
    options = {"service": "single_runs", "run_hours": [5], "locations": 1}  # ICON runs at 0, 6, 12 and 18
    delivery, _ = ask([UTRECHT], options)
    assert (len(delivery.rows), dict(delivery.failed)) == (0, {})
    assert "No data is available" in delivery.notes[0]


def test_previous_runs_hold_nothing_that_was_not_known_when_the_forecast_was_made(ask: Ask) -> None:
    """Each value is found again in the run it must be from, and that run had started `delay` before the issue."""
    options = {"service": "previous_runs", "models": ["icon_eu"], "variables": ["shortwave_radiation"]}
    delivery, _ = ask([UTRECHT], {**options, "delay_hours": 6})
    rows = delivery.rows
    assert set(rows.available_at.dt.hour) == {0}
    assert (rows.available_at - rows.run_at == pd.Timedelta(hours=6)).all()
    assert set(rows.source) == {"open_meteo:icon_eu:previous"}
    assert (rows.groupby("available_at").size() == 48).all()
    every = MODELS["icon_eu"].every_hours * 3600
    for row in rows.itertuples():
        end = int(row.valid_at.timestamp()) + 3600
        lead_h = (end - row.available_at.timestamp()) / 3600
        day = int(np.ceil((lead_h + 6) / 24))
        run = (end - 1 - day * 86_400) // every * every
        assert run <= row.run_at.timestamp()
        made = sky.values(52.0907, 5.1214, "icon_eu", run, np.array([end]), 3600)["shortwave_radiation"][0]
        assert row.ghi == pytest.approx(made, abs=0.06)


def test_previous_days_of_ecmwf_lack_cloud_layers(ask: Ask) -> None:
    options = {"service": "previous_runs", "models": ["ecmwf_ifs025"]}
    delivery, _ = ask([UTRECHT], options, since=NOW - timedelta(days=1))
    assert delivery.rows.ghi.notna().all()
    assert {name for name, _ in delivery.rows.extra.iloc[10]} == {"x_direct_radiation", "x_snowfall_cm"}


# -- what fails ------------------------------------------------------------------------------------------------------


def fleet(number: int) -> list[Park]:
    return [UTRECHT.model_copy(update={"id": f"p{i}", "latitude": 45.0 + i / 50}) for i in range(number)]


def test_a_third_of_the_answers_failing_loses_nothing(ask: Ask) -> None:
    delivery, stub = ask(fleet(40), {"locations": 4, "variables": ["shortwave_radiation"]}, faults=0.35)
    assert delivery.failed == {}
    assert delivery.rows.park_id.nunique() == 40
    assert not delivery.rows.duplicated(["park_id", "valid_at"]).any()
    assert 10 < stub.meter.requests < 60


def test_a_batch_that_fails_in_the_end_fails_its_parks_alone(ask: Ask) -> None:
    delivery, _ = ask(fleet(20), {"locations": 2, "variables": ["shortwave_radiation"]}, faults=0.95, seed=4)
    came = set(delivery.rows.park_id)
    assert set(delivery.failed) == {park.id for park in fleet(20)} - came
    assert delivery.failed
    assert all(why.startswith("icon_global: ") for why in delivery.failed.values())


def test_a_place_outside_the_model_fails_alone(ask: Ask) -> None:
    parks = [*fleet(9), PARKS[0], *[park.model_copy(update={"id": f"{park.id}-b"}) for park in fleet(6)]]
    delivery, stub = ask(parks, {"models": ["icon_eu"]})
    assert set(delivery.failed) == {"pvdaq-50"}
    assert "No data is available for this location" in delivery.failed["pvdaq-50"]
    assert delivery.rows.park_id.nunique() == 15
    assert stub.meter.requests <= 10


def test_a_server_that_is_away_fails_every_park_and_raises_nothing(tmp_path: Path) -> None:
    patience = Patience(attempts=2, first_pause_s=0.001)
    source = OpenMeteo(Options(), "http://127.0.0.1:1/{service}", Budget(tmp_path, NONE), patience=patience)
    delivery = source.weather([UTRECHT], SINCE, NOW)
    assert list(delivery.failed) == ["utrecht"]
    assert "did not answer: ConnectError" in delivery.failed["utrecht"]
    assert len(delivery.rows) == 0


def test_a_limit_of_the_day_is_not_waited_for(tmp_path: Path) -> None:
    """The server is stricter than we know: its refusal names the limit, and it is asked again another time."""
    with serving(NOW, limits=Limits(0, 0, 3, 1)) as (strict, url):
        one_at_a_time = Budget(tmp_path, Limits(0, 0, 0, at_once=1))
        source = OpenMeteo(Options.of({"locations": 2}), url, one_at_a_time, patience=QUICK)
        refused = source.weather(fleet(4), SINCE, NOW)
    assert set(refused.failed) == {"p2", "p3"}
    assert "Daily API request limit exceeded" in refused.failed["p2"]
    assert strict.meter.requests == 2


def test_a_key_is_sent_where_no_log_shows_it(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        paid, _ = ask([UTRECHT], {}, key="s3cret-key", api_key="s3cret-key")
        wrong, _ = ask([UTRECHT], {}, key="wr0ng-key", api_key="s3cret-key")
    assert len(paid.rows) > 0
    assert "The supplied API key is invalid" in wrong.failed["utrecht"]
    assert "s3cret-key" not in caplog.text
    assert "wr0ng-key" not in caplog.text + str(wrong.failed)


# -- limits ----------------------------------------------------------------------------------------------------------


def test_what_is_asked_weighs_what_the_server_counts(ask: Ask) -> None:
    for options in ({}, {"models": ["icon_eu"], "variables": ["shortwave_radiation"]}, {"service": "previous_runs"}):
        before = weight(1, 1, 1)
        assert before == 1.0
        _, stub = ask(fleet(7), options)
        assert stub.meter.refused == 0
        variables = len(options.get("variables", VARIABLES)) * (3 if "service" in options else 1)  # type: ignore[arg-type]
        assert stub.meter.weighted == pytest.approx(weight(7, variables, 5) * stub.meter.requests)


def test_a_day_of_hourly_loads_of_a_hundred_parks_fits_the_free_tier() -> None:
    """Even if every hour brought a new run, all variables, and one request in twenty were repeated."""
    each = weight(100, len(VARIABLES), 4)
    assert each <= 600
    assert 24 * each * 1.06 <= 5000
    assert 24 * each * 1.06 <= 10_000


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"gain": 1}, "weather_options"),
        ({"service": "historical_forecast"}, "weather_options.service"),
        ({"models": []}, "weather_options.models"),
        ({"models": "icon_eu"}, "weather_options.models"),
        ({"models": ["best_match"]}, "weather_options.models"),
        ({"variables": ["sunshine"]}, "weather_options.variables"),
        ({"horizon_hours": 0}, "weather_options.horizon_hours"),
        ({"horizon_hours": 1.5}, "weather_options.horizon_hours"),
        ({"locations": 5000}, "weather_options.locations"),
        ({"run_hours": [24]}, "weather_options.run_hours"),
        ({"delay_hours": "6"}, "weather_options.delay_hours"),
        ({"label": "Open Meteo"}, "weather_options.label"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Options.of(options)
    assert caught.value.field == field
    assert caught.value.hint


def test_options_come_back_from_kfp_with_floats() -> None:
    given = {"horizon_hours": 48.0, "locations": 100.0, "run_hours": [0.0, 12.0], "models": ["hrrr=ncep_hrrr_conus"]}
    options = Options.of(given)
    assert (options.horizon_hours, options.run_hours) == (48, (0, 12))
    assert all(type(hour) is int for hour in options.run_hours)
    assert re.fullmatch("hrrr=.*", options.models[0])
