from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from inference.drift import model
from inference.drift.days import DayCutter, ParkDays
from inference.drift.statistics import Seasons, centred_on_own_past, daily, day_of_year
from inference.drift.tests.parks import simulated

FIRST, LAST, AS_OF = np.datetime64("2021-06-01"), np.datetime64("2021-06-20"), np.datetime64("2021-07-01T00:00:00", "s")


@pytest.fixture(scope="module")
def park() -> ParkDays:
    return DayCutter(simulated("2021-06-01", 20)).cut(FIRST, LAST, AS_OF)


def test_a_tenth_less_power_is_minus_a_tenth_of_the_clear_ratio(park: ParkDays) -> None:
    expected = np.nan_to_num(park.power)
    found = daily(replace(park, power=park.power * 0.9), expected)
    clear = found["clr"][~np.isnan(found["clr"])]
    assert len(clear) > 10
    np.testing.assert_allclose(clear, -0.1, atol=1e-12)
    np.testing.assert_allclose(found["lrel"], np.log(0.9), atol=1e-9)
    np.testing.assert_allclose(found["tc"], 0.0, atol=1e-12)


def test_a_clock_one_hour_late_is_one_hour(park: ParkDays) -> None:
    expected = np.nan_to_num(park.power)
    late = replace(park, power=np.roll(park.power.ravel(), 1).reshape(park.power.shape))
    assert np.nanmedian(daily(late, expected)["tc"]) == pytest.approx(1.0, abs=0.15)  # the last light falls into night


def test_a_day_with_a_third_of_its_daylight_missing_says_nothing(park: ParkDays) -> None:
    power = park.power.copy()
    power[3, :13] = np.nan
    found = daily(replace(park, power=power), np.nan_to_num(park.power))
    for name, values in found.items():
        assert np.isnan(values[3]) or name == "cse", name
        assert not np.isnan(values[4]) or name == "clr"


def test_no_metering_and_no_weather_at_all_give_nan_without_a_warning(park: ParkDays) -> None:
    nothing = replace(park, power=np.full_like(park.power, np.nan))
    told = daily(nothing, model.physical(park))
    assert [name for name, values in told.items() if not np.isnan(values).all()] == ["cse"]  # of the sky alone
    dark = replace(park, features=np.full_like(park.features, np.nan))
    assert all(np.isnan(values).all() for values in daily(dark, model.physical(dark)).values())


def test_z_compares_with_the_same_season_and_leaves_the_day_itself_out() -> None:
    days = np.arange("2020-01-01", "2022-01-01", dtype="datetime64[D]")
    season = 3.0 * np.cos(day_of_year(days) / 365.0 * 2 * np.pi)
    values = season + np.random.default_rng(0).normal(0.0, 0.5, len(days))
    outlier = 200
    values[outlier] += 50.0
    z = Seasons(days, {"clr": values}).standardise(days, {"clr": values})["clr"]
    assert z[outlier] > 20.0
    rest = np.delete(z, outlier)
    assert abs(np.median(rest)) < 0.1  # summer is not unusual in summer
    assert 0.6 < rest.std() < 1.4


def test_too_few_days_in_season_give_no_z() -> None:
    reference = np.arange("2020-01-01", "2020-01-15", dtype="datetime64[D]")
    winter_and_summer = np.array(["2021-01-10", "2021-07-10"], "datetime64[D]")
    z = Seasons(reference, {"clr": np.zeros(14)}).standardise(winter_and_summer, {"clr": np.zeros(2)})
    assert np.isnan(z["clr"]).all()


def test_a_scale_is_never_smaller_than_its_floor() -> None:
    days = np.arange("2020-01-01", "2021-01-01", dtype="datetime64[D]")
    z = Seasons(days, {"clr": np.zeros(len(days))}).standardise(days[:1], {"clr": np.array([0.02])})
    assert z["clr"][0] == pytest.approx(2.0)


def test_centring_uses_days_of_the_past_only() -> None:
    days = np.arange("2021-01-01", "2021-03-02", dtype="datetime64[D]")
    values = np.full(60, 0.25)
    values[50:] = 0.15
    centred = centred_on_own_past(days, {"clr": values})["clr"]
    assert np.isnan(centred[:14]).all()  # fewer than 8 days before t-7
    np.testing.assert_allclose(centred[14:50], 0.0, atol=1e-12)
    np.testing.assert_allclose(centred[50:57], -0.1, atol=1e-12)
