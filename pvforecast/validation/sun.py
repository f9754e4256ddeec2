"""The highest sun of an interval, to a third of a degree: enough to call a value impossible, and fast for any fleet.

Declination and equation of time after Spencer (1971), as in pvlib. The features use NREL's SPA instead.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pvlib

from pvforecast.known import Floats


def highest(latitude: Floats, longitude: Floats, begin: pd.DatetimeIndex, period_s: Floats) -> Floats:
    """Cosine of the smallest zenith within [begin, begin + period_s); negative while the sun is down. Shape [n].

    Parameters
    ----------
    latitude, longitude : degrees, shape [n].
    begin : UTC, shape [n].
    """
    day = begin.dayofyear.to_numpy()
    declination = pvlib.solarposition.declination_spencer71(day)
    minutes = (begin.tz_convert(None) - begin.tz_convert(None).normalize()).to_numpy() / np.timedelta64(60, "s")
    solar = minutes / 4.0 - 180.0 + longitude + pvlib.solarposition.equation_of_time_spencer71(day) / 4.0
    first = (solar + 180.0) % 360.0 - 180.0  # hour angle at the start, degrees
    last = first + period_s / 240.0
    hour_angle = np.where((first <= 0.0) & (last >= 0.0), 0.0, np.minimum(np.abs(first), np.abs(last)))
    hour_angle = np.where(last > 180.0, np.minimum(np.abs(first), 360.0 - last), hour_angle)
    phi = np.radians(latitude)
    cosine: npt.NDArray[np.float64] = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(
        np.radians(hour_angle)
    )
    return cosine


def extraterrestrial(begin: pd.DatetimeIndex) -> Floats:
    """Normal irradiance above the atmosphere, W/m² (Spencer 1971). Shape [n]."""
    normal: npt.NDArray[np.float64] = np.asarray(pvlib.irradiance.get_extra_radiation(begin.dayofyear.to_numpy()))
    return normal
