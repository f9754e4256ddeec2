"""Snow that lies on the modules when a forecast is issued: what the park gave on a day of frost, and frost since."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pvforecast.features.spec import FROST_PERFORMANCE, WARMEST, FeatureSpec
from pvforecast.features.weather import columns as weather_columns
from pvforecast.known import PAST, Floats, Past, Times
from pvforecast.site import Site

FROST = 1.0  # °C: as cold within the last day
LYING = 0.3  # of what the physical model makes of the last day's weather
_MIN_MADE = 0.02  # of capacity: hours below say nothing
_MIN_HOURS = 0.5  # of full power, of the day

_PHYSICAL = FeatureSpec(("physical_power",))


def lies(features: npt.NDArray[np.float32], names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Where the modules gave next to nothing on a day of frost, and it has not thawed since. Shape [n]."""
    if FROST_PERFORMANCE not in names or WARMEST not in names:
        return np.zeros(len(features), bool)
    frost, warmest = (features[:, names.index(name)] for name in (FROST_PERFORMANCE, WARMEST))
    return np.asarray((frost < LYING) & (warmest <= FROST))


def columns(
    site: Site, past: Past | None, issued_at: np.datetime64, temp_air: Floats, period: np.timedelta64
) -> dict[str, Floats]:
    """Both features.

    Parameters
    ----------
    temp_air : °C, of the weather run, of the forecast's intervals from `issued_at` on. Shape [n].
    """
    performance = float("nan") if past is None else _performance(site, past, issued_at, period)
    return {FROST_PERFORMANCE: np.full(len(temp_air), performance), WARMEST: np.fmax.accumulate(temp_air)}


def _performance(site: Site, past: Past, issued_at: np.datetime64, period: np.timedelta64) -> float:
    """Metered over physical energy of the day before `issued_at`; NaN where there was no frost, or no light."""
    times = past.metered.valid_at
    inside = (times >= issued_at - PAST) & (times + period <= issued_at)
    times, power = times[inside], past.metered.power_kw[inside] / site.ac_capacity_kw
    coldest = past.weather.variables.get("temp_air", np.full(1, np.nan))
    if len(times) == 0 or not np.fmin.reduce(coldest) <= FROST:
        return float("nan")
    made = _made(site, past, times, period)
    lit = (made > _MIN_MADE) & ~np.isnan(power)
    total = float(made[lit].sum())
    if total * float(period / np.timedelta64(3600, "s")) < _MIN_HOURS:
        return float("nan")
    return float(power[lit].sum()) / total


def _made(site: Site, past: Past, times: Times, period: np.timedelta64) -> Floats:
    span = times[0] + np.arange(int((times[-1] - times[0]) / period) + 1) * period
    made = weather_columns(_PHYSICAL, site, past.weather, span, period)["physical_power"]
    of_time: Floats = made[((times - times[0]) / period).astype(np.int64)]
    return of_time
