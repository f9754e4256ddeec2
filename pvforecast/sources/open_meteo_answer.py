"""Open-Meteo's answers to canonical rows, strictly: what is not exactly as documented is an error, not a guess.

At label t radiation and precipitation stand for the interval that ENDS at t, all else for the instant t. A row of ours
is the interval that STARTS at s: radiation and precipitation are those of label s + step, an instant variable is the
mean of the instants s and s + step (a trapezoid). The last label therefore only ends an interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd

from pvforecast.errors import DataError
from pvforecast.known import WEATHER_VARIABLES, Floats, Times
from pvforecast.sources.open_meteo_models import Variable

STEPS = {"hourly": 3600, "minutely_15": 900}
_FAR_DEG = 1.0  # grids are up to half a degree wide, and a point near water moves to the next land
_NUMBERS = frozenset((int, float, type(None)))


@dataclass(frozen=True)
class Series:
    """One section of one location's answer.

    Attributes
    ----------
    labels : shape [n + 1], UTC, `step_s` apart.
    values : name as asked -> shape [n + 1] in the API's unit, NaN where null.
    """

    step_s: int
    labels: Times
    values: Mapping[str, Floats]


def read(
    body: bytes, places: Sequence[tuple[float, float]], sections: Mapping[str, Mapping[str, Variable]]
) -> list[dict[str, Series]]:
    """The sections of each location, in the order asked for.

    Parameters
    ----------
    places : latitude and longitude of each location asked for.
    sections : ``hourly`` or ``minutely_15`` -> name as asked -> variable.

    Raises
    ------
    DataError
        the body is broken, or not an answer to what was asked.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DataError(f"the answer is no JSON: {error}", field="body") from error
    if isinstance(document, dict) and document.get("error"):
        raise DataError(f"an error with status 200: {str(document.get('reason'))[:200]}", field="body")
    found = document if isinstance(document, list) else [document]
    if len(found) != len(places):
        raise DataError(f"{len(found)} locations for {len(places)} asked", field="body")
    return [_location(one, place, sections, f"[{i}]") for i, (one, place) in enumerate(zip(found, places, strict=True))]


def frame(series: Series, variables: Mapping[str, Variable]) -> pd.DataFrame:
    """Rows of ``raw/weather`` without park and run: interval starts, canonical units.

    Intervals of which nothing is known (nulls at the horizon's end) are left out.

    Parameters
    ----------
    variables : name in `series` -> what it is.
    """
    columns = {variable.column: interval(series, name, variable) for name, variable in variables.items()}
    start = series.labels[:-1]
    known = ~np.all([np.isnan(values) for values in columns.values()], axis=0)
    rows = pd.DataFrame({"valid_at": pd.DatetimeIndex(start[known]).tz_localize("UTC")})
    rows["period_s"] = np.int32(series.step_s)
    for name in WEATHER_VARIABLES:
        rows[name] = columns[name][known] if name in columns else np.nan
    rows["extra"] = extra(columns, known)
    return rows


def interval(series: Series, name: str, variable: Variable) -> Floats:
    """A variable over the intervals between the labels, in our unit. Shape [n]."""
    values = series.values[name]
    over = (values[:-1] + values[1:]) / 2.0 if variable.kind == "instant" else values[1:]
    result: Floats = over * variable.factor
    return result


def extra(columns: Mapping[str, Floats], rows: npt.NDArray[np.bool_]) -> list[list[tuple[str, float]] | None]:
    """The free columns among these as values of a map column, of some rows; without an entry where one is NaN."""
    names = sorted(name for name in columns if name.startswith("x_"))
    if not names:
        return [None] * int(rows.sum())
    table = zip(*(columns[name][rows].tolist() for name in names), strict=True)
    return [
        [(name, value) for name, value in zip(names, row, strict=True) if not math.isnan(value)] or None
        for row in table
    ]


def _location(
    one: Any, place: tuple[float, float], sections: Mapping[str, Mapping[str, Variable]], where: str
) -> dict[str, Series]:
    if not isinstance(one, dict):
        raise DataError("a location is no object", field=where)
    for name, asked in zip(("latitude", "longitude"), place, strict=True):
        given = one.get(name)
        if not isinstance(given, int | float) or not _apart(float(given), asked) <= _FAR_DEG:
            raise DataError(f"{given!r} for {asked:g} asked", field=f"{where}.{name}")
    if one.get("utc_offset_seconds") != 0:
        raise DataError("times are not UTC", field=f"{where}.utc_offset_seconds")
    return {
        section: _section(one.get(section), one.get(f"{section}_units"), section, variables, f"{where}.{section}")
        for section, variables in sections.items()
    }


def _section(found: Any, units: Any, section: str, variables: Mapping[str, Variable], where: str) -> Series:
    if not isinstance(found, dict) or not isinstance(units, dict):
        raise DataError("is missing", field=where)
    step = STEPS[section]
    if units.get("time") != "unixtime":
        raise DataError(f"times are {units.get('time')!r}, not unixtime", field=f"{where}.time")
    times = found.get("time")
    if not isinstance(times, list) or len(times) < 2 or {*map(type, times)} != {int}:
        raise DataError("is no list of at least two whole numbers", field=f"{where}.time")
    labels = np.array(times, dtype=np.int64)
    if labels[0] % step or np.any(np.diff(labels) != step):
        raise DataError(f"labels are not {step} s apart", field=f"{where}.time")
    values = {}
    for name, variable in variables.items():
        column, unit = found.get(name), units.get(name)
        if not isinstance(column, list) or len(column) != len(labels) or not _NUMBERS.issuperset(map(type, column)):
            raise DataError(f"is no list of {len(labels)} numbers or nulls", field=f"{where}.{name}")
        series = np.array(column, dtype=np.float64)
        if unit != variable.unit and not (unit == "undefined" and np.all(np.isnan(series))):
            raise DataError(f"unit {unit!r}, not {variable.unit!r}", field=f"{where}.{name}")
        values[name] = series
    return Series(step, labels.astype("datetime64[s]"), values)


def _apart(a: float, b: float) -> float:
    """Degrees between two angles, across the date line too."""
    return abs((a - b + 180.0) % 360.0 - 180.0)
