"""Hard rules on hours: faults of data or plant that need no statistics and must not wait for any.

Days that a rule found are kept out of the daily statistics: a unit error is not a soiled park.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference.drift.days import ParkDays
from pvforecast.known import Floats

ABOVE_CAPACITY = 1.2
OUTAGE_POWER, OUTAGE_EXPECTED, OUTAGE_HOURS = 0.02, 0.15, 12
DEAD_POWER, DEAD_EXPECTED, DEAD_HOURS = 0.0005, 0.15, 6
NIGHT_POWER, NIGHT_HOURS, NIGHT_ELEVATION_DEG = 0.02, 2, -6.0
SCALE_RATIO, SCALE_DAYS, SCALE_EXPECTED_HOURS = 2.2, 2, 1.0
FROZEN_HOURS, FROZEN_ABOVE, NAMEPLATE, PLATEAU_EXPECTED = 3, 0.02, 0.95, 0.75

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Finding:
    """What one rule says of each day.

    Attributes
    ----------
    rule : its name, also the detector's name in events.
    score : shape [n], what is compared with `threshold`.
    fires : shape [n], days on which the rule's condition was first or again met.
    touched : shape [n], days that hold any hour of the fault, also before it lasted long enough to fire.
    """

    rule: str
    threshold: float
    score: Floats
    fires: Mask
    touched: Mask


def find(park: ParkDays, expected: Floats) -> list[Finding]:
    """All rules over consecutive days; `expected` is shape [n, 24], fraction of capacity."""
    return [rule(park, expected) for rule in RULES]


def above_capacity(park: ParkDays, _expected: Floats) -> Finding:
    """Power beyond what the park can deliver: a unit or scale error."""
    score = np.where(np.isnan(park.power), 0.0, park.power).max(axis=1)
    fires = score > ABOVE_CAPACITY
    return Finding("above_capacity", ABOVE_CAPACITY, score, fires, fires)


def outage(park: ParkDays, expected: Floats) -> Finding:
    """Next to no power through 12 hours in a row that should have been bright; nights and gaps don't break the row."""
    return _silent(park, expected, "outage", OUTAGE_POWER, OUTAGE_EXPECTED, OUTAGE_HOURS)


def dead(park: ParkDays, expected: Floats) -> Finding:
    """Nothing at all in 6 successive hours that should have been bright: clouds and snow let something through."""
    return _silent(park, expected, "dead", DEAD_POWER, DEAD_EXPECTED, DEAD_HOURS)


def scale(park: ParkDays, expected: Floats) -> Finding:
    """Energy wrong by a factor, the same way on days in a row: a unit, or half a plant."""
    known = ~np.isnan(park.power) & ~np.isnan(expected)
    energy, forecast = (np.where(known, values, 0.0).sum(axis=1) for values in (park.power, expected))
    enough = forecast > SCALE_EXPECTED_HOURS
    factor = np.where(enough, np.maximum(energy, 1e-4) / np.maximum(forecast, 1e-4), 1.0)
    up, _ = _rows(factor > SCALE_RATIO)
    down, _ = _rows(factor < 1.0 / SCALE_RATIO)
    score = np.maximum(up, down)
    fires = score >= SCALE_DAYS
    touched = fires | np.append(fires[1:], False)
    return Finding("scale", SCALE_DAYS, score, fires, touched)


def night_power(park: ParkDays, _expected: Floats) -> Finding:
    """Power well after dusk or before dawn: a clock or a meter is wrong."""
    dark = park.feature("sun_elevation") < NIGHT_ELEVATION_DEG
    score = (dark & (np.nan_to_num(park.power) > NIGHT_POWER)).sum(axis=1).astype(np.float64)
    fires = score >= NIGHT_HOURS
    return Finding("night_power", NIGHT_HOURS, score, fires, fires)


def frozen(park: ParkDays, expected: Floats) -> Finding:
    """The same value again and again, neither dark nor clipped: a sensor hangs.

    Clipped is what stands at the nameplate, or at the day's maximum while as much or more was expected: an inverter
    at its limit repeats itself too.
    """
    power = park.power.ravel()
    highest = np.repeat(np.where(np.isnan(park.power), -1.0, park.power).max(axis=1), park.power.shape[1])
    clipped = (power >= NAMEPLATE) | ((power == highest) & (expected.ravel() >= PLATEAU_EXPECTED * power))
    same = np.append(False, power[1:] == power[:-1]) & (power > FROZEN_ABOVE) & ~clipped
    length, _ = _rows(same)
    score = np.where(length > 0, length + 1.0, 0.0).reshape(park.power.shape).max(axis=1)
    fires = score >= FROZEN_HOURS
    return Finding("frozen_values", FROZEN_HOURS, score, fires, fires)


RULES: tuple[Callable[[ParkDays, Floats], Finding], ...] = (above_capacity, outage, dead, scale, night_power, frozen)
WHOLE_DAY = frozenset({"scale"})
"""What the rest of a day can undo. All others hold as soon as they fire, however little of the day is over."""


def _silent(park: ParkDays, expected: Floats, rule: str, most: float, bright_from: float, hours: int) -> Finding:
    """Power below `most` in so many hours in a row that expected more than `bright_from`; other hours do not count."""
    power, forecast = park.power.ravel(), expected.ravel()
    bright = np.flatnonzero(~np.isnan(power) & ~np.isnan(forecast) & (forecast > bright_from))
    length, row_begins = _rows(power[bright] < most)
    score, touched = np.zeros(park.power.size), np.zeros(park.power.size, bool)
    score[bright] = length
    for at in np.flatnonzero(length >= hours):
        touched[bright[row_begins[at] : at + 1]] = True
    daily = score.reshape(park.power.shape).max(axis=1)
    touched_days: Mask = np.any(touched.reshape(park.power.shape), axis=1)
    return Finding(rule, hours, daily, daily >= hours, touched_days)


def _rows(true: Mask) -> tuple[Floats, npt.NDArray[np.int64]]:
    """At each place, how many in a row have been true, and where that row began."""
    places = np.arange(len(true))
    last_false = np.maximum.accumulate(np.where(true, -1, places)) if len(true) else places
    return np.where(true, places - last_false, 0).astype(np.float64), last_false + 1
