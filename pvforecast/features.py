"""THE feature code: the only place where a feature is computed, for training and for serving.

`build` is pure numpy over one park and one issue time. Training calls it once per issue time, serving once per
request, with arrays of the same shape: a served row can be rebuilt bit for bit. Missing inputs stay NaN, which
XGBoost handles, so a park without history still gets a forecast.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pvlib

from pvforecast.known import HOUR, Floats, History, Known, Times, WeatherRun
from pvforecast.site import Site

Features = npt.NDArray[np.float32]

DAYLIGHT_ELEVATION_DEG = 0.0
_NEIGHBOURS = (-2, -1, 1, 2)
_SECONDS_A_DAY = 86_400
_GAMMA_PDC = -0.004  # 1/K, crystalline silicon
_SYSTEM_EFFICIENCY = 0.86  # PVWatts default losses, 14 %

_WEATHER_WORDS = ("ghi", "dni", "dhi", "temp", "wind", "cloud", "clear", "poa", "physical")

_NAMES = (
    "sun_elevation", "sun_azimuth", "cos_aoi", "ghi_clear", "poa_clear",
    "ghi", "dni", "dhi", "temp_air", "wind_speed", "cloud_cover",
    "clear_sky_index", "poa", "temp_cell", "physical_power",
    *(f"ghi_{step:+d}h" for step in _NEIGHBOURS),
    *(f"physical_power_{step:+d}h" for step in _NEIGHBOURS),
    "hour_sin", "hour_cos", "day_of_year_sin", "day_of_year_cos", "lead_hours",
    "lag_1d", "lag_2d", "lag_7d", "mean_7d_same_hour",
    "relative_1h", "relative_3h", "relative_24h",
    "surface_tilt", "surface_azimuth", "latitude", "elevation_m",
)  # fmt: skip
"""Every feature this code can build, in column order. docs/features.md gives unit and reason of each."""


@dataclass(frozen=True)
class FeatureSpec:
    """Ordered feature names and the version of the code that defines them; stored in every model bundle."""

    names: tuple[str, ...]
    version: int = 1

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 over version and names."""
        return hashlib.sha256(json.dumps([self.version, self.names]).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.names)


DEFAULT_SPEC = FeatureSpec(_NAMES)
WEATHER_DERIVED = frozenset(
    name for name in _NAMES if name.split("_")[0] in _WEATHER_WORDS and not name.endswith("_clear")
)
"""Features that are NaN where no weather run reaches."""
WEATHER_ONLY_SPEC = FeatureSpec(tuple(n for n in _NAMES if not n.startswith(("lag_", "mean_7d", "relative_", "lead_"))))
"""Without anything metered: what the frozen drift reference uses, so that it cannot absorb a slow loss."""


def build(
    spec: FeatureSpec,
    site: Site,
    weather: WeatherRun | None,
    history: History,
    issued_at: np.datetime64,
    valid_at: Times,
) -> Features:
    """Features of one park at one issue time.

    Parameters
    ----------
    weather : the run that was known at `issued_at`; None where there was none.
    history : metered power known at `issued_at`.
    issued_at : UTC, when the forecast is made.
    valid_at : shape [n], UTC starts of consecutive hours.

    Returns
    -------
    float32, shape [n, len(spec)], columns in the order of `spec.names`; NaN where an input is missing.

    Raises
    ------
    KeyError
        a name of `spec` is not known to this code.
    """
    columns = _calendar(issued_at, valid_at) | _facts(site, len(valid_at))
    columns |= _physics(site, weather, valid_at)
    columns |= _lags(site, history, issued_at, valid_at)
    return np.stack([columns[name] for name in spec.names], axis=1).astype(np.float32)


def build_known(spec: FeatureSpec, known: Known, issued_at: np.datetime64, valid_at: Times) -> Features:
    """`build` from a `Known`, as both callers have it."""
    return build(spec, known.site, known.weather, known.history, issued_at, valid_at)


def horizon(issued_at: np.datetime64, hours: int) -> Times:
    """The `hours` whole hours from the first one that starts at or after `issued_at`. Shape [hours]."""
    seconds = issued_at.astype("datetime64[s]").astype(np.int64)
    first = np.datetime64(int(-(-seconds // 3600) * 3600), "s")
    return first + np.arange(hours) * HOUR


def daylight(site: Site, valid_at: Times) -> npt.NDArray[np.bool_]:
    """True where the sun stands above the horizon at the middle of the hour. Shape [n]."""
    return _sun(site, valid_at)["sun_elevation"] > DAYLIGHT_ELEVATION_DEG


def clear_sky_power(site: Site, valid_at: Times) -> Floats:
    """PVWatts power under a clear sky at 20 °C, as a fraction of `ac_capacity_kw`. Shape [n]."""
    sun = _sun(site, valid_at)
    return _pvwatts(sun["poa_clear"], np.full(len(valid_at), 20.0), np.full(len(valid_at), np.nan))[1]


def physical_power(site: Site, weather: WeatherRun | None, valid_at: Times) -> Floats:
    """PVWatts power from the weather run, as a fraction of `ac_capacity_kw`; NaN without weather. Shape [n]."""
    return _physics(site, weather, valid_at)["physical_power"]


def _physics(site: Site, weather: WeatherRun | None, valid_at: Times) -> dict[str, Floats]:
    """Sun, weather and what pvlib makes of them, with neighbours from the same run."""
    reach = max(_NEIGHBOURS)
    n = len(valid_at)
    wide = valid_at[0] + np.arange(-reach, n + reach) * HOUR
    sun = _sun(site, wide)
    wx = {
        name: _aligned(weather, name, wide) for name in ("ghi", "dni", "dhi", "temp_air", "wind_speed", "cloud_cover")
    }
    dni, dhi = _decompose(wx["ghi"], wx["dni"], wx["dhi"], sun["zenith"], sun["day_of_year"])
    poa = _transpose(site, wx["ghi"], dni, dhi, sun)
    temp_cell, power = _pvwatts(poa, wx["temp_air"], wx["wind_speed"])
    with np.errstate(invalid="ignore", divide="ignore"):
        index = np.where(sun["ghi_clear"] > 10.0, np.clip(wx["ghi"] / sun["ghi_clear"], 0.0, 2.0), np.nan)
    all_columns = {
        **wx, "dni": dni, "dhi": dhi, "clear_sky_index": index,
        "poa": poa, "temp_cell": temp_cell, "physical_power": power,
        **{name: sun[name] for name in ("sun_elevation", "sun_azimuth", "cos_aoi", "ghi_clear", "poa_clear")},
    }  # fmt: skip
    columns = {name: values[reach : reach + n] for name, values in all_columns.items()}
    for name in ("ghi", "physical_power"):
        for step in _NEIGHBOURS:
            columns[f"{name}_{step:+d}h"] = all_columns[name][reach + step : reach + step + n]
    return columns


def _aligned(weather: WeatherRun | None, name: str, hours: Times) -> Floats:
    """A variable of the run at each of `hours`; NaN where the run does not reach or lacks the variable."""
    if weather is None or name not in weather.variables or len(weather.valid_at) == 0:
        return np.full(len(hours), np.nan)
    at = np.minimum(np.searchsorted(weather.valid_at, hours), len(weather.valid_at) - 1)
    return np.where(weather.valid_at[at] == hours, weather.variables[name][at], np.nan)


def _sun(site: Site, valid_at: Times) -> dict[str, Floats]:
    """Sun position and clear sky of each hour, looked up in whole UTC days.

    Days are computed whole and kept, so that an hour has the same bits whatever request it is part of.
    """
    days = valid_at.astype("datetime64[D]")
    hour = ((valid_at - days.astype("datetime64[s]")) // HOUR).astype(np.int64)
    unique, inverse = np.unique(days, return_inverse=True)
    tables = [_sun_day(site, int(day.astype(np.int64))) for day in unique] or [_sun_day(site, 0)]
    return {name: np.stack([table[name] for table in tables])[inverse, hour] for name in tables[0]}


@lru_cache(maxsize=20_000)
def _sun_day(site: Site, epoch_day: int) -> dict[str, Floats]:
    """Sun position (NREL SPA) at the middle of the 24 hours of one UTC day, clear sky (simplified Solis), clear POA.

    References: Reda & Andreas 2004, Solar Energy 76; Ineichen 2008, Solar Energy 82; both as in pvlib.
    """
    middle = epoch_day * _SECONDS_A_DAY + 1_800 + 3_600 * np.arange(24, dtype=np.float64)
    pressure = pvlib.atmosphere.alt2pres(site.elevation_m)
    apparent_zenith, zenith, apparent_elevation, elevation, azimuth, _ = pvlib.spa.solar_position_numpy(
        middle, site.latitude, site.longitude, site.elevation_m, pressure / 100.0, 12.0, 67.0, 0.5667, numthreads=1
    )
    day_of_year = np.full(24, float(_day_of_year(np.datetime64(epoch_day, "D"))))
    extra = pvlib.irradiance.get_extra_radiation(day_of_year)
    clear = pvlib.clearsky.simplified_solis(
        apparent_elevation, pressure=pressure, aod700=0.1, precipitable_water=1.0, dni_extra=extra
    )
    sun = {
        "zenith": zenith, "apparent_zenith": apparent_zenith, "sun_elevation": elevation, "sun_azimuth": azimuth,
        "day_of_year": day_of_year, "dni_extra": extra,
        "ghi_clear": np.asarray(clear["ghi"]),
    }  # fmt: skip
    sun |= {
        f"cos_aoi_{n}": pvlib.irradiance.aoi_projection(
            plane.surface_tilt, plane.surface_azimuth, apparent_zenith, azimuth
        )
        for n, plane in enumerate(site.planes)
    }
    sun["cos_aoi"] = sum(plane.share * sun[f"cos_aoi_{n}"] for n, plane in enumerate(site.planes))
    sun["poa_clear"] = _transpose(site, sun["ghi_clear"], np.asarray(clear["dni"]), np.asarray(clear["dhi"]), sun)
    for values in sun.values():
        values.setflags(write=False)
    return sun


def _decompose(ghi: Floats, dni: Floats, dhi: Floats, zenith: Floats, day_of_year: Floats) -> tuple[Floats, Floats]:
    """DNI and DHI as delivered, else from GHI (Erbs et al. 1982, Solar Energy 28); NaN without either."""
    split = pvlib.irradiance.erbs(ghi, zenith, day_of_year)
    delivered = ~np.isnan(dni) & ~np.isnan(dhi)
    beam = np.where(np.isnan(ghi), np.nan, split["dni"])  # erbs says 0 for a low sun, even of an unknown GHI
    return np.where(delivered, dni, beam), np.where(delivered, dhi, split["dhi"])


def _transpose(site: Site, ghi: Floats, dni: Floats, dhi: Floats, sun: dict[str, Floats]) -> Floats:
    """Plane-of-array irradiance, W/m², mean over the arrays by share (Hay & Davies 1980; ground albedo 0.2)."""
    anisotropy = np.clip(dni / sun["dni_extra"], 0.0, 1.0)
    zenith = np.maximum(np.cos(np.radians(sun["apparent_zenith"])), 0.01745)
    poa = np.zeros(len(ghi))
    for n, plane in enumerate(site.planes):
        cos_aoi = np.maximum(sun[f"cos_aoi_{n}"], 0.0)
        tilt = np.radians(plane.surface_tilt)
        sky = dhi * (anisotropy * (cos_aoi / zenith) + (1.0 - anisotropy) * 0.5 * (1.0 + np.cos(tilt)))
        ground = ghi * 0.2 * 0.5 * (1.0 - np.cos(tilt))
        poa = poa + plane.share * (dni * cos_aoi + sky + ground)
    return np.where(
        sun["sun_elevation"] > DAYLIGHT_ELEVATION_DEG, np.clip(poa, 0.0, 1_800.0), np.where(np.isnan(ghi), np.nan, 0.0)
    )


def _pvwatts(poa: Floats, temp_air: Floats, wind_speed: Floats) -> tuple[Floats, Floats]:
    """Cell temperature (Faiman 2008; 20 °C and 1 m/s where not delivered) and AC power fraction (PVWatts v5)."""
    air, wind = np.where(np.isnan(temp_air), 20.0, temp_air), np.where(np.isnan(wind_speed), 1.0, wind_speed)
    temp_cell = air + poa / (25.0 + 6.84 * wind)
    dc = poa / 1_000.0 * (1.0 + _GAMMA_PDC * (temp_cell - 25.0)) * _SYSTEM_EFFICIENCY * 1.2  # DC/AC ratio 1.2
    return temp_cell, np.clip(dc, 0.0, 1.0)


def _calendar(issued_at: np.datetime64, valid_at: Times) -> dict[str, Floats]:
    middle = valid_at + HOUR // 2
    hour = (middle - middle.astype("datetime64[D]")).astype(np.float64) / _SECONDS_A_DAY
    year = np.array([_day_of_year(day) for day in middle.astype("datetime64[D]")], np.float64) / 365.25
    return {
        "hour_sin": np.sin(2 * np.pi * hour), "hour_cos": np.cos(2 * np.pi * hour),
        "day_of_year_sin": np.sin(2 * np.pi * year), "day_of_year_cos": np.cos(2 * np.pi * year),
        "lead_hours": (valid_at - issued_at).astype("timedelta64[s]").astype(np.float64) / 3_600.0,
    }  # fmt: skip


def _day_of_year(day: np.datetime64) -> int:
    return int((day - day.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.int64)) + 1


def _facts(site: Site, n: int) -> dict[str, Floats]:
    facts = {name: getattr(site, name) for name in ("surface_tilt", "surface_azimuth", "latitude", "elevation_m")}
    return {name: np.full(n, float(value)) for name, value in facts.items()}


def _lags(site: Site, history: History, issued_at: np.datetime64, valid_at: Times) -> dict[str, Floats]:
    """Lagged power as a fraction of capacity. An hour at or after `issued_at` is never used, whatever is passed."""
    past = history.valid_at + HOUR <= issued_at
    hours, power = history.valid_at[past], history.power_kw[past] / site.ac_capacity_kw
    lags = {days: _at(hours, power, valid_at - days * 24 * HOUR) for days in range(1, 10)}
    # Beyond 24 h of lead, yesterday is not known yet: the newest known day at the same hour stands in.
    columns = {
        "lag_1d": _first_known(lags[1], lags[2], lags[3]),
        "lag_2d": _first_known(lags[2], lags[3], lags[4]),
        "lag_7d": lags[7],
        "mean_7d_same_hour": _mean([lags[day] for day in range(1, 10)]),
    }
    clear = clear_sky_power(site, hours) if len(hours) else power
    for window in (1, 3, 24):
        recent = (hours >= issued_at - (window + 1) * HOUR) & (clear > 0.05) & ~np.isnan(power)
        total = float(clear[recent].sum())
        columns[f"relative_{window}h"] = np.full(
            len(valid_at), float(power[recent].sum()) / total if total > 0 else np.nan
        )
    return columns


def _at(hours: Times, values: Floats, wanted: Times) -> Floats:
    if len(hours) == 0:
        return np.full(len(wanted), np.nan)
    at = np.minimum(np.searchsorted(hours, wanted), len(hours) - 1)
    return np.where(hours[at] == wanted, values[at], np.nan)


def _first_known(*candidates: Floats) -> Floats:
    result = candidates[0]
    for candidate in candidates[1:]:
        result = np.where(np.isnan(result), candidate, result)
    return result


def _mean(columns: list[Floats]) -> Floats:
    stacked = np.stack(columns)
    known = ~np.isnan(stacked)
    count = known.sum(axis=0)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
