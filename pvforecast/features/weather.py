"""What the weather run says of each interval, what pvlib makes of it, and the same for the hours around it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pvforecast.features import power, sun
from pvforecast.features.spec import NEIGHBOURS, FeatureSpec, extra_of
from pvforecast.known import HOUR, WEATHER_VARIABLES, Floats, Times, WeatherRun
from pvforecast.site import Site

_REACH = max(NEIGHBOURS)
_MIN_CLEAR = 10.0  # W/m²: below it an index says nothing


def columns(
    spec: FeatureSpec, site: Site, run: WeatherRun | None, valid_at: Times, period: np.timedelta64
) -> dict[str, Floats]:
    """Features of sun and weather; NaN where the run does not reach."""
    a_step = int(HOUR / period)
    reach, n = _REACH * a_step, len(valid_at)
    wide = valid_at[0] + np.arange(-reach, n + reach) * period
    sky = sun.of(site, wide, period, sunlit=spec.version >= 2)
    wx = of_run(run, WEATHER_VARIABLES, wide, period, sky["ghi_clear"], site)
    dni, dhi = power.decompose(wx["ghi"], wx["dni"], wx["dhi"], sky)
    poa = power.transpose(site, wx["ghi"], dni, dhi, sky)
    temp_cell, made = power.pvwatts(poa, wx["temp_air"], wx["wind_speed"])
    with np.errstate(invalid="ignore", divide="ignore"):
        index = np.where(sky["ghi_clear"] > _MIN_CLEAR, np.clip(wx["ghi"] / sky["ghi_clear"], 0.0, 2.0), np.nan)
    named = {
        **sky, **wx, "dni": dni, "dhi": dhi, "clear_sky_index": index,
        "poa": poa, "temp_cell": temp_cell, "physical_power": made,
    }  # fmt: skip

    def shifted(values: Floats, hours: int) -> Floats:
        first = reach + hours * a_step
        return values[first : first + n]

    result = {name: shifted(values, 0) for name, values in named.items()}
    for name in ("ghi", "physical_power", "clear_sky_index"):
        result |= {f"{name}_{step:+d}h": shifted(named[name], step) for step in NEIGHBOURS}
    result["clear_sky_index_spread"] = _spread([shifted(index, step) for step in (-1, 0, 1)])
    result["run_lead_hours"] = _run_lead(run, valid_at, result["ghi"])
    free = {name: found for name in spec.names if (found := extra_of(name))}
    wanted = sorted({column for column, _ in free.values()})
    extra = of_run(run, wanted, wide, period, sky["ghi_clear"], site)
    return result | {name: shifted(extra[column], step) for name, (column, step) in free.items()}


def of_run(
    run: WeatherRun | None, names: Iterable[str], valid_at: Times, period: np.timedelta64, clear: Floats, site: Site
) -> dict[str, Floats]:
    """Variables of the run at each interval; NaN where the run does not reach or lacks the variable.

    A run of whole hours gives shorter intervals by interpolation between the hours' middles: irradiance as a share of
    the clear sky (`clear`, GHI of each interval), so that it follows the sun.
    """
    if run is None or len(run.valid_at) == 0:
        return {name: np.full(len(valid_at), np.nan) for name in names}
    if period < HOUR and (len(run.valid_at) < 2 or run.valid_at[1] - run.valid_at[0] == HOUR):
        return {name: _between(run, name, valid_at, period, clear, site) for name in names}
    at = np.minimum(np.searchsorted(run.valid_at, valid_at), len(run.valid_at) - 1)
    found = run.valid_at[at] == valid_at
    return {
        name: np.where(found, run.variables[name][at], np.nan)
        if name in run.variables
        else np.full(len(valid_at), np.nan)
        for name in names
    }


def _between(run: WeatherRun, name: str, valid_at: Times, period: np.timedelta64, clear: Floats, site: Site) -> Floats:
    if name not in run.variables:
        return np.full(len(valid_at), np.nan)
    values = run.variables[name]
    irradiance = name in ("ghi", "dni", "dhi")
    if irradiance:
        hourly = sun.of(site, run.valid_at, HOUR)["ghi_clear"]
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.where(hourly > _MIN_CLEAR, values / hourly, np.where(np.isnan(values), np.nan, 0.0))
    middle = (run.valid_at + HOUR // 2).astype(np.int64).astype(np.float64)
    wanted = (valid_at + period // 2).astype("datetime64[s]").astype(np.int64).astype(np.float64)
    reached = (valid_at >= run.valid_at[0]) & (valid_at + period <= run.valid_at[-1] + HOUR)
    result = np.where(reached, np.interp(wanted, middle, values), np.nan)
    quarters = 4.0 if name == "precipitation" else 1.0  # a sum over the interval, not a mean
    shown: Floats = result * clear if irradiance else result / quarters
    return shown


def _spread(around: list[Floats]) -> Floats:
    """Largest less smallest; NaN where any is unknown."""
    stacked = np.stack(around)
    spread: Floats = stacked.max(axis=0) - stacked.min(axis=0)
    return spread


def _run_lead(run: WeatherRun | None, valid_at: Times, ghi: Floats) -> Floats:
    """Hours since the run began: how old the forecast of the interval is; NaN where the run says nothing of it."""
    if run is None:
        return np.full(len(valid_at), np.nan)
    hours = (valid_at - run.run_at).astype("timedelta64[s]").astype(np.float64) / 3_600.0
    return np.where(np.isnan(ghi), np.nan, hours)
