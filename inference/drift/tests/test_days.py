"""A day is 24 hours of sun, and holds only what was known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.drift.days import DayCutter, check_time, last_checkable, starts
from inference.drift.tests.parks import SITE, simulated
from pvforecast.known import HOUR, ParkRecord, WeatherRun

DAY = np.datetime64("2021-07-03", "D")
LATER = np.datetime64("2022-01-01T00:00:00", "s")


def test_a_day_in_golden_begins_at_seven_utc_and_is_checked_at_noon_utc_of_the_next() -> None:
    assert starts(SITE, np.array([DAY]))[0] == np.datetime64("2021-07-03T07:00:00", "s")
    assert check_time(SITE, DAY) == np.datetime64("2021-07-04T12:00:00", "s")


@pytest.mark.parametrize("longitude", [-180.0, -105.0, 0.0, 13.4, 151.2, 179.9])
def test_the_newest_checkable_day_is_the_one_whose_check_time_has_come(longitude: float) -> None:
    site = replace(SITE, longitude=longitude)
    moment = check_time(site, DAY)
    assert last_checkable(site, moment) == DAY
    assert last_checkable(site, moment - np.timedelta64(1, "s")) == DAY - 1


def test_power_that_came_later_is_not_known() -> None:
    record = simulated("2021-07-01", 4)
    late = record.valid_at == np.datetime64("2021-07-03T19:00:00", "s")
    record = replace(record, available_at=np.where(late, LATER, record.available_at))
    before, after = (DayCutter(record).cut(DAY, DAY, as_of) for as_of in (check_time(SITE, DAY), LATER))
    assert np.flatnonzero(np.isnan(before.power[0])).tolist() == [12]
    assert not np.isnan(after.power).any()


def test_a_correction_counts_from_when_it_was_available() -> None:
    record = simulated("2021-07-01", 4)
    at = int(np.flatnonzero(record.valid_at == np.datetime64("2021-07-03T19:00:00", "s"))[0])
    corrected = replace(
        record,
        valid_at=np.insert(record.valid_at, at + 1, record.valid_at[at]),
        available_at=np.insert(record.available_at, at + 1, LATER),
        power_kw=np.insert(record.power_kw, at + 1, 1.234),
    )
    cutter = DayCutter(corrected)
    assert cutter.cut(DAY, DAY, LATER - 1).power[0, 12] == record.power_kw[at] / SITE.ac_capacity_kw
    assert cutter.cut(DAY, DAY, LATER).power[0, 12] == 1.234 / SITE.ac_capacity_kw


BEGIN = starts(SITE, np.array([DAY]))[0]


def _with_run(began: int, available: np.datetime64, ghi: float) -> ParkRecord:
    """The simulated record and a run that began so many hours into the day and says one thing of 24 hours."""
    at = BEGIN + began * HOUR
    run = WeatherRun(
        "simulated", at, available, at + np.arange(24) * HOUR, {"ghi": np.full(24, ghi), "temp_air": np.zeros(24)}
    )
    record = simulated("2021-07-01", 4)
    return replace(record, runs=tuple(sorted((*record.runs, run), key=lambda run: run.available_at)))


def test_each_hour_has_the_weather_of_the_run_that_began_last_before_it() -> None:
    plain, seen = (
        DayCutter(record).cut(DAY, DAY, LATER).feature("ghi")[0]
        for record in (simulated("2021-07-01", 4), _with_run(12, BEGIN + 17 * HOUR, 123.0))
    )
    assert np.array_equal(seen[:12], plain[:12])
    assert (seen[12:] == 123.0).all()


def test_a_run_that_is_not_there_at_the_check_is_not_looked_at_by_any_later_one() -> None:
    late = _with_run(12, check_time(SITE, DAY) + HOUR, 123.0)
    assert (DayCutter(late).cut(DAY, DAY, LATER).feature("ghi") != 123.0).all()


def test_where_the_newest_run_is_silent_the_one_before_it_speaks() -> None:
    silent = _with_run(12, BEGIN + 17 * HOUR, np.nan)
    known = DayCutter(silent).cut(DAY, DAY, LATER).feature("ghi")
    assert np.array_equal(known, DayCutter(simulated("2021-07-01", 4)).cut(DAY, DAY, LATER).feature("ghi"))


def test_a_day_without_weather_has_no_features_and_does_no_harm() -> None:
    record = simulated("2021-07-01", 4)
    bare = replace(record, runs=())
    assert np.isnan(DayCutter(bare).cut(DAY, DAY, LATER).feature("ghi")).all()


def test_a_park_without_metering_spans_nothing() -> None:
    record = simulated("2021-07-01", 4)
    assert DayCutter(record).span(record.valid_at[0]) is None
    assert DayCutter(record).span(LATER) == (np.datetime64("2021-07-01"), np.datetime64("2021-07-04"))
