"""Contracts of weather: the sun says how much there can be, the Earth the rest.

The limits of radiation are the "physically possible" ones of the Baseline Surface Radiation Network (Long & Shi 2008,
The Open Atmospheric Science Journal 2), taken at the highest sun of the interval.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pandera

from pvforecast.known import Floats
from pvforecast.validation.contract import holds, split, within

RANGES = {
    "ghi": (0.0, 1_600.0, "W/m², mean over the interval: kJ/m²?"),
    "dni": (0.0, 1_400.0, "W/m²"),
    "dhi": (0.0, 1_200.0, "W/m²"),
    "temp_air": (-70.0, 65.0, "°C: K or °F?"),
    "wind_speed": (0.0, 90.0, "m/s: km/h?"),
    "cloud_cover": (0.0, 1.0, "0-1: percent?"),
    "relative_humidity": (0.0, 1.1, "0-1: percent?"),
    "precipitation": (0.0, 500.0, "mm in the interval"),
}
"""What occurs on Earth, in canonical units."""
_FRACTIONS = ("cloud_cover", "relative_humidity")
_BRIGHT = 0.2  # cosine of the zenith from which a run's hours are judged together
_RUN = ["park_id", "source", "run_at"]


def check_weather(rows: pd.DataFrame, sun: Floats, extra: Floats) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of ``raw/weather`` that can be true, and the others with their `reason`.

    Parameters
    ----------
    sun : cosine of the smallest zenith within each row's interval. Shape [n].
    extra : normal irradiance above the atmosphere, W/m². Shape [n].
    """
    rows = rows.reset_index(drop=True)
    high = pd.DataFrame(limits(sun, extra), index=rows.index)
    seen = pd.DataFrame({name: rows[name].astype(float) for name in RANGES if name in rows})
    checks: dict[str, list[pandera.Check]] = {
        name: [within("out_of_range", low, top, f"{low:g} to {top:g} {unit}")]
        for name, (low, top, unit) in RANGES.items() if name in seen
    }  # fmt: skip
    for name in ("ghi", "dni", "dhi"):
        above = "more than the sun can give: label, zone or unit?"
        checks[name].append(within(f"{name}_above_sun", -np.inf, high[name], above))
    fits = seen.dhi.isna() | seen.ghi.isna() | (seen.dhi <= 1.1 * seen.ghi + 50.0)
    checks["dhi"].append(holds("dhi_above_ghi", fits, "more diffuse light than there is light"))
    wrong = _wrong_runs(rows, seen, high, sun)
    for name, column, hint in (
        ("run_above_sun", "ghi", "the run's bright hours are above the sun: kJ/m² as W/m²?"),
        ("run_in_kilowatts", "ghi", "the run's daylight stays below 2 W/m²: kW/m²?"),
        ("run_in_percent", "cloud_cover", "other hours of the run are in percent"),
    ):
        checks[column].append(holds(name, pd.Series(wrong != name, index=rows.index), hint))
    columns = {name: pandera.Column(float, each, nullable=True) for name, each in checks.items()}
    return split(rows, pandera.DataFrameSchema(columns), seen)


def limits(sun: Floats, extra: Floats) -> dict[str, Floats]:
    """The most of GHI, DNI and DHI that is physically possible, W/m²; shape [n] each."""
    up = np.maximum(sun, 0.0) ** 1.2
    return {"ghi": 1.5 * extra * up + 100.0, "dni": np.where(sun > -0.03, extra, 10.0), "dhi": 0.95 * extra * up + 50.0}


def flagged(rows: pd.DataFrame, sun: Floats) -> pd.DataFrame:
    """What is possible and yet odd: `components_disagree` and `frozen_ghi` by row; for the report alone."""
    ghi, dni, dhi = (rows[name].to_numpy(float) for name in ("ghi", "dni", "dhi"))
    off = np.abs(dni * np.maximum(sun, 0.0) + dhi - ghi)
    with np.errstate(invalid="ignore"):
        disagree = (sun > 0.26) & (off > 50.0) & (off > 0.25 * ghi)
        frozen = np.zeros(len(rows), bool)
        if len(rows) >= 4:
            begins = rows.groupby(_RUN, sort=False).cumcount().to_numpy() < 3
            same = (ghi == np.roll(ghi, 1)) & (ghi == np.roll(ghi, 2)) & (ghi == np.roll(ghi, 3)) & (ghi > 20.0)
            frozen = same & ~begins
    return pd.DataFrame({"components_disagree": disagree, "frozen_ghi": frozen}, index=rows.index)


def _wrong_runs(rows: pd.DataFrame, seen: pd.DataFrame, high: pd.DataFrame, sun: Floats) -> npt.NDArray[np.str_]:
    """Per row the fault of its whole run, or "". Single hours of such a run would pass."""
    bright = (sun > _BRIGHT) & seen.ghi.notna().to_numpy()
    percent = np.any([(seen[name] > 1.1).to_numpy() for name in _FRACTIONS if name in seen], axis=0)
    table = rows[_RUN].assign(
        bright=bright,
        above=bright & (seen.ghi > high.ghi).to_numpy(),
        light=np.where(bright, seen.ghi, 0.0),
        percent=percent,
        hours=1,
    )
    runs = table.groupby(_RUN, sort=False)[["bright", "above", "percent", "hours"]].transform("sum")
    light = table.groupby(_RUN, sort=False).light.transform("max").to_numpy()
    above = (runs.above >= 2) & (runs.above >= 0.2 * runs.bright)
    kilowatts = (runs.bright >= 4) & (light < 2.0) & (light > 0.0)
    percents = (runs.percent >= 2) & (runs.percent >= 0.1 * runs.hours)
    return np.select([above, kilowatts, percents], ["run_above_sun", "run_in_kilowatts", "run_in_percent"], "")
