"""THE feature code: the only place where a feature is computed, for training and for serving.

`build` is pure numpy over one park and one issue time. Training calls it once per issue time, serving once per
request, with arrays of the same shape: a served row can be rebuilt bit for bit. Missing inputs stay NaN, which the
model handles, so a park without history still gets a forecast.

    spec       names, order and versions of the features
    sun        sun position and clear sky
    power      irradiance to power, by pvlib's models
    weather    the weather run, with its neighbours in time
    recent     what was metered before the issue time
    snow       whether snow lies on the modules then
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pvforecast.features import recent, snow, weather
from pvforecast.features.spec import (
    DEFAULT_SPEC,
    FIRST_SPEC,
    SNOW,
    WEATHER_ONLY_SPEC,
    FeatureSpec,
    from_weather,
    with_extra,
)
from pvforecast.features.sun import clear_sky_power, day_of_year, daylight
from pvforecast.known import HOUR, Floats, History, Known, Past, Times, WeatherRun
from pvforecast.site import Site

__all__ = [
    "DEFAULT_SPEC", "FIRST_SPEC", "WEATHER_ONLY_SPEC", "FeatureSpec", "Features", "build", "build_known",
    "clear_sky_power", "daylight", "from_weather", "horizon", "physical_power", "with_extra",
]  # fmt: skip

Features = npt.NDArray[np.float32]

_SECONDS_A_DAY = 86_400
_PHYSICAL = FeatureSpec(("physical_power",), 1)


def build(
    spec: FeatureSpec,
    site: Site,
    run: WeatherRun | None,
    history: History,
    issued_at: np.datetime64,
    valid_at: Times,
    past: Past | None = None,
) -> Features:
    """Features of one park at one issue time.

    Parameters
    ----------
    run : the weather run that was known at `issued_at`; None where there was none.
    history : metered power known at `issued_at`, in the park's resolution.
    issued_at : UTC, when the forecast is made.
    valid_at : shape [n], UTC starts of consecutive intervals of the park's resolution.
    past : the last day as it was forecast and as it was metered, where that is known.

    Returns
    -------
    float32, shape [n, len(spec)], columns in the order of `spec.names`; NaN where an input is missing.

    Raises
    ------
    KeyError
        a name of `spec` is not known to this code.
    """
    columns = _calendar(site, issued_at, valid_at) | _facts(site, len(valid_at))
    columns |= weather.columns(spec, site, run, valid_at, site.period)
    columns |= recent.columns(spec, site, run, history, issued_at, valid_at, site.period)
    if not set(SNOW).isdisjoint(spec.names):
        columns |= snow.columns(site, past, issued_at, columns["temp_air"], site.period)
    return np.stack([columns[name] for name in spec.names], axis=1).astype(np.float32)


def build_known(spec: FeatureSpec, known: Known, issued_at: np.datetime64, valid_at: Times) -> Features:
    """`build` from a `Known`, as both callers have it."""
    return build(spec, known.site, known.weather, known.history, issued_at, valid_at, known.past)


def horizon(issued_at: np.datetime64, hours: int, period: np.timedelta64 = HOUR) -> Times:
    """Starts of the intervals of the next `hours`, from the first one that starts at or after `issued_at`."""
    seconds, step = issued_at.astype("datetime64[s]").astype(np.int64), int(period / np.timedelta64(1, "s"))
    first = np.datetime64(int(-(-seconds // step) * step), "s")
    return first + np.arange(hours * 3600 // step) * period


def physical_power(site: Site, run: WeatherRun | None, valid_at: Times, period: np.timedelta64 = HOUR) -> Floats:
    """PVWatts power from the weather run, as a fraction of `ac_capacity_kw`; NaN without weather. Shape [n]."""
    return weather.columns(_PHYSICAL, site, run, valid_at, period)["physical_power"]


def _calendar(site: Site, issued_at: np.datetime64, valid_at: Times) -> dict[str, Floats]:
    middle = valid_at + site.period // 2
    hour = (middle - middle.astype("datetime64[D]")).astype(np.float64) / _SECONDS_A_DAY
    solar = hour + site.longitude / 360.0
    year = day_of_year(middle) / 365.25
    return {
        "hour_sin": np.sin(2 * np.pi * hour), "hour_cos": np.cos(2 * np.pi * hour),
        "solar_time_sin": np.sin(2 * np.pi * solar), "solar_time_cos": np.cos(2 * np.pi * solar),
        "day_of_year_sin": np.sin(2 * np.pi * year), "day_of_year_cos": np.cos(2 * np.pi * year),
        "lead_hours": (valid_at - issued_at).astype("timedelta64[s]").astype(np.float64) / 3_600.0,
    }  # fmt: skip


def _facts(site: Site, n: int) -> dict[str, Floats]:
    facts = {name: getattr(site, name) for name in ("surface_tilt", "surface_azimuth", "latitude", "elevation_m")}
    facts["interval_minutes"] = site.period / np.timedelta64(60, "s")
    return {name: np.full(n, float(value)) for name, value in facts.items()}
