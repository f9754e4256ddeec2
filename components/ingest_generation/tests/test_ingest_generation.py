"""Raw rows of both sample parks, as delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from components.ingest_generation.component import ingest_generation
from pvforecast import fleet
from pvforecast.lake.tables import RAW_GENERATION
from pvforecast.sources.pvdaq_samples import PARKS
from tests.component_fixtures import Workshop, new_workshop, planned

ROWS = {
    "pvdaq-50": 60 * 96 - 34,
    "serf-east": 40 * 96 - 4,
}  # the logger has gaps; SERF East begins on 1 July, 07:00 UTC


def test_every_interval_is_stored(workshop: Workshop, ingested: dict[str, str]) -> None:
    assert ingested == {"pvdaq-50": "ok", "serf-east": "ok"}
    for park, expected in ROWS.items():
        rows = workshop.lake.read(RAW_GENERATION, park_id=park).to_pandas(use_threads=False)
        assert len(rows) == expected
        assert rows.power_kw.max() < 6.0  # kW: the samples give W
        assert (rows.received_at > rows.measured_at).all()


@pytest.mark.usefixtures("ingested")
def test_the_report_says_what_came(workshop: Workshop) -> None:
    assert f"| pvdaq-50 | {ROWS['pvdaq-50']} |" in workshop.report("ingest-generation.report")


def test_loading_again_adds_nothing(workshop: Workshop, shard: dict[str, Any], ingested: dict[str, str]) -> None:
    before = len(workshop.lake.read(RAW_GENERATION))
    again = Workshop(workshop.settings, workshop.folder / "again")
    again.folder.mkdir()
    assert again.call(ingest_generation, dsl.Markdown, shard=shard, status=ingested) == ingested
    assert len(workshop.lake.read(RAW_GENERATION)) == before
    assert "| pvdaq-50 | 0 |" in again.report("ingest-generation.report")


def test_a_park_that_fails_is_a_status_and_the_others_go_on(tmp_path: Path) -> None:
    own = new_workshop(tmp_path)
    fleet.register(own.lake, PARKS[0].model_copy(update={"id": "atlantis"}))
    (shard,) = planned(own, since="2013-08-08T06:00:00+00:00")
    before = {"atlantis": "weather failed: no", "pvdaq-50": "ok", "serf-east": "weather failed: late"}
    status = own.call(ingest_generation, dsl.Markdown, shard=shard, status=before)
    assert status.pop("atlantis").startswith("failed: UnknownPark: park_id: 'atlantis' is not in the samples")
    assert status == {"pvdaq-50": "ok", "serf-east": "weather failed: late"}  # which is not forgotten
    assert "- atlantis: failed" in own.report("ingest-generation.report")


def test_where_nothing_is_pulled_nothing_is_loaded(tmp_path: Path) -> None:
    own = new_workshop(tmp_path)
    (shard,) = planned(own, source="none")
    status = {"pvdaq-50": "ok", "serf-east": "ok"}
    assert own.call(ingest_generation, dsl.Markdown, shard=shard, status=status) == status
    assert len(own.lake.read(RAW_GENERATION)) == 0
