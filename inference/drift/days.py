"""A park's record cut into days, as it was known at one instant.

A day here is 24 hours from solar midnight of the park's longitude, rounded to the hour: it never has 23 or 25 hours,
holds one whole arc of the sun, and carries the date of the local calendar.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from inference.drift.hindsight import Hindsight
from pvforecast.features import WEATHER_ONLY_SPEC, Features, build
from pvforecast.known import HOUR, Floats, History, ParkRecord, Times
from pvforecast.site import Site

Days = npt.NDArray[np.datetime64]

DAY = np.timedelta64(24 * 3600, "s")
CHECK_DELAY = 5 * HOUR
"""From the end of a day to its check: meters deliver late. Golden's check is at 12:00 UTC."""

_NO_HISTORY = History(np.zeros(0, "datetime64[s]"), np.zeros(0))


@dataclass(frozen=True)
class ParkDays:
    """Consecutive days of one park.

    Attributes
    ----------
    days : shape [n], dates of the local calendar, consecutive.
    features : float32, shape [n, 24, len(WEATHER_ONLY_SPEC)]; NaN where no weather run was known at the day's check.
    power : shape [n, 24], metered mean of the hour as a fraction of `ac_capacity_kw`, NaN where not (yet) known.
    """

    site: Site
    days: Days
    features: Features
    power: Floats

    def feature(self, name: str) -> Floats:
        """One column of `features`, shape [n, 24]."""
        return self.features[:, :, WEATHER_ONLY_SPEC.names.index(name)].astype(np.float64)

    def select(self, wanted: npt.NDArray[np.bool_]) -> ParkDays:
        """The days where `wanted` (shape [n]) is true."""
        return replace(self, days=self.days[wanted], features=self.features[wanted], power=self.power[wanted])


def utc_offset(site: Site) -> np.timedelta64:
    """Whole hours from UTC to the solar time of the park, east positive."""
    return round(site.longitude / 15.0) * HOUR


def starts(site: Site, days: Days) -> Times:
    """UTC instant at which each day begins. Shape as `days`."""
    return np.asarray(days.astype("datetime64[s]") - utc_offset(site), "datetime64[s]")


def check_time(site: Site, day: np.datetime64) -> np.datetime64:
    """UTC instant of the check that looks at `day`."""
    begin: np.datetime64 = starts(site, np.array([day], "datetime64[D]"))[0]
    return begin + DAY + CHECK_DELAY


def last_checkable(site: Site, as_of: np.datetime64) -> np.datetime64:
    """The newest day whose check time has come at `as_of`."""
    local = as_of.astype("datetime64[s]") - CHECK_DELAY + utc_offset(site)
    day: np.datetime64 = local.astype("datetime64[D]") - np.timedelta64(1, "D")
    return day


class DayCutter:
    """Cuts days out of one record, and remembers their features: those do not depend on when one looks."""

    def __init__(self, record: ParkRecord) -> None:
        self.record = record
        self.site = record.site
        self._features: dict[int, Features] = {}
        self._weather = Hindsight(record.runs)

    def cut(self, first: np.datetime64, last: np.datetime64, as_of: np.datetime64) -> ParkDays:
        """The days `first` ... `last` as known at `as_of`.

        Weather of a day is the newest that runs said of each hour and that was available at the day's check (or at
        `as_of`, where that is earlier), never a later one; power is the newest correction available at `as_of`.
        """
        days = np.arange(first, last + np.timedelta64(1, "D"), dtype="datetime64[D]")
        begins = starts(self.site, days)
        hours = begins[:, None] + np.arange(24) * HOUR
        stacked = np.zeros((len(days), 24, len(WEATHER_ONLY_SPEC)), np.float32)
        for row, (day, begin) in enumerate(zip(days.astype(np.int64).tolist(), begins, strict=True)):
            checked_at = begin + DAY + CHECK_DELAY
            if checked_at > as_of:
                stacked[row] = self._build(begin, hours[row], as_of)
                continue
            if day not in self._features:
                self._features[day] = self._build(begin, hours[row], checked_at)
            stacked[row] = self._features[day]
        power = _power_at(self.record, hours.ravel(), as_of).reshape(hours.shape)
        return ParkDays(self.site, days, stacked, power / self.site.ac_capacity_kw)

    def span(self, as_of: np.datetime64) -> tuple[np.datetime64, np.datetime64] | None:
        """First and last checkable day that hold any metering known at `as_of`; None where there are none."""
        record = self.record
        known = record.valid_at[(record.available_at <= as_of) & ~np.isnan(record.power_kw)]
        if len(known) == 0:
            return None
        first, last = (known[[0, -1]] + utc_offset(self.site)).astype("datetime64[D]")
        return first, min(last, last_checkable(self.site, as_of))

    def _build(self, begin: np.datetime64, valid_at: Times, known_at: np.datetime64) -> Features:
        run = self._weather.of(valid_at[0], valid_at[-1], known_at)
        return build(WEATHER_ONLY_SPEC, self.site, run, _NO_HISTORY, begin, valid_at)


def _power_at(record: ParkRecord, hours: Times, as_of: np.datetime64) -> Floats:
    known = record.available_at <= as_of
    valid_at, power = record.valid_at[known], record.power_kw[known]
    if len(valid_at) == 0:
        return np.full(len(hours), np.nan)
    last = np.searchsorted(valid_at, hours, side="right") - 1
    found = (last >= 0) & (valid_at[np.maximum(last, 0)] == hours)
    return np.where(found, power[np.maximum(last, 0)], np.nan)
