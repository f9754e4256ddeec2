"""What was known about a park at an instant: the only input that features and forecasts ever see.

Training cuts a `Known` out of a park's whole record; serving reads one from a snapshot. Both are the same object,
so what a model learns from and what it is asked with cannot drift apart. Times are UTC `datetime64[s]`, intervals
are one hour and labelled by their start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from pvforecast.flags import CENSORED, SNOW, censored
from pvforecast.site import Site

Times = npt.NDArray[np.datetime64]
Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.str_]

HOUR = np.timedelta64(3600, "s")
HISTORY_DAYS = 15
PAST = 24 * HOUR
"""How long ago `Past` reaches back, and how old its run is at least; at most it is three times as old."""

WEATHER_VARIABLES = (
    "ghi", "dni", "dhi", "temp_air", "wind_speed", "cloud_cover", "relative_humidity", "precipitation",
)  # fmt: skip
"""Canonical weather columns: W/m², W/m², W/m², °C, m/s, 0-1, 0-1, mm; means over the interval (precipitation: its
sum), NaN where not delivered."""
PHYSICAL_VARIABLES = ("ghi", "dni", "dhi", "temp_air", "wind_speed")
"""Those that the physical model of a park's power takes."""


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
class Past:
    """The last day as it was forecast and as it was metered.

    Attributes
    ----------
    weather : of the newest run that began a day ago or earlier, the hours since then.
    metered : `History` of the same time, with the hours under snow that `Known.history` leaves out.
    """

    weather: WeatherRun
    metered: History


@dataclass(frozen=True)
class Known:
    """All that was known about one park at `as_of`; `past` is None where no run began early enough."""

    site: Site
    as_of: np.datetime64
    weather: WeatherRun | None
    history: History
    past: Past | None = None


@dataclass(frozen=True)
class ParkRecord:
    """Everything ever recorded about one park, with when each row became available.

    Attributes
    ----------
    runs : weather runs, ascending by `available_at`, then `run_at`.
    valid_at, available_at, power_kw : shape [k], ascending by (valid_at, available_at). An hour that was corrected
        or flagged later stands here more than once; NaN where it was taken back.
    site : the facts that hold now.
    sites : all facts with when each began to hold, ascending; empty where they never changed.
    flags : shape [k], words by blanks (`pvforecast.flags`) that say what was wrong with the park in the hour; None:
        nothing ever was.
    """

    site: Site
    runs: tuple[WeatherRun, ...]
    valid_at: Times
    available_at: Times
    power_kw: Floats
    sites: tuple[tuple[np.datetime64, Site], ...] = ()
    flags: Words | None = None

    def site_at(self, instant: np.datetime64) -> Site:
        """The facts that held at `instant`; before the first of them, the first."""
        if not self.sites:
            return self.site
        held = [site for valid_from, site in self.sites if valid_from <= instant]
        return held[-1] if held else self.sites[0][1]

    def known_at(self, as_of: np.datetime64) -> Known:
        """Cut out what was available at `as_of`: the latest run, `HISTORY_DAYS` of generation, and the last day."""
        history = self._history(as_of, HISTORY_DAYS * 24 * HOUR)
        return Known(self.site_at(as_of), as_of, self._latest_run(as_of), history, self._past(as_of))

    def truth(
        self, hours: Times, as_of: np.datetime64 | None = None, *, healthy: bool = False, under_snow: bool = False
    ) -> Floats:
        """Metered kW of each hour, as known at `as_of` (finally known by default); never an input to features.

        Parameters
        ----------
        healthy : leave out hours that were flagged as no evidence of what the park can do (curtailed, outage, ...).
        under_snow : but keep those that only lay under snow.

        Returns
        -------
        Shape [n]; NaN where nothing was metered.
        """
        at = self._newest(hours, as_of)
        found = at >= 0
        power = np.append(self.power_kw, np.nan)[at]
        if healthy and self.flags is not None:
            found &= ~np.append(censored(self.flags, _words(under_snow)), True)[at]
        return np.where(found, power, np.nan)

    def flags_of(self, hours: Times, as_of: np.datetime64 | None = None) -> Words:
        """The flags of each hour, as known at `as_of` (finally known by default). Shape [n]; empty where healthy."""
        if self.flags is None:
            return np.full(len(hours), "", dtype=np.str_)
        at = self._newest(hours, as_of)
        return np.where(at >= 0, np.append(self.flags, "")[at], "")

    def _newest(self, hours: Times, as_of: np.datetime64 | None) -> npt.NDArray[np.int64]:
        """The row of each hour that was newest at `as_of`, -1 where there was none."""
        known = np.arange(len(self.valid_at)) if as_of is None else np.flatnonzero(self.available_at <= as_of)
        if len(known) == 0:
            return np.full(len(hours), -1, np.int64)
        valid_at = self.valid_at[known]
        last = np.maximum(np.searchsorted(valid_at, hours, side="right") - 1, 0)
        return np.where(valid_at[last] == hours, known[last], -1)

    def _latest_run(self, as_of: np.datetime64) -> WeatherRun | None:
        number = int(np.searchsorted(self._available, as_of, side="right"))
        return self._newest_run[number - 1] if number else None

    @cached_property
    def _available(self) -> Times:
        return np.array([run.available_at for run in self.runs], "datetime64[s]")

    @cached_property
    def _newest_run(self) -> list[WeatherRun]:
        """Of the runs up to each, the one that began last."""
        return list(accumulate(self.runs, _later))

    @cached_property
    def _began(self) -> Times:
        return np.array([run.run_at for run in self.runs], "datetime64[s]")

    def _past(self, as_of: np.datetime64) -> Past | None:
        early = (self._began >= as_of - 3 * PAST) & (self._began <= as_of - PAST) & (self._available <= as_of)
        if not early.any():
            return None
        run = max((self.runs[at] for at in np.flatnonzero(early)), key=_newness)
        begin, end = np.searchsorted(run.valid_at, [as_of - PAST - HOUR, as_of + HOUR])
        hours = slice(int(begin), int(end))  # and the hours around, between which quarters of one are interpolated
        if len(run.valid_at[hours]) == 0:
            return None
        variables = {name: run.variables[name][hours] for name in PHYSICAL_VARIABLES if name in run.variables}
        weather = WeatherRun(run.source, run.run_at, run.available_at, run.valid_at[hours], variables)
        return Past(weather, self._history(as_of, PAST, under_snow=True))

    def _history(self, as_of: np.datetime64, reach: np.timedelta64, *, under_snow: bool = False) -> History:
        """Without hours that are no evidence of what the park can do: a lag of an outage says nothing of tomorrow."""
        begin, end = np.searchsorted(self.valid_at, [as_of - reach, as_of])
        rows = begin + np.flatnonzero(self.available_at[begin:end] <= as_of)
        hours = self.valid_at[rows]
        rows = rows[np.append(hours[1:] != hours[:-1], True)] if len(rows) else rows
        usable = ~np.isnan(self.power_kw[rows])
        if self.flags is not None:
            usable &= ~censored(self.flags[rows], _words(under_snow))
        rows = rows[usable]
        return History(self.valid_at[rows], self.power_kw[rows])


def _later(one: WeatherRun, other: WeatherRun) -> WeatherRun:
    """The run that began later; of two that began at once the one that could be had later."""
    return other if _newness(other) > _newness(one) else one


def _newness(run: WeatherRun) -> tuple[np.datetime64, np.datetime64]:
    return run.run_at, run.available_at


def _words(under_snow: bool) -> frozenset[str]:
    return CENSORED - {SNOW} if under_snow else CENSORED
