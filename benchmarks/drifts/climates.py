"""Real skies to draw simulated years from: hourly clear-sky index and temperature of four climates.

Golden (semi-arid, the weather of system 50), and three typical years that pvlib ships: Greensboro (humid), Miami
(tropical, TMY2) and Sand Point in Alaska (maritime, dim).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pvlib

Floats = npt.NDArray[np.float64]

_DATA = Path(pvlib.__file__).parent / "data"
_LOW_SUN = 60.0  # W/m² of clear sky, below which the index of the brighter hours nearby is taken


@dataclass(frozen=True)
class Climate:
    """`index`, `air`: shape [days, 24], hours of standard time; the first day is day `first` (0-364) of the year."""

    name: str
    latitude: float
    longitude: float
    elevation_m: float
    zone_hours: int
    first: int
    index: Floats
    air: Floats


def load(golden: Path) -> tuple[Climate, ...]:
    """All four; `golden` is what `benchmarks.drifts.real` wrote of system 50."""
    with np.load(golden) as kept:
        hours, ghi, air = kept["hours"] - np.timedelta64(7, "h"), kept["ghi"], kept["temp_air"]
    begin = int(np.argmax(hours == hours.astype("datetime64[D]")))
    first = hours[begin]
    sample = _climate("golden", (39.74, -105.18, 1829.0, -7), first, np.nan_to_num(ghi[begin:]), air[begin:])
    year = np.datetime64("2001-01-01", "s")
    humid, _ = pvlib.iotools.read_tmy3(_DATA / "723170TYA.CSV", coerce_year=2001, map_variables=True)
    dim, _ = pvlib.iotools.read_tmy3(_DATA / "703165TY.csv", coerce_year=2001, map_variables=True)
    warm, _ = pvlib.iotools.read_tmy2(_DATA / "12839.tm2")
    return (
        sample,
        _climate("greensboro", (36.1, -79.95, 273.0, -5), year, humid["ghi"], humid["temp_air"]),
        _climate("miami", (25.8, -80.27, 2.0, -5), year, warm["GHI"], warm["DryBulb"] / 10.0),
        _climate("sand-point", (55.32, -160.52, 7.0, -11), year, dim["ghi"], dim["temp_air"], zone_of_data=-9),
    )


def clear_sky(latitude: float, longitude: float, elevation_m: float, hours: npt.NDArray[np.datetime64]) -> Floats:
    """GHI of a clear sky (Haurwitz 1945, by zenith alone) at the middle of each UTC hour."""
    middle = pd.DatetimeIndex(hours + np.timedelta64(1800, "s"), tz="UTC")
    sun = pvlib.solarposition.get_solarposition(middle, latitude, longitude, altitude=elevation_m, method="nrel_numpy")
    found: Floats = pvlib.clearsky.haurwitz(sun["apparent_zenith"])["ghi"].to_numpy()
    return found


def _climate(
    name: str,
    place: tuple[float, float, float, int],
    first: np.datetime64,
    ghi: npt.ArrayLike,
    air: npt.ArrayLike,
    zone_of_data: int | None = None,
) -> Climate:
    latitude, longitude, elevation_m, zone = place
    days = len(np.asarray(ghi)) // 24
    local = first.astype("datetime64[s]") + np.arange(days * 24) * np.timedelta64(3600, "s")
    lag = zone if zone_of_data is None else zone_of_data
    clear = clear_sky(latitude, longitude, elevation_m, local - lag * np.timedelta64(3600, "s"))
    bright = clear > _LOW_SUN
    at = np.arange(len(clear))
    seen = np.asarray(ghi, float)[: len(clear)]
    index = np.interp(at, at[bright], np.clip(seen[bright] / clear[bright], 0.02, 1.15))
    # The sky of the clearest hours is called 1: turbidity and height of the place are the simulator's own.
    index = np.clip(index / np.quantile(index[bright], 0.97), 0.02, 1.0)
    warm = np.interp(at, at[~np.isnan(np.asarray(air, float)[: len(at)])],
                     np.asarray(air, float)[: len(at)][~np.isnan(np.asarray(air, float)[: len(at)])])  # fmt: skip
    turn = zone - lag
    index, warm = np.roll(index, turn), np.roll(warm, turn)
    of_year = int((first.astype("datetime64[D]") - first.astype("datetime64[Y]").astype("datetime64[D]")).astype(int))
    shape = (days, 24)
    return Climate(name, latitude, longitude, elevation_m, zone, of_year, index.reshape(shape), warm.reshape(shape))
