"""Weather from any HTTP service that answers with JSON: a small mapping says where what stands.

One request a park: `url` with ``{latitude}``, ``{longitude}``, ``{since}`` and ``{until}`` filled in. The answer is one
run: a list of objects (`rows`), one an interval, or, where `columns` is set, an object of equally long lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as Names
from collections.abc import Sequence, Set
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

import numpy as np
import orjson
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pvforecast.errors import DataError, InvalidInput, PvForecastError
from pvforecast.known import WEATHER_VARIABLES, Floats
from pvforecast.parks import Park
from pvforecast.sources.base import Delivery, RunKey
from pvforecast.sources.fetching import Fetcher, Patience
from pvforecast.sources.open_meteo_answer import extra

# Unit -> factor and offset to ours. An energy is that of the interval, J/cm2 as the German weather service gives it.
_UNITS: dict[str, tuple[float, float]] = {
    "": (1.0, 0.0), "W/m2": (1.0, 0.0), "kW/m2": (1000.0, 0.0), "kJ/m2": (1000.0, 0.0), "J/cm2": (10_000.0, 0.0),
    "Wh/m2": (3600.0, 0.0), "C": (1.0, 0.0), "K": (1.0, -273.15), "F": (5.0 / 9.0, -160.0 / 9.0),
    "m/s": (1.0, 0.0), "km/h": (1.0 / 3.6, 0.0), "kn": (0.514444, 0.0), "%": (0.01, 0.0), "octa": (0.125, 0.0),
    "1": (1.0, 0.0), "mm": (1.0, 0.0), "m": (1000.0, 0.0),
}  # fmt: skip
_ENERGIES = ("kJ/m2", "J/cm2", "Wh/m2")  # of the interval: divided by its seconds they are a mean power
_FREE = re.compile(r"x_[a-z0-9_]{1,60}")
_PLACEHOLDERS = ("latitude", "longitude", "since", "until")


class Value(BaseModel):
    """Where one variable stands.

    Attributes
    ----------
    path : keys from the row (or from the object of lists), by dots.
    unit : of the answer.
    instant : the value is that of its label's instant; a row of ours is then the mean of two neighbours.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(min_length=1)
    unit: str = ""
    instant: bool = False

    @field_validator("unit")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in _UNITS:
            raise ValueError(f"unknown unit {value!r}, known: {', '.join(filter(None, _UNITS))}")
        return value


class Mapping(BaseModel):
    """Where what stands in the answer of a service.

    Attributes
    ----------
    name : of the source, as rows carry it.
    rows : path to the list of rows, or with `columns` to the object of lists; empty: the whole answer.
    time : path to a row's time; ISO 8601 with offset, or seconds since the epoch.
    label : which end of its interval a time names.
    run_at : path from the top to the start of the run; empty: the hour before which the answer came.
    available_at : path to when the run could be had; empty: `run_at` + `delay_minutes`, or when the answer came where
        `run_at` is empty too.
    key_header : header for the setting PVF_WEATHER_API_KEY.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_:-]{0,62}$")
    url: str = Field(pattern=r"^https?://")
    rows: str = ""
    columns: bool = False
    time: str = Field(min_length=1)
    period_s: Literal[900, 3600] = 3600
    label: Literal["start", "end"]
    run_at: str = ""
    available_at: str = ""
    delay_minutes: float = Field(default=0.0, ge=0, le=2880)
    values: Names[str, Value] = Field(min_length=1)
    key_header: str = ""
    attribution: str = ""

    @field_validator("url")
    @classmethod
    def _fillable(cls, value: str) -> str:
        try:
            value.format(**dict.fromkeys(_PLACEHOLDERS, "0"))
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"placeholder {error}; known: {', '.join(_PLACEHOLDERS)}") from error
        return value

    @model_validator(mode="after")
    def _canonical(self) -> Mapping:
        wrong = [name for name in self.values if name not in WEATHER_VARIABLES and not _FREE.fullmatch(name)]
        if wrong:
            raise ValueError(f"values.{wrong[0]}: no variable of ours: {', '.join(WEATHER_VARIABLES)}, or x_*")
        return self


def mapping(options: Names[str, Any]) -> Mapping:
    """Of plain values.

    Raises
    ------
    InvalidInput
        names the field that is wrong.
    """
    try:
        return Mapping.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, ("weather_options", *first["loc"])))
        raise InvalidInput(first["msg"], field=where, hint="see docs/sources.md") from error


class JsonWeather:
    """The source; see the module."""

    def __init__(self, mapping: Mapping, *, api_key: str = "", patience: Patience | None = None) -> None:
        self._mapping = mapping
        self._headers = {mapping.key_header: api_key} if mapping.key_header and api_key else {}
        self._patience = patience or Patience()

    @property
    def name(self) -> str:
        return self._mapping.name

    @property
    def attribution(self) -> str:
        return self._mapping.attribution

    def weather(
        self, parks: Sequence[Park], since: datetime, until: datetime, stored: Set[RunKey] = frozenset()
    ) -> Delivery:
        """Rows of the run that the service has now; a park whose answer is broken or late is named in `failed`."""
        frames, failed, notes = [], {}, []
        with Fetcher(self.name, self._patience, headers=self._headers) as fetcher:
            for park in parks:
                asked_at = min(datetime.now(UTC), until)
                places = {
                    "latitude": f"{park.latitude:.4f}", "longitude": f"{park.longitude:.4f}",
                    "since": _text(since), "until": _text(until),
                }  # fmt: skip
                try:
                    url = self._mapping.url.format(**places)
                    rows = fetcher.get(url, {}, partial(read, self._mapping, asked_at=asked_at))
                except PvForecastError as error:
                    failed[park.id] = f"{self.name}: {error}"
                    continue
                run_at, available_at = rows.run_at.iloc[0], rows.available_at.iloc[0]
                if not pd.Timestamp(since) <= available_at <= pd.Timestamp(until):
                    notes.append(f"{park.id}: the run of {run_at} counts from {available_at} on: not loaded")
                elif (park.id, self.name, run_at) not in stored:
                    frames.append(rows.assign(park_id=park.id, source=self.name))
        rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=_COLUMNS)
        return Delivery(rows[_COLUMNS], failed, tuple(notes))


_COLUMNS = [
    "park_id", "source", "run_at", "available_at", "valid_at", "period_s", *WEATHER_VARIABLES, "extra",
]  # fmt: skip


def read(mapping: Mapping, body: bytes, asked_at: datetime) -> pd.DataFrame:
    """Rows of ``raw/weather``, less park and source, of one answer.

    Parameters
    ----------
    asked_at : when the question was asked, UTC.

    Raises
    ------
    DataError
        the answer is not as the mapping says.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise DataError(f"the answer is no JSON: {error}", field="body") from error
    found = _at(document, mapping.rows, "") if mapping.rows else document
    times = [_instant(value, mapping.time) for value in _column(mapping, found, mapping.time)]
    labels = np.array([int(at.timestamp()) for at in times], dtype=np.int64)
    step = mapping.period_s
    if len(labels) < 2 or np.any(np.diff(labels) != step) or labels[0] % step:
        raise DataError(f"fewer than two rows, or not {step} s apart", field=mapping.time)
    columns = {name: _values(mapping, found, value, len(labels)) for name, value in mapping.values.items()}
    starts, columns = _intervals(mapping, labels, columns)
    run_at = _instant(_at(document, mapping.run_at, ""), mapping.run_at) if mapping.run_at else None
    if mapping.available_at:
        available_at = _instant(_at(document, mapping.available_at, ""), mapping.available_at)
    else:
        available_at = asked_at if run_at is None else run_at + timedelta(minutes=mapping.delay_minutes)
    if run_at is None:
        run_at = asked_at.replace(minute=0, second=0, microsecond=0)
    known = ~np.all([np.isnan(values) for values in columns.values()], axis=0)
    rows = pd.DataFrame({"valid_at": pd.DatetimeIndex(starts[known].astype("datetime64[s]")).tz_localize("UTC")})
    if rows.empty:
        raise DataError("every value is null", field=mapping.rows or "body")
    for name in WEATHER_VARIABLES:
        rows[name] = columns[name][known] if name in columns else np.nan
    rows["extra"] = extra(columns, known)
    return rows.assign(period_s=np.int32(step), run_at=pd.Timestamp(run_at), available_at=pd.Timestamp(available_at))


def _intervals(
    mapping: Mapping, labels: np.ndarray, columns: Names[str, Floats]
) -> tuple[np.ndarray, dict[str, Floats]]:
    """Interval starts and what holds over each. Where a variable is instantaneous, the last label only ends one."""
    ended = mapping.label == "end"
    if not any(value.instant for value in mapping.values.values()):
        return labels - (mapping.period_s if ended else 0), dict(columns)
    over = {}
    for name, values in columns.items():
        if mapping.values[name].instant:
            over[name] = (values[:-1] + values[1:]) / 2.0
        else:
            over[name] = values[1:] if ended else values[:-1]
    return labels[:-1], over


def _values(mapping: Mapping, found: Any, value: Value, length: int) -> Floats:
    column = _column(mapping, found, value.path)
    if len(column) != length or not {float, int, type(None)}.issuperset(map(type, column)):
        raise DataError(f"is no list of {length} numbers or nulls", field=value.path)
    factor, offset = _UNITS[value.unit]
    seconds = mapping.period_s if value.unit in _ENERGIES else 1
    values: Floats = np.array(column, dtype=np.float64) * (factor / seconds) + offset
    return values


def _column(mapping: Mapping, found: Any, path: str) -> list[Any]:
    column = (
        _at(found, path, "") if mapping.columns else [_at(row, path, f"[{i}].") for i, row in enumerate(_list(found))]
    )
    return _list(column, path)


def _list(found: Any, path: str = "rows") -> list[Any]:
    if not isinstance(found, list):
        raise DataError("is no list", field=path)
    return found


def _at(document: Any, path: str, where: str) -> Any:
    for key in path.split("."):
        if not isinstance(document, dict) or key not in document:
            raise DataError("is missing", field=f"{where}{path}")
        document = document[key]
    return document


def _instant(value: Any, path: str) -> datetime:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        at = datetime.fromisoformat(value)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise DataError(f"{value!r} is no instant", field=path) from error
    if at.tzinfo is None:
        raise DataError(f"{value!r} has no UTC offset", field=path)
    return at.astimezone(UTC)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
