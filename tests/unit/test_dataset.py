"""Rows to learn from: issue times of local days, targets as finally known, a table that gives them back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from pvforecast import dataset, features
from pvforecast.features import DEFAULT_SPEC
from pvforecast.known import HOUR, ParkRecord, WeatherRun
from tests.bundles import DAYS, NOW, START, record, site

PARK = record(site())
ISSUES = [START + day * 24 * HOUR for day in (5, 6, 20)]
SINCE, UNTIL = np.datetime64("2012-01-01", "s"), np.datetime64("2013-01-01", "s")


def at(zone: str, since: np.datetime64 = SINCE, until: np.datetime64 = UNTIL) -> list[np.datetime64]:
    """Issue times of a park in `zone` that had weather from the beginning."""
    early = WeatherRun("nwp", SINCE, SINCE, np.array([SINCE]), {})
    nothing = np.zeros(0, "datetime64[s]")
    place = ParkRecord(replace(site(), timezone=zone), (early,), nothing, nothing, np.zeros(0))
    return dataset.daily_issues(place, since, until)


@pytest.mark.parametrize(
    ("zone", "first_hour"),
    [
        ("America/Denver", {0}),
        ("Europe/Amsterdam", {0}),
        ("Australia/Sydney", {0}),
        ("Asia/Kathmandu", {0}),
        ("UTC", {0}),
        ("America/Santiago", {0, 1}),  # one day a year begins at 01:00: midnight is skipped
        ("America/Havana", {0, 1}),
    ],
)
def test_there_is_one_issue_a_local_day_when_it_begins(zone: str, first_hour: set[int]) -> None:
    local = [datetime.fromisoformat(f"{t}+00:00").astimezone(ZoneInfo(zone)) for t in at(zone)]
    days = [moment.date() for moment in local]
    assert len(days) == len(set(days))
    assert len(days) in (365, 366)  # 2012 is a leap year; the first or last local day may be cut by the UTC bounds
    assert {moment.hour for moment in local} == first_hour
    assert {moment.minute for moment in local} == {0}
    gaps = {int(gap) // 3600 for gap in np.diff(at(zone)).astype(int)}
    assert gaps <= {23, 24, 25}


def test_issues_lie_in_the_period_and_not_before_the_first_weather() -> None:
    first = min(run.available_at for run in PARK.runs)
    issues = dataset.daily_issues(PARK, np.datetime64("1990-01-01", "s"), NOW)
    assert issues[0] == first == START
    assert issues[-1] == NOW - 24 * HOUR  # `until` itself is not in
    assert dataset.daily_issues(PARK, START + HOUR, START + 49 * HOUR) == [START + 24 * HOUR, START + 48 * HOUR]
    assert dataset.daily_issues(replace(PARK, runs=()), START, NOW) == []


def test_a_block_of_rows_is_what_serving_would_compute() -> None:
    rows = dataset.build(PARK, DEFAULT_SPEC, ISSUES, 48)
    assert len(rows) == 3 * 48
    for number, issued_at in enumerate(ISSUES):
        hours = features.horizon(issued_at, 48)
        served = features.build_known(DEFAULT_SPEC, PARK.known_at(issued_at), issued_at, hours)
        block = rows.where(rows.issued_at == issued_at)
        np.testing.assert_array_equal(block.features.view(np.uint32), served.view(np.uint32))
        np.testing.assert_array_equal(block.valid_at, hours)
        np.testing.assert_array_equal(rows.valid_at[number * 48 : (number + 1) * 48], hours)


def test_targets_are_metered_power_by_capacity_and_nan_where_none_is() -> None:
    gap = PARK.valid_at != ISSUES[0] + 14 * HOUR
    holed = replace(PARK, valid_at=PARK.valid_at[gap], available_at=PARK.available_at[gap], power_kw=PARK.power_kw[gap])
    rows = dataset.build(holed, DEFAULT_SPEC, ISSUES[:1], 48)
    assert list(np.flatnonzero(np.isnan(rows.target))) == [14]
    np.testing.assert_allclose(rows.target[15], PARK.truth(rows.valid_at[15:16])[0] / 3.05)
    np.testing.assert_array_equal(rows.lead_hours, np.arange(48))
    np.testing.assert_array_equal(rows.daylight, features.daylight(PARK.site, rows.valid_at))


def test_what_may_be_learned_from_is_metered_in_daylight_and_over() -> None:
    rows = dataset.build(PARK, DEFAULT_SPEC, ISSUES, 48)
    as_of = ISSUES[1] + 15 * HOUR
    known = dataset.known_by(rows, as_of)
    assert set(known.issued_at) == set(ISSUES[:2])
    assert known.valid_at.max() == as_of - HOUR
    assert known.daylight.all()
    assert len(dataset.known_by(rows, ISSUES[0])) == 0


def test_a_park_without_issue_times_has_no_rows() -> None:
    assert len(dataset.build(PARK, DEFAULT_SPEC, [], 48)) == len(dataset.empty(DEFAULT_SPEC)) == 0


def test_parks_are_stacked_in_the_order_given() -> None:
    other = record(site("sim-b"), days=DAYS, seed=2)
    parts = [dataset.build(park, DEFAULT_SPEC, ISSUES[:1], 24) for park in (PARK, other)]
    both = dataset.concat(parts)
    assert list(both.park_id) == ["sim-a"] * 24 + ["sim-b"] * 24
    np.testing.assert_array_equal(both.features, np.concatenate([part.features for part in parts]))


def test_the_table_gives_the_rows_back() -> None:
    rows = dataset.build(PARK, DEFAULT_SPEC, ISSUES, 48)
    frame = dataset.to_frame(rows)
    assert str(frame.valid_at.dt.tz) == "UTC"
    assert frame.valid_at.iloc[3] == pd.Timestamp(str(rows.valid_at[3]), tz="UTC")
    again = dataset.from_frame(frame, DEFAULT_SPEC)
    np.testing.assert_array_equal(again.features.view(np.uint32), rows.features.view(np.uint32))
    for name in ("park_id", "issued_at", "valid_at", "target", "daylight"):
        np.testing.assert_array_equal(getattr(again, name), getattr(rows, name))
