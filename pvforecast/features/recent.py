"""What was metered before the issue time. An interval that ends after it is never used, whatever is passed."""

from __future__ import annotations

import numpy as np

from pvforecast.features import sun
from pvforecast.features.spec import FeatureSpec
from pvforecast.features.weather import columns as weather_columns
from pvforecast.known import HOUR, Floats, History, Times, WeatherRun
from pvforecast.site import Site

_DAY = 24 * HOUR
_WINDOWS = (1, 3, 24)
_MIN_CLEAR = 0.05  # of capacity: below it a ratio is noise
_PHYSICAL = FeatureSpec(("physical_power",))
_LAGS = frozenset({"lag_1d", "lag_2d", "lag_7d", "mean_7d_same_hour"})


def columns(
    spec: FeatureSpec,
    site: Site,
    run: WeatherRun | None,
    history: History,
    issued_at: np.datetime64,
    valid_at: Times,
    period: np.timedelta64,
) -> dict[str, Floats]:
    """Lags as a fraction of capacity, and the last hours against the clear sky and against the physical model."""
    past = history.valid_at + period <= issued_at
    times, power = history.valid_at[past], history.power_kw[past] / site.ac_capacity_kw
    result = {} if _LAGS.isdisjoint(spec.names) else _lags(times, power, valid_at)
    newest = times >= issued_at - (max(_WINDOWS) + 1) * HOUR
    times, power = times[newest], power[newest]
    clear = sun.clear_sky_power(site, times, period) if len(times) else power
    made = _made(site, run, times, period) if "performance_1h" in spec.names else np.full(len(times), np.nan)
    for window in _WINDOWS:
        recent = (times >= issued_at - (window + 1) * HOUR) & (clear > _MIN_CLEAR) & ~np.isnan(power)
        result[f"relative_{window}h"] = np.full(len(valid_at), _ratio(power[recent], clear[recent]))
        known = recent & ~np.isnan(made)
        result[f"performance_{window}h"] = np.full(len(valid_at), _ratio(power[known], made[known]))
    return result


def _lags(times: Times, power: Floats, valid_at: Times) -> dict[str, Floats]:
    """Of specs of version 1."""
    lags = {days: _at(times, power, valid_at - days * _DAY) for days in range(1, 10)}
    # Beyond 24 h of lead, yesterday is not known yet: the newest known day at the same hour stands in.
    return {
        "lag_1d": _first_known(lags[1], lags[2], lags[3]),
        "lag_2d": _first_known(lags[2], lags[3], lags[4]),
        "lag_7d": lags[7],
        "mean_7d_same_hour": _mean([lags[day] for day in range(1, 10)]),
    }


def _made(site: Site, run: WeatherRun | None, times: Times, period: np.timedelta64) -> Floats:
    """What the physical model makes of the run for hours that are past, where the run began before them."""
    if run is None or len(times) == 0 or run.valid_at[0] > times[-1]:
        return np.full(len(times), np.nan)
    span = times[0] + np.arange(int((times[-1] - times[0]) / period) + 1) * period
    made = weather_columns(_PHYSICAL, site, run, span, period)["physical_power"]
    at = ((times - times[0]) / period).astype(np.int64)
    of_time: Floats = made[at]
    return of_time


def _ratio(power: Floats, reference: Floats) -> float:
    total = float(reference.sum())
    return float(power.sum()) / total if total > 0 else float("nan")


def _at(times: Times, values: Floats, wanted: Times) -> Floats:
    if len(times) == 0:
        return np.full(len(wanted), np.nan)
    at = np.minimum(np.searchsorted(times, wanted), len(times) - 1)
    return np.where(times[at] == wanted, values[at], np.nan)


def _first_known(*candidates: Floats) -> Floats:
    result = candidates[0]
    for candidate in candidates[1:]:
        result = np.where(np.isnan(result), candidate, result)
    return result


def _mean(lags: list[Floats]) -> Floats:
    stacked = np.stack(lags)
    known = ~np.isnan(stacked)
    count = known.sum(axis=0)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
