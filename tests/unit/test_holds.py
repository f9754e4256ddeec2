"""What the drift job holds is not learned from, and no lag looks at it, from when it was held until it is released."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pvforecast import holds
from pvforecast.errors import InvalidInput
from pvforecast.holds import CONFIRMED, ENDED, HELD, RELEASED, Entry
from pvforecast.known import Times
from pvforecast.lake import Lake, records
from pvforecast.lake.tables import GENERATION, PARKS

FACTS = (
    '{"id": "p", "latitude": 39.7, "longitude": -105.2, "elevation_m": 1800.0, "surface_tilt": 30.0, '
    '"surface_azimuth": 180.0, "ac_capacity_kw": 4.0, "timezone": "UTC"}'
)
HOURS: Times = np.datetime64("2022-06-01T00:00:00", "s") + np.arange(240) * np.timedelta64(3600, "s")
BEGIN, AT, END, LATER = (datetime(2022, 6, day, tzinfo=UTC) for day in (3, 5, 7, 9))


def _seconds(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.replace(tzinfo=None), "s")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(str(tmp_path))
    began = pd.Timestamp("2022-01-01", tz="UTC")
    made.append_new(PARKS, pd.DataFrame([{"park_id": "p", "valid_from": began, "recorded_at": began, "facts": FACTS}]))
    at = pd.DatetimeIndex(HOURS).tz_localize("UTC")
    rows = {"park_id": "p", "valid_at": at, "available_at": at + pd.Timedelta(hours=2), "power_kw": 1.0}
    made.append_new(GENERATION, pd.DataFrame({**rows, "completeness": 1.0, "period_s": np.int32(3600)}))
    holds.add(made, Entry("e1", "p", HELD, AT, begin=BEGIN, cause="unit_error"))
    return made


def _learned_from(lake: Lake, as_of: datetime | None = None) -> list[int]:
    """Days of June with hours to learn from, as known at `as_of`."""
    moment = None if as_of is None else _seconds(as_of)
    truth = records.load(lake, "p").truth(HOURS, moment, healthy=True)
    return sorted({int(str(hour)[8:10]) for hour in HOURS[~np.isnan(truth)]})


def test_what_is_held_is_not_learned_from_until_its_end_is_known(lake: Lake) -> None:
    assert _learned_from(lake) == [1, 2]
    holds.add(lake, Entry("e1", "p", ENDED, LATER, end=END))
    assert _learned_from(lake) == [1, 2, 7, 8, 9, 10]


def test_before_it_was_held_nobody_knew(lake: Lake) -> None:
    assert _learned_from(lake, AT - pd.Timedelta(hours=1)) == [1, 2, 3, 4]


def test_scores_still_see_it(lake: Lake) -> None:
    assert not np.isnan(records.load(lake, "p").truth(HOURS)).any()


def test_no_lag_looks_at_it(lake: Lake) -> None:
    history = records.load(lake, "p").known_at(_seconds(LATER)).history
    assert history.valid_at.max() < _seconds(BEGIN)
    assert np.array_equal(records.known(lake, ["p"], _seconds(LATER))["p"].history.valid_at, history.valid_at)


def test_released_hours_come_back_and_confirmed_ones_stay_out(lake: Lake) -> None:
    holds.add(lake, Entry("e2", "p", HELD, AT, begin=datetime(2022, 6, 2, tzinfo=UTC), cause="outage"))
    holds.add(lake, Entry("e2", "p", ENDED, AT, end=BEGIN))
    holds.settle(lake, "e2", CONFIRMED, LATER)
    holds.settle(lake, "e1", RELEASED, LATER)
    assert _learned_from(lake) == [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert {hold.event_id: hold.state for hold in holds.read(lake)} == {"e1": RELEASED, "e2": CONFIRMED}


def test_what_was_settled_stays_so(lake: Lake) -> None:
    holds.settle(lake, "e1", RELEASED, LATER)
    holds.settle(lake, "e1", RELEASED, LATER)
    with pytest.raises(InvalidInput, match="released already"):
        holds.settle(lake, "e1", CONFIRMED, LATER)
    with pytest.raises(InvalidInput, match="nothing is held"):
        holds.settle(lake, "other", CONFIRMED, LATER)


def test_a_fleet_s_event_holds_hours_of_each_park_and_is_settled_for_all_or_one(lake: Lake) -> None:
    for park in ("q", "r"):
        holds.add(lake, Entry("fleet", park, HELD, AT, begin=BEGIN, cause="outage"))
    holds.settle(lake, "fleet", RELEASED, LATER, "q")
    states = {hold.park_id: hold.state for hold in holds.read(lake) if hold.event_id == "fleet"}
    assert states == {"q": RELEASED, "r": HELD}
    with pytest.raises(InvalidInput, match="name a park: q was"):
        holds.settle(lake, "fleet", CONFIRMED, LATER)
    assert [hold.park_id for hold in holds.settle(lake, "fleet", CONFIRMED, LATER, "r")] == ["r"]
