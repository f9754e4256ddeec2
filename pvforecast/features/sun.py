"""Where the sun stands and what a clear sky gives, interval by interval."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pvlib

from pvforecast.features import power
from pvforecast.known import HOUR, Floats, Times
from pvforecast.site import Site

DAYLIGHT_ELEVATION_DEG = 0.0
_BLOCK_DAYS = 16
_BLOCK_S = _BLOCK_DAYS * 86_400


def daylight(site: Site, valid_at: Times, period: np.timedelta64 = HOUR) -> npt.NDArray[np.bool_]:
    """True where the sun stands above the horizon at the middle of the interval. Shape [n]."""
    return of(site, valid_at, period)["sunlit_fraction"] > 0.5


def clear_sky_power(site: Site, valid_at: Times, period: np.timedelta64 = HOUR) -> Floats:
    """PVWatts power under a clear sky at 20 °C, as a fraction of `ac_capacity_kw`. Shape [n]."""
    return of(site, valid_at, period, sunlit=False)["clear_sky_power"]


def day_of_year(moments: Times) -> Floats:
    """1 on 1 January. Shape [n]."""
    days = moments.astype("datetime64[D]")
    number: Floats = (days - days.astype("datetime64[Y]").astype("datetime64[D]")).astype(np.float64) + 1.0
    return number


def of(site: Site, valid_at: Times, period: np.timedelta64 = HOUR, *, sunlit: bool = True) -> dict[str, Floats]:
    """Sun position and clear sky of each interval, looked up in blocks of whole UTC days.

    Blocks are computed whole and kept, so that an interval has the same bits whatever request it is part of.

    Parameters
    ----------
    valid_at : starts of intervals, whole multiples of `period` from midnight UTC.
    sunlit : the sun of an interval stands where it is at the middle of its sunlit part, not of the whole.
    """
    seconds = int(period / np.timedelta64(1, "s"))
    epoch = valid_at.astype("datetime64[s]").astype(np.int64)
    unique, inverse = np.unique(epoch // _BLOCK_S, return_inverse=True)
    blocks = [_block(site, int(number), seconds, sunlit) for number in unique] or [_block(site, 0, seconds, sunlit)]
    at = inverse * (_BLOCK_S // seconds) + epoch % _BLOCK_S // seconds
    if len(blocks) == 1:
        return {name: values[at] for name, values in blocks[0].items()}
    return {name: np.concatenate([block[name] for block in blocks])[at] for name in blocks[0]}


@lru_cache(maxsize=4_000)
def _block(site: Site, number: int, period_s: int, sunlit: bool) -> dict[str, Floats]:
    """Sun position (NREL SPA) of the intervals of a block, clear sky (simplified Solis), clear POA and power.

    References: Reda & Andreas 2004, Solar Energy 76; Ineichen 2008, Solar Energy 82; both as in pvlib.
    """
    n = _BLOCK_S // period_s
    start = number * _BLOCK_S + period_s * np.arange(n, dtype=np.float64)
    moment = start + period_s / 2.0
    pressure = pvlib.atmosphere.alt2pres(site.elevation_m)
    position = _position(site, moment, pressure)
    up = position["sun_elevation"] > DAYLIGHT_ELEVATION_DEG
    fraction = up.astype(np.float64)
    if sunlit:
        edges = np.append(start, start[-1] + period_s)
        moment, fraction = _sunlit(edges, _position(site, edges, pressure)["sun_elevation"], up)
        position = _position(site, moment, pressure)
    dates = np.datetime64(number * _BLOCK_DAYS, "D") + np.arange(_BLOCK_DAYS)
    days = np.repeat(day_of_year(dates), n // _BLOCK_DAYS)
    extra = pvlib.irradiance.get_extra_radiation(days)
    clear = pvlib.clearsky.simplified_solis(
        position["apparent_elevation"], pressure=pressure, aod700=0.1, precipitable_water=1.0, dni_extra=extra
    )
    # Of an interval with a sunrise or a sunset in it the mean is that of its sunlit part, for as long as that lasts.
    lit = fraction if sunlit else np.ones(n)
    ghi, dni, dhi = (np.asarray(clear[name]) * lit for name in ("ghi", "dni", "dhi"))
    sun = {**position, "day_of_year": days, "dni_extra": extra, "sunlit_fraction": fraction, "ghi_clear": ghi}
    sun |= {
        f"cos_aoi_{at}": pvlib.irradiance.aoi_projection(
            plane.surface_tilt, plane.surface_azimuth, sun["apparent_zenith"], sun["sun_azimuth"]
        )
        for at, plane in enumerate(site.planes)
    }
    sun["cos_aoi"] = sum(plane.share * sun[f"cos_aoi_{at}"] for at, plane in enumerate(site.planes))
    sun["poa_clear"] = power.transpose(site, ghi, dni, dhi, sun)
    sun["clear_sky_power"] = power.pvwatts(sun["poa_clear"], np.full(n, 20.0), np.full(n, np.nan))[1]
    for values in sun.values():
        values.setflags(write=False)
    return sun


def _position(site: Site, seconds: Floats, pressure: float) -> dict[str, Floats]:
    """At instants in seconds since 1970, degrees."""
    apparent_zenith, zenith, apparent_elevation, elevation, azimuth, _ = pvlib.spa.solar_position_numpy(
        seconds, site.latitude, site.longitude, site.elevation_m, pressure / 100.0, 12.0, 67.0, 0.5667, numthreads=1
    )
    return {
        "zenith": zenith, "apparent_zenith": apparent_zenith, "apparent_elevation": apparent_elevation,
        "sun_elevation": elevation, "sun_azimuth": azimuth,
    }  # fmt: skip


def _sunlit(edges: Floats, elevation: Floats, up: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Middle (seconds) and share of the sunlit part of each interval; of a dark or a bright one its own middle.

    Parameters
    ----------
    edges : shape [n + 1], seconds; between two the elevation is taken as linear.
    elevation : degrees, at the edges.
    up : shape [n], whether the sun is up at the middle: then the share is above one half, else it is not.
    """
    first, last = elevation[:-1], elevation[1:]
    crosses = (first > DAYLIGHT_ELEVATION_DEG) != (last > DAYLIGHT_ELEVATION_DEG)
    crossing = np.where(crosses, (DAYLIGHT_ELEVATION_DEG - first) / np.where(crosses, last - first, 1.0), 0.0)
    rises = crosses & (last > first)
    begin = np.where(rises, crossing, 0.0)
    end = np.where(crosses & ~rises, crossing, 1.0)
    share = np.where(crosses, end - begin, (first > DAYLIGHT_ELEVATION_DEG).astype(np.float64))
    share = np.where(up, np.maximum(share, 0.5001), np.minimum(share, 0.5))
    return edges[:-1] + (begin + end) / 2.0 * (edges[1:] - edges[:-1]), share
