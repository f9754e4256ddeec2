"""Good rows become hours, bad rows become a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kfp import dsl

from components.ingest_generation.component import ingest_generation
from components.validate.component import validate
from pvforecast.lake.tables import GENERATION, QUARANTINE, RAW_GENERATION, WEATHER
from tests.component_fixtures import Workshop, new_workshop, planned


def test_hours_that_are_nearly_whole_are_stored(workshop: Workshop, validated: dict[str, str]) -> None:
    assert validated == {"pvdaq-50": "ok", "serf-east": "ok"}
    for park, expected in (("pvdaq-50", 60 * 24 - 9), ("serf-east", 40 * 24 - 1)):
        hours = workshop.lake.read(GENERATION, park_id=park).to_pandas(use_threads=False)
        assert len(hours) == expected
        assert hours.completeness.between(0.75, 1.0).all()
        assert (hours.available_at >= hours.valid_at + pd.Timedelta(minutes=50)).all()
        assert len(workshop.lake.read(WEATHER, park_id=park)) > 0
    assert "| pvdaq-50 | 1431 | " in workshop.report("validate.report")


def test_a_bad_row_is_set_aside_with_its_reason_and_stops_nothing(tmp_path: Path) -> None:
    own = new_workshop(tmp_path)
    (shard,) = planned(own, parks=["pvdaq-50"], since="2013-08-08T06:00:00+00:00")
    status = own.call(ingest_generation, dsl.Markdown, shard=shard, status={"pvdaq-50": "ok"})
    raw = own.lake.read(RAW_GENERATION).to_pandas(use_threads=False)
    in_watts = raw[raw.measured_at == pd.Timestamp("2013-08-08T19:00Z")].assign(
        power_kw=2100.0, inverter_id="2"
    )  # of a second inverter that reports W
    own.lake.append_new(RAW_GENERATION, in_watts)
    assert own.call(validate, dsl.Markdown, dsl.HTML, dsl.Metrics, shard=shard, status=status) == {"pvdaq-50": "ok"}
    (bad,) = own.lake.read(QUARANTINE).to_pylist()
    assert (bad["table"], json.loads(bad["payload"])["power_kw"]) == ("raw/generation", 2100.0)
    assert "W or MW?" in bad["reason"]
    assert len(own.lake.read(GENERATION)) == 48


@pytest.mark.usefixtures("ingested")
def test_a_park_that_failed_before_is_left_out(workshop: Workshop, shard: dict[str, Any]) -> None:
    own = Workshop(workshop.settings, workshop.folder / "failed")
    own.folder.mkdir()
    status = {"pvdaq-50": "failed: KeyError: 'x'", "serf-east": "ok"}
    assert own.call(validate, dsl.Markdown, dsl.HTML, dsl.Metrics, shard=shard, status=status) == status
    assert "| pvdaq-50 |" not in own.report("validate.report")
