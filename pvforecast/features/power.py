"""From irradiance to power: pvlib's models over plain arrays. All of shape [n]."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pvlib

from pvforecast.known import Floats
from pvforecast.site import Site

_GAMMA_PDC = -0.004  # 1/K, crystalline silicon
_SYSTEM_EFFICIENCY = 0.86  # PVWatts default losses, 14 %
_DC_AC_RATIO = 1.2
_MAX_POA = 1_800.0


def decompose(ghi: Floats, dni: Floats, dhi: Floats, sun: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """DNI and DHI as delivered, else from GHI (Erbs et al. 1982, Solar Energy 28); NaN without either.

    All are means over whole intervals; the split is that of the sunlit part.
    """
    lit = np.maximum(sun["sunlit_fraction"], 0.05)
    split = pvlib.irradiance.erbs(ghi / lit, sun["zenith"], sun["day_of_year"])
    delivered = ~np.isnan(dni) & ~np.isnan(dhi)
    beam = np.where(np.isnan(ghi), np.nan, split["dni"] * lit)  # erbs says 0 for a low sun, even of an unknown GHI
    return np.where(delivered, dni, beam), np.where(delivered, dhi, split["dhi"] * lit)


def transpose(site: Site, ghi: Floats, dni: Floats, dhi: Floats, sun: Mapping[str, Floats]) -> Floats:
    """Plane-of-array irradiance, W/m², mean over the arrays by share (Hay & Davies 1980; ground albedo 0.2)."""
    anisotropy = np.clip(dni / sun["dni_extra"], 0.0, 1.0)
    zenith = np.maximum(np.cos(np.radians(sun["apparent_zenith"])), 0.01745)
    poa = np.zeros(len(ghi))
    for at, plane in enumerate(site.planes):
        cos_aoi = np.maximum(sun[f"cos_aoi_{at}"], 0.0)
        tilt = np.radians(plane.surface_tilt)
        sky = dhi * (anisotropy * (cos_aoi / zenith) + (1.0 - anisotropy) * 0.5 * (1.0 + np.cos(tilt)))
        ground = ghi * 0.2 * 0.5 * (1.0 - np.cos(tilt))
        poa = poa + plane.share * (dni * cos_aoi + sky + ground)
    return np.where(sun["sunlit_fraction"] > 0.0, np.clip(poa, 0.0, _MAX_POA), np.where(np.isnan(ghi), np.nan, 0.0))


def pvwatts(poa: Floats, temp_air: Floats, wind_speed: Floats) -> tuple[Floats, Floats]:
    """Cell temperature (Faiman 2008; 20 °C and 1 m/s where not delivered) and AC power fraction (PVWatts v5)."""
    air, wind = np.where(np.isnan(temp_air), 20.0, temp_air), np.where(np.isnan(wind_speed), 1.0, wind_speed)
    temp_cell = air + poa / (25.0 + 6.84 * wind)
    dc = poa / 1_000.0 * (1.0 + _GAMMA_PDC * (temp_cell - 25.0)) * _SYSTEM_EFFICIENCY * _DC_AC_RATIO
    return temp_cell, np.clip(dc, 0.0, 1.0)
