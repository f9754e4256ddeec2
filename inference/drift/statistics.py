"""Daily statistics of metered against expected power, and how unusual they are for the season.

All are made so that a healthy park's values hardly depend on the weather of the day.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from inference.drift.days import Days, ParkDays
from pvforecast.known import Floats

Statistics = dict[str, Floats]
"""Name -> shape [n], one value a day, NaN where the day cannot tell."""

SCALE_FLOORS = {"clr": 0.01, "tc": 0.03, "lrel": 0.03, "csi": 0.02, "cse": 0.03, "temp": 0.5}
"""What is standardised by season, and the smallest scale for it: a lucky quiet season must not make noise an alarm."""

MIN_VALID_SHARE = 0.7
MIN_CLEAR_HOURS = 3
ENVELOPE_ELEVATION_DEG = 15.0
CLEAR_EXPECTED, CLEAR_INDEX = 0.25, 0.75
UPPER = {"cse": -0.3}
"""Compared with the brightest days of the season, not with the usual one, and the least that a day may count."""
UPPER_CENTRE, UPPER_FOOT = 0.95, 0.7
SEASON_DAYS, LEFT_OUT_DAYS, MIN_SEASON = 45, 10, 15
TRAILING_FIRST, TRAILING_LAST, MIN_TRAILING = 45, 7, 8


def daily(park: ParkDays, expected: Floats) -> Statistics:
    """Statistics of each day.

    Parameters
    ----------
    expected : shape [n, 24], expected power as a fraction of capacity.

    Returns
    -------
    ``clr`` median of metered / expected - 1 over clear, bright hours; ``tc`` hours by which the power-weighted mean
    hour of the metered day is later than expected; ``lrel`` log of the energy ratio; ``csi`` clear-sky index of the
    day's irradiance; ``cse`` its highest hour with the sun well up (what the provider calls clear); ``temp`` mean
    daylight temperature, °C. All NaN on days with less than 70 % of their daylight hours known.
    """
    bright = park.feature("sun_elevation") > 0.0
    valid = bright & ~np.isnan(park.power) & ~np.isnan(expected) & ~np.isnan(park.feature("ghi"))
    day_is_valid = valid.sum(axis=1) >= MIN_VALID_SHARE * bright.sum(axis=1)
    power, forecast = np.where(valid, park.power, 0.0), np.where(valid, expected, 0.0)
    energy, expected_energy = power.sum(axis=1), forecast.sum(axis=1)
    clear = valid & (expected > CLEAR_EXPECTED) & (park.feature("clear_sky_index") > CLEAR_INDEX)
    ratio = np.where(clear, park.power / np.where(clear, expected, 1.0), np.nan)
    hour = np.arange(24) + 0.5
    with np.errstate(invalid="ignore", divide="ignore"):
        columns = {
            "clr": np.where(clear.sum(axis=1) >= MIN_CLEAR_HOURS, _nanmedian(ratio) - 1.0, np.nan),
            "tc": (power @ hour) / energy - (forecast @ hour) / expected_energy,
            "lrel": np.log(np.maximum(energy, 0.01) / expected_energy),
            "csi": _total(park, "ghi", valid) / _total(park, "ghi_clear", valid),
            "cse": _envelope(park),
            "temp": _total(park, "temp_air", valid) / valid.sum(axis=1),
        }
    enough = day_is_valid & (expected_energy > 0.1)
    known = {name: enough & np.isfinite(values) for name, values in columns.items()}
    known["tc"] &= energy > 0.1
    known["cse"] = np.isfinite(columns["cse"])  # says nothing of the meter, and needs none
    return {name: np.where(known[name], values, np.nan) for name, values in columns.items()}


def centred_on_own_past(days: Days, statistics: Statistics) -> Statistics:
    """Each statistic less its median over the park's own days t-45 ... t-7; NaN with fewer than 8 of them.

    For a park too young for a reference of its own: its physical model is off by a constant nobody knows yet.
    """
    index = days.astype(np.int64)
    centred = {}
    for name, values in statistics.items():
        medians = np.full(len(values), np.nan)
        for row, day in enumerate(index):
            past = values[(index >= day - TRAILING_FIRST) & (index <= day - TRAILING_LAST)]
            past = past[~np.isnan(past)]
            if len(past) >= MIN_TRAILING:
                medians[row] = np.median(past)
        centred[name] = values - medians
    return centred


class Seasons:
    """What is usual in each season, out of reference days; looked up once a day and remembered.

    The season is ±45 days of the year; ±10 days around the day itself are left out, so that a day of the reference
    is not compared with itself.
    """

    def __init__(self, days: Days, statistics: Statistics) -> None:
        self._days = days
        self._of_year = day_of_year(days)
        self._statistics = statistics
        self._known: dict[tuple[str, int], tuple[float, float]] = {}

    def standardise(self, days: Days, statistics: Statistics) -> Statistics:
        """Robust z of each day; NaN where fewer than 15 reference days are in season. Shape as `days`."""
        result = {}
        for name, values in statistics.items():
            if name not in SCALE_FLOORS:
                result[name] = values  # a level is a z by itself
                continue
            z = np.full(len(days), np.nan)
            for row in np.flatnonzero(~np.isnan(values)):
                centre, scale = self._usual(name, days[row])
                z[row] = (values[row] - centre) / scale
            result[name] = np.maximum(z, UPPER[name]) if name in UPPER else z
        return result

    def _usual(self, name: str, day: np.datetime64) -> tuple[float, float]:
        """Median and robust scale (1.4826 times the median deviation) of the season around `day`.

        Of an upper statistic the quantile that its healthy days stay below, and its distance from the 0.7 quantile.
        """
        key = (name, int(day.astype(np.int64)))
        if key not in self._known:
            apart = np.abs(self._of_year - day_of_year(np.array([day]))[0])
            in_season = np.minimum(apart, 365 - apart) <= SEASON_DAYS
            in_season &= np.abs((self._days - day).astype(np.int64)) > LEFT_OUT_DAYS
            season = self._statistics[name][in_season]
            season = season[~np.isnan(season)]
            centre, scale = np.nan, np.nan
            if len(season) >= MIN_SEASON and name in UPPER:
                foot, centre = np.quantile(season, [UPPER_FOOT, UPPER_CENTRE])
                scale = centre - foot
            elif len(season) >= MIN_SEASON:
                centre = np.median(season)
                scale = 1.4826 * np.median(np.abs(season - centre))
            self._known[key] = float(centre), max(float(scale), SCALE_FLOORS[name])
        return self._known[key]


def day_of_year(days: Days) -> npt.NDArray[np.int64]:
    """0 ... 364 (the last day of a leap year counts as 364). Shape as `days`."""
    number = (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)
    return np.asarray(np.minimum(number, 364))


def _total(park: ParkDays, feature: str, valid: npt.NDArray[np.bool_]) -> Floats:
    return np.asarray(np.where(valid, park.feature(feature), 0.0).sum(axis=1))


def _envelope(park: ParkDays) -> Floats:
    high = park.feature("sun_elevation") > ENVELOPE_ELEVATION_DEG
    highest = np.where(high, np.nan_to_num(park.feature("clear_sky_index"), nan=-1.0), -1.0).max(axis=1)
    return np.asarray(np.where(highest > 0.0, highest, np.nan))


def _nanmedian(rows: Floats) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows without a clear hour are NaN, as they should be
        return np.asarray(np.nanmedian(rows, axis=1))
