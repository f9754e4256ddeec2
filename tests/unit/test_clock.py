"""Faults of a logger's clock, planted in simulated power, are found against the sun and corrected."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from pvforecast import features
from pvforecast.clock import ClockReport, correct, find_faults
from pvforecast.site import Site
from tests.bundles import site as golden

GOLDEN = golden("golden")
SYDNEY = Site("sydney", -33.87, 151.21, 40.0, 25.0, 0.0, 100.0, "Australia/Sydney")
LEEUWARDEN = Site("leeuwarden", 53.2, 5.8, 1.0, 35.0, 180.0, 50.0, "Europe/Amsterdam")
STANDARD = {"golden": "-07:00", "sydney": "+10:00", "leeuwarden": "+01:00"}
SPRING = ("2012-02-10", "2012-04-15")  # Denver 11 March, Amsterdam 25 March, Sydney 1 April
AUTUMN = ("2012-09-20", "2012-11-25")  # Denver 4 November, Amsterdam 28 October, Sydney 7 October
SUMMER = ("2012-06-01", "2012-07-15")
everywhere = pytest.mark.parametrize("site", [GOLDEN, SYDNEY, LEEUWARDEN], ids=lambda site: site.park_id)


@cache
def power(site: Site, begin: str, end: str) -> pd.Series:
    """15-minute kW in true UTC: clear sky, less by another share each day and by clouds each hour."""
    random = np.random.default_rng(5)
    hours = np.arange(np.datetime64(begin, "s"), np.datetime64(end, "s"), np.timedelta64(3600, "s"))
    hourly = pd.Series(features.clear_sky_power(site, hours), index=pd.DatetimeIndex(hours) + pd.Timedelta(minutes=30))
    quarters = pd.date_range(begin, end, freq="15min", inclusive="left")
    middle = quarters + pd.Timedelta(seconds=450)
    values = np.interp(middle.astype("int64"), hourly.index.astype("int64"), hourly.to_numpy())
    days = np.repeat(random.choice([1.0, 1.0, 0.7, 0.3], len(quarters) // 96 + 1), 96)[: len(quarters)]
    clouds = np.repeat(random.uniform(0.9, 1.0, len(quarters) // 4 + 1), 4)[: len(quarters)]
    return pd.Series(values * days * clouds * site.ac_capacity_kw, index=quarters.tz_localize("UTC"))


def labelled(series: pd.Series, site: Site, minutes: int = 0, follows_dst: bool = False) -> pd.Series:
    """The series as a faulty logger labels it: with the standard offset, `minutes` late, or with civil time."""
    truth = series.index
    if follows_dst:
        wall = truth.tz_convert(ZoneInfo(site.timezone)).tz_localize(None)
    else:
        wall = truth.tz_convert(STANDARD[site.park_id]).tz_localize(None)
    index = (wall + pd.Timedelta(minutes=minutes)).tz_localize(STANDARD[site.park_id])
    return pd.Series(series.to_numpy(), index=index)


@everywhere
@pytest.mark.parametrize("season", [SPRING, AUTUMN])
def test_a_clean_clock_is_left_alone(site: Site, season: tuple[str, str]) -> None:
    clean = labelled(power(site, *season), site)
    report = find_faults(clean, site)
    assert not report.corrected
    assert (report.follows_dst, report.offset_minutes, report.dst_jumps) == (False, 0, ())
    assert abs(report.residual_minutes) < 10
    pd.testing.assert_index_equal(correct(clean.index, site, report), power(site, *season).index)
    assert "in step" in report.sentence()


@everywhere
@pytest.mark.parametrize("minutes", [60, -45])
def test_a_clock_that_is_off_by_a_fixed_time_is_found_and_set_right(site: Site, minutes: int) -> None:
    series = power(site, *SUMMER)
    faulty = labelled(series, site, minutes)
    report = find_faults(faulty, site)
    assert (report.offset_minutes, report.follows_dst) == (minutes, False)
    assert abs(report.residual_minutes) < 10
    pd.testing.assert_index_equal(correct(faulty.index, site, report), series.index)
    assert f"{minutes:+d} min" in report.sentence()


@everywhere
@pytest.mark.parametrize(
    ("season", "jumps"),
    [
        (SPRING, {"golden": "2012-03-11", "leeuwarden": "2012-03-25", "sydney": "2012-04-01"}),
        (AUTUMN, {"golden": "2012-11-04", "leeuwarden": "2012-10-28", "sydney": "2012-10-07"}),
    ],
)
def test_a_clock_that_follows_daylight_saving_against_its_label_is_found_and_set_right(
    site: Site, season: tuple[str, str], jumps: dict[str, str]
) -> None:
    series = power(site, *season)
    faulty = labelled(series, site, follows_dst=True)
    report = find_faults(faulty, site)
    assert report.follows_dst
    assert report.dst_jumps == (jumps[site.park_id],)
    assert report.offset_minutes == 0
    right = correct(faulty.index, site, report)
    wrong = right != series.index
    assert wrong.sum() in (0, 4)  # the hour that occurs twice in autumn can't be told apart
    assert jumps[site.park_id] in report.sentence()


def test_both_faults_at_once_are_found() -> None:
    series = power(GOLDEN, *SPRING)
    report = find_faults(labelled(series, GOLDEN, 45, follows_dst=True), GOLDEN)
    assert (report.follows_dst, report.offset_minutes) == (True, 45)


def test_minutes_within_a_days_noise_are_not_a_fault() -> None:
    assert not find_faults(labelled(power(GOLDEN, *SUMMER), GOLDEN, 10), GOLDEN).corrected


def test_a_label_in_the_hour_that_is_skipped_is_no_time() -> None:
    report = ClockReport("golden", True, ("2012-03-11",), 0, 0.0)
    labels = pd.date_range("2012-03-11 01:30", periods=6, freq="30min", tz="-07:00")
    right = correct(labels, GOLDEN, report)
    assert list(right.isna()) == [False, True, True, False, False, False]
    assert right[3] == pd.Timestamp("2012-03-11 09:00", tz="UTC")


def test_too_little_light_is_no_evidence() -> None:
    series = power(GOLDEN, *SUMMER)
    for little in (series.iloc[:0], series.iloc[: 96 * 3], series * 0.0):
        faulty = labelled(little, GOLDEN, 60)
        report = find_faults(faulty, GOLDEN)
        assert not report.corrected
        pd.testing.assert_index_equal(correct(faulty.index, GOLDEN, report), faulty.index.tz_convert("UTC"))


def test_a_report_survives_json() -> None:
    report = find_faults(labelled(power(GOLDEN, *SPRING), GOLDEN, follows_dst=True), GOLDEN)
    assert ClockReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report
    assert replace(report, follows_dst=False).corrected is False
