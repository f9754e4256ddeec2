"""Whoever brings rows in, a finding about the park's clock moves them, unless that is switched off for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inference.ingest import refresh
from pvforecast import features, fleet, quarantine, refining, replaying
from pvforecast.clock import ClockReport
from pvforecast.importing import load
from pvforecast.importing.mapping import Mapping
from pvforecast.known import HOUR, Floats
from pvforecast.lake import Lake
from pvforecast.lake.tables import CLOCKS, GENERATION, RAW_GENERATION
from pvforecast.quarantine import Rejected
from pvforecast.sources.pvdaq_samples import PARKS

BEGIN, END = datetime(2013, 6, 1, 16, tzinfo=UTC), datetime(2013, 6, 1, 20, tzinfo=UTC)
LATER = END + timedelta(hours=3)
BEFORE = BEGIN - timedelta(hours=1)
PARK = PARKS[0].model_copy(update={"correct_clock": True})
AN_HOUR_LATE = ClockReport(PARK.id, follows_dst=False, dst_jumps=(), offset_minutes=60, residual_minutes=0.0, days=30)

Way = Callable[[Lake, bool], object]


def rows() -> pd.DataFrame:
    at = pd.date_range(BEGIN, END, freq="15min", inclusive="left")
    power = 1.0 + 0.1 * ((at - at[0]) // pd.Timedelta(hours=1))  # another one each hour
    delivered = pd.DataFrame({"measured_at": at, "received_at": at + pd.Timedelta(minutes=20), "power_kw": power})
    return delivered.assign(park_id=PARK.id, inverter_id="1", period_s=np.int32(900), label="", source="scada")


def by_pipeline(lake: Lake, correct: bool) -> object:
    return refining.validate(lake, [PARK], BEFORE, LATER, thorough=False, correct_clocks=correct)


def by_telemetry(lake: Lake, correct: bool) -> object:
    first = int(BEGIN.timestamp()) // 3600
    return refresh._roll_up(lake, {PARK.id: PARK}, {PARK.id: set(range(first - 1, first + 4))}, correct)


def by_replay(lake: Lake, correct: bool) -> object:
    lines = rows().to_json(orient="records", lines=True, date_format="iso").splitlines()
    held = [Rejected(RAW_GENERATION.name, PARK.id, "scada", f"a.csv row {n}", "why", x) for n, x in enumerate(lines)]
    quarantine.hold(lake, held, END)
    return replaying.replay(lake, quarantine.held(lake), LATER, correct_clocks=correct)


@pytest.mark.parametrize("way", [by_pipeline, by_telemetry, by_replay])
@pytest.mark.parametrize("correct", [True, False])
def test_rows_are_moved_by_every_way_in_or_by_none(tmp_path: Path, way: Way, correct: bool) -> None:
    lake = Lake(str(tmp_path))
    fleet.register(lake, PARK)
    finding = json.dumps(AN_HOUR_LATE.as_dict())
    lake.append_new(
        CLOCKS, pd.DataFrame([{"park_id": PARK.id, "report": finding, "as_of": pd.Timestamp(END - timedelta(days=1))}])
    )
    lake.append_new(RAW_GENERATION, rows())
    way(lake, correct)
    stored = lake.read(GENERATION).to_pandas(use_threads=False)
    first = pd.Timestamp(BEFORE if correct else BEGIN)
    assert dict(zip(stored.valid_at, stored.power_kw.round(6), strict=True)) == {
        first + pd.Timedelta(hours=n): round(1.0 + 0.1 * n, 6) for n in range(4)
    }


@pytest.mark.parametrize(
    ("minutes", "correct", "said"),
    [
        (60, True, "+60 min against the sun: corrected"),
        (30, True, "+30 min against the sun: corrected"),
        (-30, False, "-30 min against the sun: not corrected, as was asked for"),
        (0, True, ""),
    ],
)
def test_an_import_names_a_shifted_file(tmp_path: Path, minutes: int, correct: bool, said: str) -> None:
    lake, path = Lake(str(tmp_path / "lake")), tmp_path / "file.csv"
    fleet.register(lake, PARK)
    quarters, power = clear_days("2013-06-01", 25)
    label = (quarters + pd.Timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    pd.DataFrame({"park_id": PARK.id, "measured_at": label, "power_kw": power}).to_csv(path, index=False)
    report, _ = load.run(lake, "generation", path, Mapping(), load.Options(correct_clocks=correct))
    told = [line for line in report.lines() if line.startswith("  clock ")]
    assert [said in line for line in told] == ([True] if said else [])
    assert report.as_dict()["clocks"].keys() == ({PARK.id} if said else set())


def clear_days(begin: str, days: int) -> tuple[pd.DatetimeIndex, Floats]:
    """Quarter hours, and clear-sky power in them, kW."""
    quarters = pd.date_range(begin, periods=96 * days, freq="15min", tz="UTC")
    hours = np.arange(np.datetime64(begin, "s"), np.datetime64(begin, "s") + np.timedelta64(days, "D"), HOUR)
    hourly = features.clear_sky_power(PARK.site(), hours) * PARK.ac_capacity_kw
    middle = hours.astype("int64") + 1800
    return quarters, np.interp(quarters.as_unit("s").asi8 + 450, middle, hourly).round(4)
