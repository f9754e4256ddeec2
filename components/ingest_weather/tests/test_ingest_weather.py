"""Raw rows of weather, from the samples and from a server that stands in for Open-Meteo."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from components.ingest_weather.component import ingest_weather
from pvforecast import fleet
from pvforecast.lake.tables import RAW_WEATHER
from pvforecast.sources.pvdaq_samples import PARKS
from tests.component_fixtures import AS_OF, Workshop, new_workshop, planned
from tests.open_meteo import serving

NOW = datetime.fromisoformat(AS_OF)


@pytest.mark.usefixtures("ingested")
def test_every_observed_run_is_stored(workshop: Workshop) -> None:
    for park in ("pvdaq-50", "serf-east"):
        runs = workshop.lake.read(RAW_WEATHER, park_id=park).to_pandas(use_threads=False)
        assert set(runs.run_at.dt.hour) == {6}  # 00:00 in Golden, summer
        assert (runs.groupby("run_at").size() == 48).all()


@pytest.mark.usefixtures("ingested")
def test_loading_again_adds_nothing(workshop: Workshop, shard: dict[str, Any]) -> None:
    before = len(workshop.lake.read(RAW_WEATHER))
    again = Workshop(workshop.settings, workshop.folder / "again-weather")
    again.folder.mkdir()
    assert again.call(ingest_weather, dsl.Markdown, shard=shard) == {"pvdaq-50": "ok", "serf-east": "ok"}
    assert len(workshop.lake.read(RAW_WEATHER)) == before
    assert "| pvdaq-50 | 0 |" in again.report("ingest-weather.report")


def test_the_newest_run_comes_from_open_meteo_with_its_credit(tmp_path: Path) -> None:
    with serving(NOW) as (stub, url):
        own = new_workshop(tmp_path, weather_source="open_meteo", open_meteo_url=url)
        (shard,) = planned(own, source="none")
        assert own.call(ingest_weather, dsl.Markdown, shard=shard) == {"pvdaq-50": "ok", "serf-east": "ok"}
        assert stub.meter.requests == 1
        assert own.call(ingest_weather, dsl.Markdown, shard=shard) == {"pvdaq-50": "ok", "serf-east": "ok"}
        assert stub.meter.requests == 1  # the run is stored: not asked for again
    rows = own.lake.read(RAW_WEATHER).to_pandas(use_threads=False)
    assert set(rows.source) == {"open_meteo:icon_global"}
    assert (rows.available_at <= NOW).all()
    assert rows.groupby("park_id").valid_at.max().min() >= NOW + timedelta(hours=47)
    assert "CC BY 4.0" in own.report("ingest-weather.report")


def test_a_park_without_weather_goes_on_and_is_named(tmp_path: Path) -> None:
    with serving(NOW) as (_, url):
        options = {"models": ["icon_eu"]}  # whose area ends far from Colorado
        own = new_workshop(tmp_path, weather_source="open_meteo", weather_options=options, open_meteo_url=url)
        fleet.register(own.lake, PARKS[0].model_copy(update={"id": "utrecht", "latitude": 52.09, "longitude": 5.12}))
        (shard,) = planned(own, source="none", as_of="2013-08-10T07:00:00+00:00")
        status = own.call(ingest_weather, dsl.Markdown, shard=shard)
    assert status.pop("utrecht") == "ok"
    assert {state.partition(": ")[0] for state in status.values()} == {"weather failed"}
    assert set(own.lake.read(RAW_WEATHER)["park_id"].to_pylist()) == {"utrecht"}
    assert "- serf-east: weather failed: icon_eu" in own.report("ingest-weather.report")
    assert "No data is available for this location" in own.report("ingest-weather.report")
