"""How old what is known of each park is, and when that is too old."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pvf import cli, exporter, overview
from pvforecast import fleet, freshness
from pvforecast.freshness import Limits
from pvforecast.lake import Lake
from pvforecast.lake.tables import RAW_GENERATION, WEATHER
from pvforecast.settings import Settings
from pvforecast.sources.pvdaq_samples import PARKS

NOON = datetime(2013, 7, 2, 19, 0, tzinfo=UTC)  # in Golden, Colorado
MIDNIGHT = datetime(2013, 7, 2, 7, 0, tzinfo=UTC)
LIMITS = Limits(weather=420, generation=15)
PARK = PARKS[0]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(str(tmp_path / "lake"))
    fleet.register(made, PARK)
    return made


def weather(lake: Lake, run_at: datetime, available_at: datetime, hours: int = 48) -> None:
    at = pd.date_range(run_at, periods=hours, freq="h")
    row = {"park_id": PARK.id, "source": "nwp", "run_at": pd.Timestamp(run_at), "period_s": np.int32(3600)}
    lake.append_new(WEATHER, pd.DataFrame({**row, "available_at": pd.Timestamp(available_at), "valid_at": at}))


def generation(lake: Lake, end: datetime, period_s: int = 900, received_at: datetime | None = None) -> None:
    at = pd.Timestamp(end) - pd.Timedelta(seconds=period_s)
    row = {"park_id": PARK.id, "inverter_id": "1", "measured_at": at, "period_s": np.int32(period_s), "power_kw": 1.0}
    lake.append(RAW_GENERATION, pd.DataFrame([{**row, "received_at": pd.Timestamp(received_at or end), "source": "x"}]))


def of(lake: Lake, now: datetime) -> freshness.Freshness:
    (found,) = freshness.of_parks(lake, [PARK.site()], now, LIMITS)
    return found


def minutes(n: float) -> timedelta:
    return timedelta(minutes=n)


def test_weather_is_as_old_as_its_run_and_late_by_when_it_could_be_had(lake: Lake) -> None:
    weather(lake, NOON - minutes(600), NOON - minutes(420))
    found = of(lake, NOON)
    assert (found.weather_age_minutes, found.weather_available_age_minutes) == (600, 420)
    assert "weather" not in found.stale
    assert "weather" in of(lake, NOON + minutes(1)).stale


def test_a_run_that_could_not_be_had_yet_is_not_seen(lake: Lake) -> None:
    weather(lake, NOON - minutes(300), NOON - minutes(120))
    weather(lake, NOON - minutes(60), NOON + minutes(60))
    assert of(lake, NOON).weather_age_minutes == 300
    assert of(lake, NOON + minutes(60)).weather_age_minutes == 120


def test_a_run_that_no_longer_reaches_now_still_has_an_age(lake: Lake) -> None:
    weather(lake, NOON - timedelta(days=5), NOON - timedelta(days=5))
    assert of(lake, NOON).weather_age_minutes == 5 * 24 * 60
    assert of(lake, NOON + timedelta(days=40)).weather_age_minutes is None


def test_generation_is_late_when_the_interval_that_should_be_there_is_not(lake: Lake) -> None:
    generation(lake, NOON - minutes(30))
    found = of(lake, NOON)
    assert (found.generation_age_minutes, found.period_minutes) == (30, 15)
    assert "generation" not in found.stale  # the next one ended 15 minutes ago, and may take as long
    assert "generation" in of(lake, NOON + minutes(1)).stale


def test_of_what_was_received_later_nothing_was_known(lake: Lake) -> None:
    generation(lake, NOON - minutes(90))
    generation(lake, NOON - minutes(15), received_at=NOON + minutes(5))
    assert of(lake, NOON).generation_age_minutes == 90
    assert of(lake, NOON + minutes(5)).generation_age_minutes == 20


def test_at_night_nothing_is_late(lake: Lake) -> None:
    generation(lake, MIDNIGHT - minutes(240))
    assert of(lake, MIDNIGHT).generation_age_minutes == 240
    assert "generation" not in of(lake, MIDNIGHT).stale


def test_nothing_at_all_is_late_by_day(lake: Lake) -> None:
    found = of(lake, NOON)
    assert found.stale == ("weather", "generation")
    assert found.generation_age_minutes is found.weather_age_minutes is None
    assert found.as_dict()["stale"] == ["weather", "generation"]


def test_ages_do_not_depend_on_the_zone_of_now(lake: Lake) -> None:
    weather(lake, NOON - minutes(60), NOON)
    generation(lake, NOON - minutes(10))
    west = NOON.astimezone(datetime.strptime("-0700", "%z").tzinfo)
    assert of(lake, west).generation_age_minutes == of(lake, NOON).generation_age_minutes == 10


# --- pvf status, pvf metrics -----------------------------------------------------------------------------------------


@pytest.fixture
def settings(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("PVF_LAKE_URI", lake.uri)
    monkeypatch.setenv("PVF_HOME", str(tmp_path / "home"))
    return Settings(lake_uri=lake.uri, home=tmp_path / "home")


def status(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["status", "--as-of", NOON.isoformat(), *words], catch_exceptions=False)
    return done.exit_code, done.stdout


@pytest.mark.usefixtures("settings")
def test_status_names_the_limit_that_is_broken_and_check_fails(lake: Lake) -> None:
    weather(lake, NOON - minutes(60), NOON - minutes(30))
    code, text = status()
    assert code == 0
    assert f"! generation is older than 15 min: {PARK.id}" in text
    assert "last maintenance: never" in text
    assert status("--check")[0] == 1
    generation(lake, NOON - minutes(5))
    code, text = status("--check", "--json")
    assert code == 0
    found = json.loads(text)
    assert found["broken"] == []
    assert found["champion"] == "not known: PVF_POSTGRES_DSN is not set"
    assert [(park["park_id"], park["generation_age_minutes"]) for park in found["parks"]] == [(PARK.id, 5)]
    assert found["files"] == {"raw/parks": 1, "raw/generation": 1, "processed/weather": len(months(NOON))}


def months(now: datetime) -> set[str]:
    return {f"{now + timedelta(hours=h):%Y-%m}" for h in range(48)}


def test_a_limit_is_a_setting(settings: Settings, lake: Lake) -> None:
    generation(lake, NOON - minutes(60))
    weather(lake, NOON, NOON)
    assert overview.take(settings, NOON).stale("generation") == [PARK.id]
    patient = settings.model_copy(update={"generation_max_age_minutes": 50})
    assert overview.take(patient, NOON).stale("generation") == []


def test_a_retired_park_is_not_late(settings: Settings, lake: Lake) -> None:
    assert overview.take(settings, NOON).stale("weather") == [PARK.id]
    later = PARK.model_copy(update={"retired": True, "valid_from": PARK.valid_from + timedelta(days=1)})
    fleet.register(lake, later)
    assert overview.take(settings, NOON).parks == []


@pytest.fixture
def scraped(settings: Settings, lake: Lake) -> Iterator[str]:
    now = datetime.now(UTC)
    weather(lake, now - minutes(60), now - minutes(30))
    generation(lake, now - minutes(5))
    server = exporter.serve(settings, "127.0.0.1", 0)
    with urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=60) as answer:
        yield answer.read().decode()
    server.shutdown()
    server.server_close()


def test_prometheus_gets_an_age_for_each_park_and_sums(scraped: str) -> None:
    lines = scraped.splitlines()
    assert "pvf_lake_up 1.0" in lines
    assert f'pvf_weather_age_seconds{{park="{PARK.id}"}} 3600.0' in lines
    assert f'pvf_generation_age_seconds{{park="{PARK.id}"}} 300.0' in lines
    assert "pvf_parks_stale_weather 0.0" in lines
    assert 'pvf_lake_files{table="raw/generation"} 1.0' in lines


def test_a_lake_that_is_gone_is_a_metric_not_an_error(tmp_path: Path) -> None:
    gone = Settings(lake_uri="s3://pvf/lake", s3_endpoint="", home=tmp_path)
    assert [(family.name, family.samples[0].value) for family in exporter.Ages(gone).collect()] == [
        ("pvf_lake_up", 0.0)
    ]
