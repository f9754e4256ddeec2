"""Weather from a file, forecast or observed: rows of ``raw/weather``."""

from __future__ import annotations

import re
from collections.abc import Hashable
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from pvforecast.errors import InvalidInput
from pvforecast.importing import cells, columns
from pvforecast.importing.cells import Faults, Times
from pvforecast.importing.columns import FREE, Kind
from pvforecast.importing.context import Context
from pvforecast.importing.tables import Chunk
from pvforecast.known import WEATHER_VARIABLES

KIND = Kind(
    "weather",
    ("park_id", "valid_at"),
    ("park_id", "source", "run_at", "available_at", "valid_at", *WEATHER_VARIABLES),
    free=True,
)
HOUR_S, QUARTER_S = 3600, 900
PERIODS = (300, 600, 900, 1800, 3600, 7200, 10800, 21600)
SERIES = ("park_id", "source", "run_at")
TIME = "valid_at"
RANGES = {
    "ghi": (0.0, 1500.0, 5.0), "dni": (0.0, 1200.0, 5.0), "dhi": (0.0, 1000.0, 5.0), "temp_air": (-70.0, 60.0, 0.0),
    "wind_speed": (0.0, 80.0, 0.01), "cloud_cover": (0.0, 1.0, 0.01), "relative_humidity": (0.0, 1.0, 0.05),
    "precipitation": (0.0, 500.0, 0.1),
}  # fmt: skip
"""Lowest, highest, and how far below or above is rounding or a sensor's offset: set to the limit, and counted."""
_HINTS = {
    "cloud_cover": ": percent? (--unit cloud_cover=%)",
    "relative_humidity": ": percent? (--unit relative_humidity=%)",
    "temp_air": ": kelvin or Fahrenheit? (--unit temp_air=K)",
}
MOST = 1e12  # of a free column: features are single precision
MAX_LEAD = np.timedelta64(20, "D")
RUN_HOURS = 48  # of a pseudo-run made of observed weather
_SOURCE = re.compile(r"[a-z0-9][a-z0-9_:.+-]{0,63}")


def check_source(name: str, where: str) -> str:
    """A name that rows can carry as `source`.

    Raises
    ------
    InvalidInput
        it has other characters, or is too long.
    """
    if not _SOURCE.fullmatch(name):
        raise InvalidInput(f"{cells.quoted(name)} is no name of a source", field=where, hint="a-z, 0-9 and _ : . + -")
    return name


def check_runs(names: list[str], context: Context, where: str) -> None:
    """Whether the file says when its runs were made and could be had, or what was stated instead.

    Raises
    ------
    InvalidInput
        neither does.
    """
    if context.observed:
        if "run_at" in names:
            raise InvalidInput("the file has run_at: it is a forecast", field="--observed", hint="leave --observed out")
        return
    if "run_at" not in names:
        raise InvalidInput(
            "column run_at is missing: nothing says when this was forecast",
            field=where,
            hint="is it measured weather? --observed",
        )
    if "available_at" not in names and context.mapping.delay is None:
        raise InvalidInput(
            "column available_at is missing: nothing says when a run could be had",
            field=where,
            hint="state how long after run_at: --delay 6h",
        )


def read(chunk: Chunk, context: Context, where: str) -> tuple[pd.DataFrame, Faults]:
    """Rows with labels as instants and variables in canonical units; faults by row. Shape [n] each."""
    given, mapping, size = columns.ours(chunk, KIND, context.mapping, where), context.mapping, len(chunk)
    check_runs(list(given), context, where)
    faults = Faults(size)
    missing = cells.MISSING + mapping.missing
    park = context.park_ids(columns.texts(given, "park_id", size, mapping, ""), faults)
    source = columns.texts(given, "source", size, mapping, context.source)
    names = [_observed(name) if context.observed else name for name in source.categories]
    odd = np.array([*(not _SOURCE.fullmatch(name) for name in names), False])[source.codes]
    faults.add(
        odd,
        "source",
        lambda i: f"{cells.quoted(names[source.codes[i]])} is no name of a source (a-z, 0-9 and _ : . + -)",
    )
    source = source.rename_categories(names)
    times = {
        name: cells.instants(given[name], name, faults, context.zone, mapping.time_format, missing)
        for name in ("run_at", "available_at", "valid_at")
        if name in given
    }
    for name in ("run_at", "available_at"):
        if name in times:
            faults.add(times[name].twice, name, "occurs twice that night (write the UTC offset)")
    faults.add(np.isnat(times["valid_at"].utc), "valid_at", "is missing")
    nat = np.full(size, np.datetime64("NaT"), cells.MICROSECONDS)
    run_at = times["run_at"].utc if "run_at" in times else nat
    series: list[Hashable] = []
    if times["valid_at"].twice.any():
        series = list(zip(park.codes, source.astype(object), run_at.astype(np.int64), strict=True))
    frame = pd.DataFrame(
        {
            "park_id": park,
            "source": source,
            "run_at": run_at,
            "available_at": _available(times["available_at"].utc if "available_at" in times else nat, run_at, context),
            "valid_at": context.doubles.resolve(times["valid_at"], series, "valid_at", faults),
            "number": chunk.numbers,
        }
    )
    if not context.observed:
        _check_runs(frame, context, faults)
    free = sorted(name for name in given if FREE.fullmatch(name))
    for name in (*WEATHER_VARIABLES, *free):
        frame[name] = columns.values(given, name, size, mapping, faults)
        if name not in RANGES:
            beyond = np.abs(frame[name].to_numpy()) > MOST
            faults.add(beyond, name, f"lies outside -{MOST:g} to {MOST:g}")
        else:
            frame[name] = _ranged(frame[name].to_numpy(), name, faults)
    return frame, faults


def _available(available_at: Times, run_at: Times, context: Context) -> Times:
    delay = context.delay()
    if delay is None:
        return available_at
    filled: Times = np.where(np.isnat(available_at), run_at + np.timedelta64(delay, "us"), available_at)
    return filled


def _check_runs(frame: pd.DataFrame, context: Context, faults: Faults) -> None:
    run_at, available_at, valid_at = (frame[name].to_numpy() for name in ("run_at", "available_at", "valid_at"))
    faults.add(np.isnat(run_at), "run_at", "is missing")
    faults.add(np.isnat(available_at), "available_at", "is missing, and no --delay is stated")
    faults.add(available_at < run_at, "available_at", "lies before run_at")
    faults.add(run_at > context.now + np.timedelta64(1, "D"), "run_at", "lies in the future")
    lead = valid_at - run_at
    faults.add(lead < np.timedelta64(-1, "D"), "valid_at", "lies more than a day before run_at")
    faults.add(lead > MAX_LEAD, "valid_at", "lies more than 20 days after run_at")


def _ranged(values: npt.NDArray[np.float64], name: str, faults: Faults) -> npt.NDArray[np.float64]:
    low, high, slack = RANGES[name]
    beyond = (values < low - slack) | (values > high + slack)
    faults.add(beyond, name, lambda i: f"{values[i]:g} lies outside {low:g} to {high:g}{_HINTS.get(name, '')}")
    # Only tiny steps outside are left: a packed 0 that became -0.0001, a pyranometer's night.
    return np.where(beyond, values, np.clip(values, low, high))


def _observed(name: str) -> str:
    return name if "observed" in name else f"{name}_observed"


def empty(frame: pd.DataFrame) -> np.ndarray:
    """Rows without any value."""
    nothing: np.ndarray = frame[_variables(frame)].isna().all(axis=1).to_numpy()
    return nothing


def _variables(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if name in WEATHER_VARIABLES or name.startswith("x_")]


class Shaper:
    """Rows of a file, in any step, to hours (and quarter hours where a park has them), chunk by chunk.

    Parameters
    ----------
    period_s : (park, source) -> length of its intervals, one of `PERIODS`.
    """

    def __init__(self, context: Context, period_s: dict[tuple[str, str], int]) -> None:
        self._context, self._period = context, period_s
        self._rest: dict[int, pd.DataFrame] = {}

    def add(self, frame: pd.DataFrame, faults: Faults) -> pd.DataFrame:
        """Rows that are whole, as ``raw/weather`` has them; parts of an hour wait for the next chunk."""
        parks, sources = frame.park_id.cat, frame.source.cat
        table = np.array(
            [[self._period.get((p, s), 0) for s in sources.categories] for p in parks.categories], np.int64
        )
        table = table.reshape(len(parks.categories), len(sources.categories))
        seconds = np.pad(table, (0, 1))[parks.codes.to_numpy(), sources.codes.to_numpy()]
        part = {"start": 0.0, "middle": 0.5, "end": 1.0}[self._context.mapping.label]
        start = frame.valid_at.to_numpy() - (seconds * part * 1e6).astype("timedelta64[us]")
        step = np.where(seconds > HOUR_S, HOUR_S, np.maximum(seconds, 1))
        off = (start.astype(np.int64) % (step * 1_000_000)) != 0
        faults.add(
            off, "valid_at", lambda i: f"{start[i]} is no start of a step of {step[i]} s: --label middle or end?"
        )
        frame = frame.assign(valid_at=start)[~faults.bad]
        seconds = seconds[~faults.bad]
        done = [self._shape(frame[seconds == period], int(period)) for period in np.unique(seconds)]
        return self._rows(done)

    def end(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What waited and holds three quarters of an hour, and the rows of hours that hold less."""
        whole, short = [], []
        for period, rest in self._rest.items():
            hours = rest.groupby(_HOUR_KEY, observed=True, sort=False)["number"].transform("size")
            enough = hours.to_numpy() * period >= 0.75 * HOUR_S
            whole.append(_means(rest[enough]))
            short.append(rest[~enough])
        self._rest = {}
        return self._rows(whole), pd.concat(short) if short else pd.DataFrame()

    def _shape(self, frame: pd.DataFrame, period: int) -> pd.DataFrame:
        if period == HOUR_S:
            return frame.assign(period_s=np.int32(HOUR_S))
        if period > HOUR_S:
            return _spread(frame, period // HOUR_S)
        frame = frame.assign(hour=frame.valid_at.to_numpy().astype("datetime64[h]").astype(cells.MICROSECONDS))
        fresh = frame
        frame = pd.concat([self._rest.pop(period), frame]) if period in self._rest else frame
        count = frame.groupby(_HOUR_KEY, observed=True, sort=False)["number"].transform("size").to_numpy()
        whole = count * period >= HOUR_S
        self._rest[period] = frame[~whole]
        shaped = [_means(frame[whole])]
        fine = [name for name, facts in self._context.parks.items() if facts.quarter_hours]
        if period == QUARTER_S and fine:
            quarters = fresh[fresh.park_id.isin(fine).to_numpy()].drop(columns="hour")
            shaped.append(quarters.assign(period_s=np.int32(QUARTER_S)))
        return pd.concat(shaped)

    def _rows(self, shaped: list[pd.DataFrame]) -> pd.DataFrame:
        shaped = [rows for rows in shaped if len(rows)]
        if not shaped:
            return pd.DataFrame()
        frame = pd.concat(shaped) if len(shaped) > 1 else shaped[0]
        frame = frame.assign(park_id=frame.park_id.astype(object), source=frame.source.astype(object))
        return pseudo_runs(frame, self._context) if self._context.observed else frame


_HOUR_KEY = ["park_id", "source", "run_at", "hour"]


def _means(frame: pd.DataFrame) -> pd.DataFrame:
    """Hourly means, sums of precipitation."""
    if frame.empty:
        return frame.drop(columns="hour").assign(period_s=np.int32(HOUR_S))
    names = _variables(frame)
    groups = frame.assign(run_at=frame.run_at.fillna(pd.Timestamp(0))).groupby(_HOUR_KEY, observed=True, sort=False)
    hours = groups[names].mean()
    hours["precipitation"] = groups["precipitation"].sum(min_count=1)
    hours["available_at"] = groups["available_at"].max()
    hours["number"] = groups["number"].first()
    hours = hours.reset_index().rename(columns={"hour": "valid_at"})
    return hours.assign(period_s=np.int32(HOUR_S))


def _spread(frame: pd.DataFrame, hours: int) -> pd.DataFrame:
    """Each hour of a longer interval gets its mean, and its share of the precipitation."""
    rows = frame.loc[frame.index.repeat(hours)]
    ahead = np.tile(np.arange(hours), len(frame)).astype("timedelta64[h]")
    return rows.assign(
        valid_at=rows.valid_at.to_numpy() + ahead,
        precipitation=rows.precipitation / hours,
        period_s=np.int32(HOUR_S),
    )


def pseudo_runs(frame: pd.DataFrame, context: Context) -> pd.DataFrame:
    """Observed weather as runs: one each local midnight, available at once, leads 0 to 47 h. Optimistic, so named."""
    runs = []
    for park_id, rows in frame.groupby("park_id", sort=False):
        zone = context.parks[str(park_id)].zone
        local = pd.DatetimeIndex(rows.valid_at).tz_localize("UTC").tz_convert(zone)
        days = local.tz_localize(None).to_numpy().astype("datetime64[D]")
        distinct, at = np.unique(days, return_inverse=True)
        for back in (0, 1):
            midnights = [_midnight(day.item() - timedelta(days=back), zone) for day in distinct]
            run_at = np.array(midnights, dtype=cells.MICROSECONDS)[at]
            run = rows.assign(run_at=run_at, available_at=run_at)
            runs.append(run[rows.valid_at.to_numpy() - run_at < np.timedelta64(RUN_HOURS, "h")])
    return pd.concat(runs)


def _midnight(day: date, zone: object) -> np.datetime64:
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)  # type: ignore[arg-type]
    return np.datetime64(midnight.astimezone(UTC).replace(tzinfo=None), "us")


def raw(frame: pd.DataFrame) -> pd.DataFrame:
    """As ``raw/weather`` stores them: UTC, free columns in one map."""
    times = {name: pd.DatetimeIndex(frame[name]).tz_localize("UTC") for name in ("run_at", "available_at", "valid_at")}
    rows = frame[["park_id", "source", "period_s", *WEATHER_VARIABLES]].reset_index(drop=True).assign(**times)
    free = sorted(name for name in frame if name.startswith("x_"))
    rows["extra"] = pd.Series(_maps(frame[free]), dtype=pd.ArrowDtype(_MAP)) if free else None
    return rows


_MAP = pa.map_(pa.string(), pa.float64())


def _maps(frame: pd.DataFrame) -> pa.Array:
    """Rows of numbers as maps name -> number, without what is missing."""
    values = frame.to_numpy(np.float64)
    present = ~np.isnan(values)
    offsets = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int32)
    at = np.broadcast_to(np.arange(values.shape[1], dtype=np.int32), values.shape)[present]
    names = pa.DictionaryArray.from_arrays(pa.array(at), pa.array(list(frame), pa.string())).cast(pa.string())
    return pa.MapArray.from_arrays(pa.array(offsets), names, pa.array(values[present]))
