"""One park through the lake: raw as delivered, good rows hourly, bad rows in quarantine, each step safe to repeat."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pvforecast import fleet, ingestion, refining
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import GENERATION, QUARANTINE, RAW_GENERATION, RAW_WEATHER, WEATHER
from pvforecast.parks import Park
from pvforecast.sources.base import Delivery, RunKey
from pvforecast.sources.pvdaq_samples import PARKS

PARK = PARKS[0].model_copy(update={"latitude": 75.0, "longitude": 0.0})  # where the sun does not set in June
BEGIN, END = datetime(2013, 6, 1, tzinfo=UTC), datetime(2013, 6, 3, tzinfo=UTC)


@dataclass
class Telemetry:
    """A source that delivers what it is told to, in quarters of an hour; hour number -> kW."""

    hours: dict[int, float] = field(default_factory=lambda: {h: 1.0 + h / 100 for h in range(48)})
    received_late: timedelta = timedelta(minutes=20)
    ghi: float = 150.0
    name: str = "telemetry"

    def generation(self, park: Park, since: datetime, until: datetime) -> pd.DataFrame:
        at = [BEGIN + timedelta(hours=h, minutes=15 * q) for h in self.hours for q in range(4)]
        rows = pd.DataFrame(
            {"measured_at": pd.DatetimeIndex(at, tz=UTC), "power_kw": np.repeat([*self.hours.values()], 4)}
        )
        rows = rows.assign(park_id=park.id, inverter_id="1", period_s=np.int32(900), label="", source=self.name)
        rows["received_at"] = rows.measured_at + self.received_late
        return rows[(rows.measured_at >= since) & (rows.measured_at < until)]

    @property
    def attribution(self) -> str:
        return ""

    def weather(
        self, parks: Sequence[Park], since: datetime, until: datetime, stored: Set[RunKey] = frozenset()
    ) -> Delivery:
        [park] = parks
        rows = pd.DataFrame({"valid_at": pd.date_range(BEGIN, periods=48, freq="h")})
        rows = rows.assign(
            park_id=park.id,
            source=self.name,
            period_s=np.int32(3600),
            run_at=pd.Timestamp(BEGIN),
            available_at=pd.Timestamp(BEGIN),
        )
        return Delivery(rows.assign(ghi=self.ghi))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path))
    fleet.register(lake, PARK)
    return lake


def load(lake: Lake, source: Telemetry, until: datetime = END) -> refining.ValidationReport:
    ingestion.ingest(lake, source, PARK, BEGIN, until)
    return refining.validate(lake, [PARK], BEGIN, until)[0]


def test_what_is_delivered_becomes_hours_of_the_park(lake: Lake) -> None:
    report = ingestion.ingest(lake, Telemetry(), PARK, BEGIN, END)
    assert (report.generation_rows, report.weather_rows) == (192, 48)
    checked = refining.validate(lake, [PARK], BEGIN, END)[0]
    assert (checked.generation_hours, checked.weather_rows, checked.quarantined) == (48, 48, 0)
    record = records.load(lake, PARK.id)
    np.testing.assert_allclose(record.power_kw, [1.0 + h / 100 for h in range(48)])
    assert record.valid_at[0] == np.datetime64("2013-06-01T00:00:00")
    assert set(record.available_at - record.valid_at) == {np.timedelta64(65 * 60, "s")}  # last quarter + 20 minutes
    [run] = record.runs
    assert set(run.variables["ghi"]) == {150.0}


def test_the_same_load_twice_adds_nothing(lake: Lake) -> None:
    load(lake, Telemetry())
    again = ingestion.ingest(lake, Telemetry(), PARK, BEGIN, END)
    assert (again.generation_rows, again.weather_rows) == (0, 0)
    checked = refining.validate(lake, [PARK], BEGIN, END)[0]
    assert (checked.generation_hours, checked.weather_rows, checked.quarantined) == (0, 0, 0)


def test_bad_rows_lie_in_quarantine_and_the_good_ones_go_on(lake: Lake) -> None:
    checked = load(lake, Telemetry({0: 1.0, 1: 1500.0, 2: 1.2}))
    assert (checked.generation_hours, checked.quarantined) == (2, 4)
    aside = lake.read(QUARANTINE).to_pylist()
    assert {row["table"] for row in aside} == {"raw/generation"}
    assert all("power_kw=1500.0" in row["reason"] for row in aside)
    assert all('"measured_at":"2013-06-01T01:' in row["payload"] for row in aside)
    assert len(lake.read(RAW_GENERATION)) == 12  # as delivered
    assert len(aside) + 4 * len(lake.read(GENERATION)) == 12
    assert load(lake, Telemetry({0: 1.0, 1: 1500.0, 2: 1.2})).quarantined == 4
    assert len(lake.read(QUARANTINE)) == 4  # once each


def test_bad_weather_is_set_aside_with_its_hour(lake: Lake) -> None:
    checked = load(lake, Telemetry(ghi=5000.0))
    assert (checked.weather_rows, checked.quarantined, checked.generation_hours) == (0, 48, 48)
    assert {row["table"] for row in lake.read(QUARANTINE).to_pylist()} == {"raw/weather"}
    assert (len(lake.read(RAW_WEATHER)), len(lake.read(WEATHER))) == (48, 0)


def test_a_correction_is_stored_beside_what_was_known_before(lake: Lake) -> None:
    load(lake, Telemetry({10: 1.0, 11: 2.0}))
    corrected = load(lake, Telemetry({10: 1.5}, received_late=timedelta(hours=30)))
    assert corrected.generation_hours == 1
    record = records.load(lake, PARK.id)
    arrival = np.datetime64("2013-06-02T16:45:00")
    before, after = (record.known_at(t).history.power_kw for t in (arrival - np.timedelta64(1, "s"), arrival))
    assert (list(before), list(after)) == ([1.0, 2.0], [1.5, 2.0])


def test_an_hour_that_was_cut_by_the_end_of_the_load_is_completed_by_the_next(lake: Lake) -> None:
    part = load(lake, Telemetry({10: 1.0}), until=BEGIN + timedelta(hours=10, minutes=30))
    assert part.generation_hours == 0
    assert load(lake, Telemetry({10: 1.0})).generation_hours == 1


def test_an_empty_delivery_is_stored_as_nothing(lake: Lake) -> None:
    checked = load(lake, Telemetry({}))
    assert (checked.generation_hours, checked.quarantined) == (0, 0)


def test_the_newest_facts_of_a_park_count(lake: Lake) -> None:
    again = PARK.model_copy(update={"ac_capacity_kw": 4.0, "valid_from": datetime(2013, 1, 1, tzinfo=UTC)})
    fleet.register(lake, again)
    fleet.register(lake, PARK)
    fleet.register(lake, PARKS[1])
    assert [park.id for park in fleet.registered(lake)] == ["pvdaq-50", "serf-east"]
    assert fleet.registered(lake)[0] == again
    assert records.sites(lake, PARK.id)[-1][1] == again.site()
