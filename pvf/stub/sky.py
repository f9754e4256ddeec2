"""Invented weather: the same for the same place, model, run and hour, and the worse the longer ahead.

Near the two roofs of the samples, on their dates, it is what NSRDB observed with the errors of a forecast. Elsewhere it
is a clear sky times a smooth field of clouds that moves over the globe.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pvforecast.known import Floats
from pvforecast.parks import Park

Ints = npt.NDArray[np.int64]

_NEAR_DEG = 0.05
_ROOFS = (39.741, -105.175)  # of the samples, in Golden
_SUBSTEPS = 6  # of an interval, over which radiation is averaged
_ERROR_AT_ONCE, _ERROR_A_DAY, _ERROR_MOST = 0.06, 0.06, 0.30  # of the clear-sky index
_LOW_SUN = 0.05  # cosine of the zenith angle below which all light is diffuse
_TEMPERATURE_ERROR_A_DAY = 0.8  # °C
_PERIODS_H = np.array([5.0, 9.0, 17.0, 31.0, 67.0, 130.0])


def values(latitude: float, longitude: float, model: str, run_at: int, labels: Ints, step_s: int) -> dict[str, Floats]:
    """Every variable in SI units at the labels: radiation and precipitation of the interval before, else instants.

    Parameters
    ----------
    run_at, labels : seconds since the epoch; shape [n].

    Returns
    -------
    Shape [n] each, percent as 0-100, wind in m/s, snowfall in cm, snow depth in m.
    """
    middle: Floats = labels - np.float64(step_s / 2.0)
    lead_days: Floats = np.maximum(labels - run_at, 0) / 86_400.0
    error = np.minimum(_ERROR_AT_ONCE + _ERROR_A_DAY * lead_days, _ERROR_MOST)
    name = f"{model}|{run_at}|{latitude:.3f}|{longitude:.3f}"
    wrong = _noise(name, middle)

    cosine, clear = _clear(latitude, longitude, labels, step_s)
    true_index, true_temperature = _truth(latitude, longitude, middle, clear, step_s)
    index = np.clip(true_index + error * wrong, 0.05, np.maximum(true_index, 1.05))
    ghi = index * clear
    diffuse = np.where(cosine > _LOW_SUN, _diffuse_fraction(index), 1.0)
    dhi = diffuse * ghi
    beam = ghi - dhi
    dni = beam / np.maximum(cosine, _LOW_SUN)
    cloud = np.clip(1.15 * (1.05 - index), 0.0, 1.0)
    temperature = true_temperature + _TEMPERATURE_ERROR_A_DAY * (0.5 + lead_days) * _noise(f"{name}|t", middle)
    wet = np.clip(cloud - 0.75, 0.0, None) * 4.0 * (0.5 + 0.5 * _noise(f"rain|{latitude:.1f}|{longitude:.1f}", middle))
    rain = np.clip(wet, 0.0, None) * step_s / 3600.0
    freezing = temperature < 0.5
    return {
        "shortwave_radiation": ghi,
        "direct_normal_irradiance": dni,
        "diffuse_radiation": dhi,
        "direct_radiation": beam,
        "temperature_2m": temperature,
        "wind_speed_10m": np.abs(3.5 + 2.5 * _noise(f"wind|{latitude:.1f}|{longitude:.1f}", middle)),
        "cloud_cover": 100.0 * cloud,
        "cloud_cover_low": 100.0 * np.clip(cloud * 0.6, 0.0, 1.0),
        "cloud_cover_mid": 100.0 * np.clip(cloud * 0.8 - 0.1, 0.0, 1.0),
        "cloud_cover_high": 100.0 * np.clip(cloud * 0.7 - 0.05, 0.0, 1.0),
        "relative_humidity_2m": np.clip(85.0 - 1.5 * (temperature - 5.0) + 15.0 * cloud, 8.0, 100.0),
        "precipitation": rain,
        "snowfall": np.where(freezing, 0.7 * rain, 0.0),
        "snow_depth": np.where(temperature < -2.0, 0.05, 0.0),
    }


def _truth(latitude: float, longitude: float, middle: Floats, clear: Floats, step_s: int) -> tuple[Floats, Floats]:
    """What really happens: clear-sky index and air temperature."""
    index = 0.72 + 0.38 * _field(latitude, longitude, middle)
    season = np.cos(2.0 * np.pi * (middle / 86_400.0 / 365.25 - 0.54)) * np.sign(latitude or 1.0)
    day = np.cos(2.0 * np.pi * ((middle / 3600.0 + longitude / 15.0 - 15.0) / 24.0))
    temperature = 27.0 - 0.35 * abs(latitude) + 0.18 * abs(latitude) * season + 4.5 * day * index
    observed = _observed(latitude, longitude)
    if observed is not None:
        times, ghi, temp_air = observed
        hour = (middle // 3600.0 * 3600.0).astype(np.int64)
        at = np.minimum(np.searchsorted(times, hour), len(times) - 1)
        found = (times[at] == hour) & ~np.isnan(ghi[at])
        hourly_clear = clear if step_s == 3600 else _clear(latitude, longitude, hour + 3600, 3600)[1]
        bright = found & (hourly_clear > 20.0)
        index = np.where(bright, ghi[at] / np.maximum(hourly_clear, 20.0), index)
        temperature = np.where(found & ~np.isnan(temp_air[at]), temp_air[at], temperature)
    return np.clip(index, 0.0, 1.4), temperature


def _clear(latitude: float, longitude: float, labels: Ints, step_s: int) -> tuple[Floats, Floats]:
    """Cosine of the zenith angle, and clear-sky GHI (Haurwitz 1945), as means over the interval before each label."""
    offsets = (np.arange(_SUBSTEPS) + 0.5) / _SUBSTEPS * step_s - step_s
    moments = labels[:, None] + offsets
    days = moments / 86_400.0
    dates = moments.astype(np.int64).astype("datetime64[s]").astype("datetime64[D]")
    day_of_year = (dates - dates.astype("datetime64[Y]").astype("datetime64[D]")).astype(int) + 1
    declination, equation_of_time = _spencer(day_of_year)
    minutes = (days % 1.0) * 1440.0 + equation_of_time + 4.0 * longitude
    hour_angle = np.radians(minutes / 4.0 - 180.0)
    phi = np.radians(latitude)
    cosine = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour_angle)
    up = np.maximum(cosine, 1e-3)
    ghi = np.where(cosine > 0.0, 1098.0 * up * np.exp(-0.057 / up), 0.0)
    return np.maximum(cosine, 0.0).mean(axis=1), ghi.mean(axis=1)


def _spencer(day_of_year: Ints) -> tuple[Floats, Floats]:
    """Declination in radians and equation of time in minutes (Spencer 1971)."""
    b = 2.0 * np.pi * (day_of_year - 1) / 365.0
    declination = (
        0.006918
        - 0.399912 * np.cos(b)
        + 0.070257 * np.sin(b)
        - 0.006758 * np.cos(2 * b)
        + 0.000907 * np.sin(2 * b)
        - 0.002697 * np.cos(3 * b)
        + 0.00148 * np.sin(3 * b)
    )
    equation_of_time = 229.18 * (
        0.0000075 + 0.001868 * np.cos(b) - 0.032077 * np.sin(b) - 0.014615 * np.cos(2 * b) - 0.040849 * np.sin(2 * b)
    )
    return declination, equation_of_time


def _diffuse_fraction(index: Floats) -> Floats:
    """Share of diffuse light: all of it under thick cloud, a sixth of it under a clear sky."""
    return np.clip(1.15 - 0.98 * index, 0.16, 1.0)


def _field(latitude: float, longitude: float, moments: Floats) -> Floats:
    """A smooth field in space and time, -1 to 1, that drifts eastwards."""
    total = np.zeros(len(moments))
    for i, period in enumerate(_PERIODS_H):
        phase = 2.0 * np.pi * (0.31 * i + latitude / (7.0 + 3.0 * i) - longitude / (9.0 + 4.0 * i))
        total += np.sin(2.0 * np.pi * moments / 3600.0 / period + phase)
    return np.tanh(total / 1.6)


def _noise(name: str, moments: Floats) -> Floats:
    """Smooth in time, about normal with deviation 1, another one for each name."""
    phases = np.random.default_rng(zlib.crc32(name.encode())).uniform(0.0, 2.0 * np.pi, len(_PERIODS_H))
    waves = np.sin(2.0 * np.pi * moments[:, None] / 3600.0 / _PERIODS_H + phases)
    scaled: Floats = waves.sum(axis=1) * np.sqrt(2.0 / len(_PERIODS_H))
    return scaled


@lru_cache(maxsize=64)
def _observed(latitude: float, longitude: float) -> tuple[Ints, Floats, Floats] | None:
    """Hour starts, GHI and air temperature of the nearest sampled roof; None where none is near."""
    if np.hypot(latitude - _ROOFS[0], longitude - _ROOFS[1]) > 2 * _NEAR_DEG:
        return None
    from pvforecast.sources import pvdaq_samples  # pvlib and all: seconds that few questions need

    def apart(park: Park) -> float:
        return float(np.hypot(park.latitude - latitude, park.longitude - longitude))

    nearest = min(pvdaq_samples.PARKS, key=apart)
    if apart(nearest) > _NEAR_DEG:
        return None
    hourly = pvdaq_samples.hourly_weather(nearest.id)
    seconds = hourly.index.as_unit("s").asi8
    return seconds, hourly["ghi"].to_numpy(float), hourly["temp_air"].to_numpy(float)
