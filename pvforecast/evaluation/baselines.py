"""What anyone can have for nothing; always shown beside the model. All in fractions of `ac_capacity_kw`."""

from __future__ import annotations

import numpy as np

from pvforecast.features import clear_sky_power, physical_power
from pvforecast.known import HOUR, Floats, Known, Times

_DAY = 24 * HOUR
_LOOK_BACK_DAYS = 8
_MIN_CLEAR = 0.02  # below this the clear-sky index is noise and plain persistence is used


def persistence(known: Known, valid_at: Times) -> Floats:
    """Power of the newest known day at the same hour; 0 where nothing is known. Shape [n]."""
    power: Floats = np.nan_to_num(_last_day(known, valid_at)[0])
    return power


def smart_persistence(known: Known, valid_at: Times) -> Floats:
    """Clear-sky index of the newest known day at the same hour, times clear-sky power. Shape [n]."""
    power, days = _last_day(known, valid_at)
    clear_now = clear_sky_power(known.site, valid_at, known.site.period)
    clear_then = clear_sky_power(known.site, valid_at - days * _DAY, known.site.period)
    scaled = power / np.maximum(clear_then, _MIN_CLEAR) * clear_now
    result: Floats = np.clip(np.nan_to_num(np.where(clear_then > _MIN_CLEAR, scaled, power)), 0.0, 1.0)
    return result


def physical(known: Known, valid_at: Times) -> Floats:
    """PVWatts from the weather run, clipped to capacity; 0 without weather. Shape [n]."""
    power: Floats = np.nan_to_num(physical_power(known.site, known.weather, valid_at, known.site.period))
    return power


def _last_day(known: Known, valid_at: Times) -> tuple[Floats, np.ndarray]:
    """Power (fraction) at the same hour on the newest day that is known, NaN if none; and how many days back."""
    hours, power = known.history.valid_at, known.history.power_kw / known.site.ac_capacity_kw
    result, back = np.full(len(valid_at), np.nan), np.ones(len(valid_at), np.int64)
    if len(hours) == 0:
        return result, back
    for days in range(_LOOK_BACK_DAYS, 0, -1):
        wanted = valid_at - days * _DAY
        at = np.minimum(np.searchsorted(hours, wanted), len(hours) - 1)
        found = (hours[at] == wanted) & ~np.isnan(power[at])
        result[found], back[found] = power[at][found], days
    return result, back
