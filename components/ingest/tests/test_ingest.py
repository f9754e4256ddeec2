"""Raw rows of both sample parks, as delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from components.ingest.component import ingest
from pvforecast import ingestion
from pvforecast.lake.tables import RAW_GENERATION, RAW_WEATHER
from pvforecast.sources.pvdaq_samples import PARKS
from tests.component_fixtures import Workshop, new_workshop, planned

ROWS = {
    "pvdaq-50": 60 * 96 - 34,
    "serf-east": 40 * 96 - 4,
}  # the logger has gaps; SERF East begins on 1 July, 07:00 UTC


def test_every_interval_and_every_run_is_stored(workshop: Workshop, ingested: dict[str, str]) -> None:
    assert ingested == {"pvdaq-50": "ok", "serf-east": "ok"}
    for park, expected in ROWS.items():
        rows = workshop.lake.read(RAW_GENERATION, park_id=park).to_pandas(use_threads=False)
        assert len(rows) == expected
        assert rows.power_kw.max() < 6.0  # kW: the samples give W
        assert (rows.received_at > rows.measured_at).all()
        runs = workshop.lake.read(RAW_WEATHER, park_id=park).to_pandas(use_threads=False)
        assert set(runs.run_at.dt.hour) == {6}  # 00:00 in Golden, summer
        assert (runs.groupby("run_at").size() == 48).all()


@pytest.mark.usefixtures("ingested")
def test_the_report_says_what_was_corrected(workshop: Workshop) -> None:
    report = workshop.report("ingest.report")
    assert "| pvdaq-50 | 5726 | " in report
    assert "follows daylight-saving time against its label" in report
    assert ingestion.clock_reports(workshop.lake)["pvdaq-50"].follows_dst


def test_loading_again_adds_nothing(workshop: Workshop, shard: dict[str, Any], ingested: dict[str, str]) -> None:
    before = len(workshop.lake.read(RAW_GENERATION)), len(workshop.lake.read(RAW_WEATHER))
    again = Workshop(workshop.settings, workshop.folder / "again")
    again.folder.mkdir()
    assert again.call(ingest, dsl.Markdown, shard=shard) == ingested
    assert (len(workshop.lake.read(RAW_GENERATION)), len(workshop.lake.read(RAW_WEATHER))) == before
    assert "| pvdaq-50 | 0 | 0 | " in again.report("ingest.report")


def test_a_park_that_fails_is_a_status_and_the_others_go_on(tmp_path: Path) -> None:
    own = new_workshop(tmp_path)
    ingestion.register(own.lake, PARKS[0].model_copy(update={"id": "atlantis"}))
    (shard,) = planned(own, since="2013-08-08T06:00:00+00:00")
    status = own.call(ingest, dsl.Markdown, shard=shard)
    assert status.pop("atlantis").startswith("failed: UnknownPark: park_id: 'atlantis' is not in the samples")
    assert status == {"pvdaq-50": "ok", "serf-east": "ok"}
    assert "- atlantis: failed" in own.report("ingest.report")
