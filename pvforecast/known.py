"""What was known about a park at an instant: the only input that features and forecasts ever see.

Training cuts a `Known` out of a park's whole record; serving reads one from a snapshot. Both are the same object,
so what a model learns from and what it is asked with cannot drift apart. Times are UTC `datetime64[s]`, intervals
are one hour and labelled by their start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pvforecast.site import Site

Times = npt.NDArray[np.datetime64]
Floats = npt.NDArray[np.float64]

HOUR = np.timedelta64(3600, "s")
HISTORY_DAYS = 15

WEATHER_VARIABLES = ("ghi", "dni", "dhi", "temp_air", "wind_speed", "cloud_cover")
"""Canonical weather columns: W/m², W/m², W/m², °C, m/s, 0-1; means over the interval, NaN where not delivered."""


@dataclass(frozen=True)
class WeatherRun:
    """One weather forecast run for one park.

    Attributes
    ----------
    source : who made it, e.g. ``nsrdb_observed``.
    run_at, available_at : start of the run, and when it could be had.
    valid_at : shape [m], starts of consecutive hours, ascending.
    variables : name -> shape [m], the units of `WEATHER_VARIABLES`; free columns are named ``x_*``.
    """

    source: str
    run_at: np.datetime64
    available_at: np.datetime64
    valid_at: Times
    variables: Mapping[str, Floats]


@dataclass(frozen=True)
class History:
    """Metered power of one park: shape [k] hour starts, ascending, and kW (mean over the hour)."""

    valid_at: Times
    power_kw: Floats


@dataclass(frozen=True)
class Known:
    """All that was known about one park at `as_of`."""

    site: Site
    as_of: np.datetime64
    weather: WeatherRun | None
    history: History


@dataclass(frozen=True)
class ParkRecord:
    """Everything ever recorded about one park, with when each row became available.

    Attributes
    ----------
    runs : weather runs, ascending by `available_at`, then `run_at`.
    valid_at, available_at, power_kw : shape [k], ascending by (valid_at, available_at). An hour that was corrected
        later stands here more than once.
    """

    site: Site
    runs: tuple[WeatherRun, ...]
    valid_at: Times
    available_at: Times
    power_kw: Floats

    def known_at(self, as_of: np.datetime64) -> Known:
        """Cut out what was available at `as_of`: the latest run, and `HISTORY_DAYS` of generation."""
        return Known(self.site, as_of, self._latest_run(as_of), self._history(as_of))

    def truth(self, hours: Times, as_of: np.datetime64 | None = None) -> Floats:
        """Metered kW of each hour, as known at `as_of` (finally known by default); never an input to features.

        Shape [n]; NaN where nothing was metered.
        """
        known = slice(None) if as_of is None else self.available_at <= as_of
        valid_at, power_kw = self.valid_at[known], self.power_kw[known]
        if len(valid_at) == 0:
            return np.full(len(hours), np.nan)
        last = np.searchsorted(valid_at, hours, side="right") - 1
        found = (last >= 0) & (valid_at[np.maximum(last, 0)] == hours)
        return np.where(found, power_kw[np.maximum(last, 0)], np.nan)

    def _latest_run(self, as_of: np.datetime64) -> WeatherRun | None:
        available = [run for run in self.runs if run.available_at <= as_of]
        return max(available, key=lambda run: (run.run_at, run.available_at)) if available else None

    def _history(self, as_of: np.datetime64) -> History:
        first = as_of - np.timedelta64(HISTORY_DAYS * 24, "h").astype("timedelta64[s]")
        begin, end = np.searchsorted(self.valid_at, [first, as_of])
        known = self.available_at[begin:end] <= as_of
        hours, power = self.valid_at[begin:end][known], self.power_kw[begin:end][known]
        newest = np.append(hours[1:] != hours[:-1], True) if len(hours) else np.zeros(0, bool)
        return History(hours[newest], power[newest])
